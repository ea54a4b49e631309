import keras

from kerasfer import linalg
from kerasfer.layers.spd_layer import SPDLayer


class _Spectral(SPDLayer):
    """Base class of functions of eigenvalues, `(..., n, n)` → `(..., n, n)`."""

    def __init__(self, method="eigh", **kwargs):
        super().__init__(**kwargs)
        linalg.check_method(method)
        self.method = method
        # Keras reads this for jit_compile="auto". XLA makes TensorFlow's eigendecomposition slower
        # by a factor of 18 and less accurate. JAX would run op by op without its compiler.
        self.supports_jit = method == "matmul" or keras.backend.backend() != "tensorflow"

    def build(self, input_shape):
        linalg.check_square(input_shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "method": self.method}


@keras.saving.register_keras_serializable(package="kerasfer")
class ReEig(_Spectral):
    """Raises the eigenvalues of symmetric matrices to at least `epsilon`: U max(εI, Σ) Uᵀ.

    It is the counterpart of ReLU in SPD networks. If a `LogEig` follows, pass `epsilon` to that
    layer instead, so that both share one eigendecomposition.

    Args:
        epsilon: Positive float, the smallest eigenvalue of the output.
        method: `"eigh"`, or `"matmul"` for targets without an eigendecomposition.

    Input shape:
        `(..., n, n)`, symmetric.

    Output shape:
        Same as the input; float32.

    Example:
        >>> from keras import ops
        >>> float(ReEig(0.5)(ops.zeros((1, 2, 2)))[0, 0, 0])
        0.5

    Source: Huang and Van Gool, AAAI 2017; Du et al. 2022, equation (6).
    """

    def __init__(self, epsilon=1e-4, method="eigh", **kwargs):
        super().__init__(method, **kwargs)
        self.epsilon = _positive(epsilon)

    def call(self, inputs):
        return linalg.rectify(inputs, self.epsilon, self.method)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="kerasfer")
class LogEig(_Spectral):
    """Computes the matrix logarithm of SPD matrices, which maps them to a vector space.

    Args:
        epsilon: Positive float. Smaller eigenvalues are first raised to it, as by `ReEig(epsilon)`,
            with the same eigendecomposition. If `None`, the inputs must be positive definite.
        logreg_weight: Weight of the log-eigenvalue penalty that is added to the loss, the mean
            over all matrices. It keeps the eigenvalues in a range where the gradient of the
            logarithm neither vanishes nor explodes. 0 disables the penalty.
        logreg_form: `"squared"`, equation (8), or `"linear"`, equation (10).
        method: `"eigh"`, or `"matmul"` for targets without an eigendecomposition.

    Input shape:
        `(..., n, n)`, symmetric.

    Output shape:
        Same as the input; float32.

    Example:
        >>> from keras import ops
        >>> log = LogEig(epsilon=1e-4)(2.0 * ops.eye(3)[None])
        >>> float(log[0, 0, 0])  # log(2)
        0.693147...

    Source: Huang and Van Gool, AAAI 2017; Du et al. 2022, equations (7), (8) and (10).
    """

    def __init__(
        self, epsilon=None, logreg_weight=0.0, logreg_form="squared", method="eigh", **kwargs
    ):
        super().__init__(method, **kwargs)
        if logreg_weight < 0:
            raise ValueError(
                f"`logreg_weight` must not be negative. Received: logreg_weight={logreg_weight}."
            )
        linalg.check_penalty_form(logreg_form)
        self.epsilon = None if epsilon is None else _positive(epsilon)
        self.logreg_weight = logreg_weight
        self.logreg_form = logreg_form

    def call(self, inputs):
        if not self.logreg_weight:
            return linalg.logm(inputs, self.epsilon, self.method)
        rectified, log = linalg.rectified_logm(inputs, self.epsilon, self.method)
        penalty = linalg.log_eigenvalue_penalty(rectified, log, self.logreg_form)
        self.add_loss(self.logreg_weight * keras.ops.mean(penalty))
        return log

    def get_config(self):
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "logreg_weight": self.logreg_weight,
            "logreg_form": self.logreg_form,
        }


@keras.saving.register_keras_serializable(package="kerasfer")
class ExpEig(_Spectral):
    """Computes the matrix exponential of symmetric matrices, the inverse of `LogEig`.

    Args:
        method: `"eigh"`, or `"matmul"` for targets without an eigendecomposition.

    Input shape:
        `(..., n, n)`, symmetric, with eigenvalues in about [-80, 80].

    Output shape:
        Same as the input, positive definite; float32.

    Example:
        >>> from keras import ops
        >>> spd = 2.0 * ops.eye(3)[None]
        >>> again = ExpEig()(LogEig()(spd))  # equal to spd
    """

    def call(self, inputs):
        return linalg.expm(inputs, self.method)


def _positive(epsilon):
    if epsilon <= 0:
        raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}.")
    return epsilon
