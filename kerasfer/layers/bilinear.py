import itertools

import keras
from keras import ops

from kerasfer import linalg
from kerasfer.layers.feature_maps import as_rows, standardize_data_format
from kerasfer.layers.inputs import as_float

SMALLEST_ENTRY = 1e-8  # added to |x| in the signed square root
SMALLEST_LENGTH = 1e-7  # lower bound of the norm that y is divided by


@keras.saving.register_keras_serializable(package="kerasfer")
class BilinearPool(keras.layers.Layer):
    """Sums the outer products of the channels of one or two feature maps over all positions.

    The sum M = Σ_l f_A(l) f_B(l)ᵀ is flattened to x. The signed square root y = sign(x)·√|x| damps
    large entries, and z = y / ‖y‖₂ is the output. A single feature map is paired with itself. Under
    half-precision policies the sum and the norms are computed in float32. The feature maps are
    scaled before they are multiplied, and with `normalize=True` M itself is never computed, so that
    an exported layer does not overflow in a runtime that computes in float16.

    Args:
        signed_sqrt: Whether to take the signed square root.
        normalize: Whether to divide by the L2 norm.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras' image data format.

    Input shape:
        `(batch, ..., channels)`, or a pair `(batch, ..., a)` and `(batch, ..., b)` with the same
        positions. For `"channels_first"` the channels are the second axis. The spatial sizes may be
        unknown.

    Output shape:
        `(batch, a · b)`.

    Example:
        >>> feature_maps = ops.ones((2, 7, 7, 16))
        >>> tuple(BilinearPool(data_format="channels_last")(feature_maps).shape)
        (2, 256)

    Source: Lin et al., Bilinear CNN Models, ICCV 2015; Lyu et al. 2024, equations (1) to (6), where
    (5) has sin instead of sign.
    """

    def __init__(self, signed_sqrt=True, normalize=True, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.signed_sqrt = signed_sqrt
        self.normalize = normalize
        self.data_format = standardize_data_format(data_format)

    def build(self, input_shape):
        shape_a, shape_b = self._pair(input_shape)
        spatial = slice(1, -1) if self.data_format == "channels_last" else slice(2, None)
        axis = -1 if self.data_format == "channels_last" else 1
        if None in (shape_a[axis], shape_b[axis]):
            raise ValueError(
                f"The number of channels must be known. Received: input_shape={input_shape}."
            )
        sizes = list(itertools.zip_longest(shape_a[spatial], shape_b[spatial], fillvalue=-1))
        if any(a != b and None not in (a, b) for a, b in sizes) or len(shape_a) != len(shape_b):
            raise ValueError(
                "Both feature maps must have the same positions. "
                f"Received: input_shape={input_shape}."
            )

    def call(self, inputs):
        map_a, map_b = self._pair(inputs)
        rows_a, scale_a = self._scaled_rows(map_a)
        rows_b, scale_b = (rows_a, scale_a) if map_b is map_a else self._scaled_rows(map_b)
        x, scale = ops.matmul(ops.swapaxes(rows_a, 1, 2), rows_b), scale_a * scale_b
        if self.signed_sqrt:
            x, scale = linalg.signed_sqrt(x, SMALLEST_ENTRY / scale), ops.sqrt(scale)
        # The scales cancel out in the quotient, except in the lower bound of the norm.
        if self.normalize:
            x = linalg.l2_normalize(x, SMALLEST_LENGTH / scale, axes=(-1, -2))
        else:
            x = scale * x
        x = ops.reshape(x, (-1, rows_a.shape[-1] * rows_b.shape[-1]))
        return ops.cast(x, self.compute_dtype)

    def _scaled_rows(self, feature_map):
        rows = as_rows(linalg.as_float(as_float(feature_map, self)), self.data_format)
        return linalg.split_length(rows)

    def compute_output_shape(self, input_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        shape_a, shape_b = self._pair(input_shape)
        return (shape_a[0], shape_a[axis] * shape_b[axis])

    def get_config(self):
        return {
            **super().get_config(),
            "signed_sqrt": self.signed_sqrt,
            "normalize": self.normalize,
            "data_format": self.data_format,
        }

    @staticmethod
    def _pair(inputs):
        # A tensor or a shape (a tuple of sizes), or a pair of either.
        if not isinstance(inputs, (list, tuple)) or isinstance(inputs[-1], (int, type(None))):
            return inputs, inputs
        if len(inputs) != 2:
            raise ValueError(f"Expected one or two feature maps. Received: {len(inputs)}.")
        return tuple(inputs)
