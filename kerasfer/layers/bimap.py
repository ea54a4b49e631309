import keras
from keras import ops

from kerasfer import linalg
from kerasfer.layers.spd_layer import SPDLayer


@keras.saving.register_keras_serializable(package="kerasfer")
class BiMap(SPDLayer):
    """Maps SPD matrices to smaller ones by W X Wᵀ, with a learned W of orthonormal rows.

    It is the dense layer of SPD networks: W of full rank keeps the result positive definite. W
    stays on the Stiefel manifold under any optimizer: its gradient is projected on the tangent
    space in the backward pass, and the constraint `Stiefel` retracts it after each step. Decoupled
    weight decay only scales W, which the retraction undoes.

    Args:
        units: Size m of the output, 1 ≤ m ≤ n.
        kernel_initializer: Initializer; what it returns is retracted. Defaults to orthogonal.

    Input shape:
        `(..., n, n)`, symmetric.

    Output shape:
        `(..., units, units)`; float32.

    Example:
        >>> BiMap(24)(spd).shape  # spd: (8, 49, 49)
        (8, 24, 24)

    Source: Huang and Van Gool, AAAI 2017; Du et al. 2022, equation (5).
    """

    def __init__(self, units, kernel_initializer="orthogonal", **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}.")
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        linalg.check_square(input_shape)
        if self.units > input_shape[-1]:
            raise ValueError(
                "`units` must not exceed the input size, so that the output stays positive "
                f"definite. Received: units={self.units}, input_shape={tuple(input_shape)}."
            )
        constraint = Stiefel()
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.units, input_shape[-1]),
            initializer=lambda shape, dtype=None: constraint(
                ops.convert_to_tensor(self.kernel_initializer(shape, dtype=dtype))
            ),
            constraint=constraint,
        )

    def call(self, inputs):
        kernel = linalg.on_stiefel(self.kernel)
        return ops.matmul(kernel, ops.matmul(inputs, ops.transpose(kernel)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-2], self.units, self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="kerasfer")
class Stiefel(keras.constraints.Constraint):
    """Keeps a kernel `(m, n)`, m ≤ n, at orthonormal rows by a polar retraction after each step.

    Example:
        >>> layer.add_weight(shape=(24, 49), initializer="orthogonal", constraint=Stiefel())
    """

    def __call__(self, w):
        return linalg.retract(w)
