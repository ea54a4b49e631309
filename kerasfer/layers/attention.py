import keras
from keras import ops

from kerasfer.layers.bimap import BiMap
from kerasfer.layers.covariance import Covariance, SPDProject
from kerasfer.layers.feature_maps import axis_in_config, restore_axis
from kerasfer.layers.inputs import as_float
from kerasfer.layers.spectral import LogEig
from kerasfer.layers.vech import Vech


@keras.saving.register_keras_serializable(package="kerasfer")
class SPDAttention(keras.layers.Layer):
    """Weights the regions of a face by the second-order statistics of their feature maps.

    The feature map of each region becomes a covariance matrix, which is made positive definite,
    mapped by a `BiMap`, rectified, and replaced by its matrix logarithm. The logarithm is flattened
    and divided by the size of the matrix. A dense unit with a sigmoid turns it into the coefficient
    α_i of the region. The output is Σ α_i · fea_i / Σ α_i. With `normalize=False` the output is the
    plain sum, as in the paper. If training starts from random weights, all α_i then tend to
    collapse to 0 in the first steps, and their gradients vanish.

    Args:
        units: Output size of the `BiMap`. Defaults to half the size of the covariance matrix.
        axis: `"spatial"` or `"channel"`, as in `Covariance`.
        shrinkage: λ of `SPDProject`.
        epsilon: Smallest eigenvalue before the logarithm.
        logreg_weight: Weight of the log-eigenvalue penalty in the loss.
        logreg_form: `"squared"` or `"linear"`.
        normalize: Whether to divide by Σ α_i, as Region Attention Networks do.
        method: `"eigh"` or `"matmul"`, as in `LogEig`.
        data_format: Data format of the feature maps, as in `Covariance`.

    Input shape:
        A pair: feature maps `(batch, regions, height, width, channels)` and feature vectors
        `(batch, regions, features)`.

    Output shape:
        `(batch, features)`; with `return_attention_scores=True` also the coefficients
        `(batch, regions)` in [0, 1].

    Example:
        >>> maps = ops.ones((2, 6, 3, 3, 16))
        >>> vectors = ops.ones((2, 6, 16))
        >>> tuple(SPDAttention(data_format="channels_last")([maps, vectors]).shape)
        (2, 16)

    Source: Du et al. 2022, section 1.2.
    """

    def __init__(
        self,
        units=None,
        axis="spatial",
        shrinkage=1e-4,
        epsilon=1e-4,
        logreg_weight=1e-3,
        logreg_form="squared",
        normalize=True,
        method="eigh",
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.axis = axis
        self.shrinkage = shrinkage
        self.epsilon = epsilon
        self.logreg_weight = logreg_weight
        self.logreg_form = logreg_form
        self.normalize = normalize
        self.method = method
        dtype = self.dtype_policy
        self.covariance = Covariance(axis, data_format, dtype=dtype, name="covariance")
        self.data_format = self.covariance.data_format
        self.spd_project = SPDProject(shrinkage, dtype=dtype, name="spd_project")
        self.log_eig = LogEig(
            epsilon, logreg_weight, logreg_form, method, dtype=dtype, name="log_eig"
        )
        self.vech = Vech(dtype=dtype, name="vech")
        # Computes in float32 under half-precision policies, as every `SPDLayer` does.
        self.score = keras.layers.Dense(1, dtype=self.covariance.dtype_policy, name="score")

    def build(self, input_shape):
        maps_shape, vectors_shape = input_shape
        if maps_shape[1] != vectors_shape[1] or len(maps_shape) < 4 or len(vectors_shape) != 3:
            raise ValueError(
                "Expected feature maps (batch, regions, ..., channels) and vectors (batch, "
                f"regions, features) of the same regions. Received: input_shape={input_shape}."
            )
        region = (None, *maps_shape[2:])
        self.covariance.build(region)
        spd = self.covariance.compute_output_shape(region)
        units = max(1, spd[-1] // 2) if self.units is None else self.units
        self.bimap = BiMap(units, dtype=self.dtype_policy, name="bimap")
        self.bimap.build(spd)
        small = self.bimap.compute_output_shape(spd)
        self.spd_project.build(spd)
        self.log_eig.build(small)
        self.vech.build(small)
        self.score.build(self.vech.compute_output_shape(small))

    def call(self, inputs, return_attention_scores=False):
        maps, vectors = (as_float(each, self) for each in inputs)
        regions = maps.shape[1]
        spd = self.spd_project(self.covariance(ops.reshape(maps, (-1, *maps.shape[2:]))))
        logs = self.log_eig(self.bimap(spd))
        # The norm of a logarithm grows with the matrix size and would saturate the sigmoid.
        tangent = self.vech(logs) / logs.shape[-1]
        logits = ops.reshape(self.score(tangent), (-1, regions))
        # softmax(log α) equals α / Σ α, but avoids the quotient of two tiny numbers.
        scores = ops.softmax(ops.log_sigmoid(logits)) if self.normalize else ops.sigmoid(logits)
        scores = ops.cast(scores, vectors.dtype)
        attended = ops.sum(scores[..., None] * vectors, axis=1)
        return (attended, scores) if return_attention_scores else attended

    def compute_output_shape(self, input_shape):
        _, vectors_shape = input_shape
        return (vectors_shape[0], vectors_shape[-1])

    def compute_output_spec(self, inputs, return_attention_scores=False):
        # The number of outputs depends on an argument and not only on the input shapes.
        maps, vectors = inputs
        shape = self.compute_output_shape([maps.shape, vectors.shape])
        attended = keras.KerasTensor(shape, dtype=self.compute_dtype)
        scores = keras.KerasTensor(vectors.shape[:2], dtype=self.compute_dtype)
        return (attended, scores) if return_attention_scores else attended

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            **axis_in_config(self.axis),
            "shrinkage": self.shrinkage,
            "epsilon": self.epsilon,
            "logreg_weight": self.logreg_weight,
            "logreg_form": self.logreg_form,
            "normalize": self.normalize,
            "method": self.method,
            "data_format": self.data_format,
        }

    @classmethod
    def from_config(cls, config):
        return super().from_config(restore_axis(config))
