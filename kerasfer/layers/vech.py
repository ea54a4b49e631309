import keras

from kerasfer import linalg
from kerasfer.layers.inputs import as_float


@keras.saving.register_keras_serializable(package="kerasfer")
class Vech(keras.layers.Layer):
    """Flattens the upper triangles of symmetric matrices, with off-diagonal entries times √2.

    The factor preserves lengths and angles, ‖Vech(X)‖₂ = ‖X‖_F, so that distances between vectors
    equal those between matrices.

    Input shape:
        `(..., n, n)`, symmetric.

    Output shape:
        `(..., n(n+1)/2)`.

    Example:
        >>> tuple(Vech()(keras.ops.ones((8, 24, 24))).shape)
        (8, 300)
    """

    def build(self, input_shape):
        linalg.check_square(input_shape)

    def call(self, inputs):
        return linalg.vech(as_float(inputs, self))

    def compute_output_shape(self, input_shape):
        size = input_shape[-1]
        return (*input_shape[:-2], size * (size + 1) // 2)


@keras.saving.register_keras_serializable(package="kerasfer")
class Unvech(keras.layers.Layer):
    """Rebuilds symmetric matrices from the vectors that `Vech` returns.

    Input shape:
        `(..., n(n+1)/2)`.

    Output shape:
        `(..., n, n)`, symmetric.

    Example:
        >>> tuple(Unvech()(keras.ops.ones((8, 300))).shape)
        (8, 24, 24)
    """

    def build(self, input_shape):
        linalg.vech_side(input_shape[-1])

    def call(self, inputs):
        return linalg.unvech(as_float(inputs, self))

    def compute_output_shape(self, input_shape):
        size = linalg.vech_side(input_shape[-1])
        return (*input_shape[:-1], size, size)
