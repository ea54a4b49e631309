import keras

from kerasfer import linalg


@keras.saving.register_keras_serializable(package="kerasfer")
class Vech(keras.layers.Layer):
    """Lays symmetric matrices out as vectors: the upper triangle, with √2 off the diagonal.

    The factor keeps lengths, ‖Vech(X)‖₂ = ‖X‖_F, so that a dense layer sees the matrices'
    own geometry.

    Input shape:
        `(..., n, n)`, symmetric.

    Output shape:
        `(..., n(n+1)/2)`.

    Example:
        >>> Vech()(LogEig()(spd)).shape  # spd: (8, 24, 24)
        (8, 300)
    """

    def build(self, input_shape):
        linalg.check_square(input_shape)

    def call(self, inputs):
        return linalg.vech(inputs)

    def compute_output_shape(self, input_shape):
        size = input_shape[-1]
        return (*input_shape[:-2], size * (size + 1) // 2)


@keras.saving.register_keras_serializable(package="kerasfer")
class Unvech(keras.layers.Layer):
    """Rebuilds the symmetric matrices that `Vech` laid out.

    Input shape:
        `(..., n(n+1)/2)`.

    Output shape:
        `(..., n, n)`, symmetric.

    Example:
        >>> Unvech()(Vech()(spd))  # spd again
    """

    def build(self, input_shape):
        linalg.vech_side(input_shape[-1])

    def call(self, inputs):
        return linalg.unvech(inputs)

    def compute_output_shape(self, input_shape):
        size = linalg.vech_side(input_shape[-1])
        return (*input_shape[:-1], size, size)
