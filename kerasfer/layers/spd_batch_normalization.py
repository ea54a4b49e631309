import keras
from keras import ops

from kerasfer import linalg
from kerasfer.layers.spd_layer import SPDLayer


@keras.saving.register_keras_serializable(package="kerasfer")
class SPDBatchNormalization(SPDLayer):
    """Normalizes SPD matrices on their manifold and moves their mean to a learned SPD matrix.

    During training, the mean M of the batch is moved to the identity, X̃ = M^(-1/2) X M^(-1/2), the
    dispersion v, the mean of ‖log X̃‖²_F, is scaled to γ², X̂ = X̃^(γ / √(v + ε)), and the result is
    moved to B = exp(S): Y = B^(1/2) X̂ B^(1/2). S and γ are learned. At inference, running
    estimates of M and v are used instead. Under the log-Euclidean metric, the same steps are taken
    on the logarithms: log Y = S + γ / √(v + ε) · (log X − log M).

    Args:
        metric: `"affine_invariant"` or `"log_euclidean"`.
        momentum: Momentum of the running estimates, in [0, 1]. The running mean moves along the
            geodesic to the batch's mean.
        epsilon: Small positive float added to the dispersion.
        scale: Whether to normalize the dispersion. If `False`, only the mean is moved.
        bias: Whether to learn S. If `False`, the output's mean is the identity.
        steps: Number of Karcher steps for the affine-invariant mean.
        method: `"eigh"`, or `"matmul"` for targets without an eigendecomposition.

    Call arguments:
        inputs: SPD matrices.
        training: Whether to use the batch's statistics and to update the running ones.

    Input shape:
        `(batch, ..., n, n)`. The statistics are taken over all axes but the last two.

    Output shape:
        Same as the input; float32.

    Example:
        >>> from keras import ops
        >>> spd = ops.stack([ops.eye(3), 4.0 * ops.eye(3)])
        >>> normalized = SPDBatchNormalization()(spd, training=True)

    Source: Brooks et al., Riemannian Batch Normalization for SPD Neural Networks, NeurIPS 2019;
    Kobler et al., SPD Domain-Specific Batch Normalization, NeurIPS 2022.
    """

    def __init__(
        self,
        metric="affine_invariant",
        momentum=0.9,
        epsilon=1e-5,
        scale=True,
        bias=True,
        steps=1,
        method="eigh",
        **kwargs,
    ):
        super().__init__(**kwargs)
        linalg.check_metric(metric)
        linalg.check_method(method)
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}.")
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}.")
        if steps < 1:
            raise ValueError(f"`steps` must be at least 1. Received: steps={steps}.")
        self.metric = metric
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = scale
        self.bias = bias
        self.steps = steps
        self.method = method
        # As in `ReEig`: XLA makes TensorFlow's eigendecomposition slow and imprecise.
        self.supports_jit = method == "matmul" or keras.backend.backend() != "tensorflow"

    def build(self, input_shape):
        linalg.check_square(input_shape)
        size = input_shape[-1]
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=(size, size), initializer="identity", trainable=False
        )
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(), initializer="ones")
            self.moving_dispersion = self.add_weight(
                name="moving_dispersion", shape=(), initializer="ones", trainable=False
            )
        if self.bias:
            # The logarithm of the bias, flattened as by `Vech`, needs no constraint.
            self.log_bias = self.add_weight(
                name="log_bias", shape=(size * (size + 1) // 2,), initializer="zeros"
            )

    def call(self, inputs, training=False):
        x = ops.reshape(inputs, (-1, *inputs.shape[-2:]))
        if training:
            mean = linalg.spd_mean(x, self.metric, self.steps, self.method)
            self._move(mean)
        else:
            mean = ops.convert_to_tensor(self.moving_mean)
        normalize = self._on_logarithms if self.metric == "log_euclidean" else self._on_manifold
        return ops.reshape(normalize(x, mean, training), ops.shape(inputs))

    def _on_manifold(self, x, mean, training):
        x = linalg.congruence(x, linalg.powm(mean, -0.5, self.method))
        if self.scale:
            log = linalg.logm(x, method=self.method)
            x = linalg.expm(self._exponent(log, training) * log, self.method)
        if self.bias:
            x = linalg.congruence(x, linalg.expm(linalg.unvech(self.log_bias) / 2, self.method))
        return x

    def _on_logarithms(self, x, mean, training):
        log = linalg.logm(x, method=self.method) - linalg.logm(mean, method=self.method)
        if self.scale:
            log = self._exponent(log, training) * log
        if self.bias:
            log = log + linalg.unvech(self.log_bias)
        return linalg.expm(log, self.method)

    def _exponent(self, log, training):
        dispersion = self.moving_dispersion
        if training:
            dispersion = ops.mean(ops.sum(ops.square(log), axis=(-2, -1)))
            moved = self.momentum * self.moving_dispersion + (1 - self.momentum) * dispersion
            self.moving_dispersion.assign(ops.stop_gradient(moved))
        return self.gamma * ops.rsqrt(dispersion + self.epsilon)

    def _move(self, mean):
        before = ops.convert_to_tensor(self.moving_mean)
        mean = ops.stop_gradient(mean)
        moved = linalg.geodesic(before, mean, 1 - self.momentum, self.metric, self.method)
        self.moving_mean.assign(ops.stop_gradient(moved))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "metric": self.metric,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "scale": self.scale,
            "bias": self.bias,
            "steps": self.steps,
            "method": self.method,
        }
