import keras
from keras import ops

from kerasfer.layers.feature_maps import standardize_data_format
from kerasfer.layers.inputs import as_float, as_pictures, picture_dtype

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@keras.saving.register_keras_serializable(package="kerasfer")
class AffineSampling(keras.layers.Layer):
    """Resamples pictures or feature maps bilinearly, each with its own affine map.

    Together with a small network that predicts the six coefficients of each map, the layer forms a
    spatial transformer, which learns which part of a picture to use. If a dense layer with a zero
    kernel and the bias `IDENTITY` predicts the maps, training starts from the whole picture.

    Each output position (x, y), from -1 at the left and top edges to 1 at the right and bottom
    edges, samples the input at (a x + b y + c, d x + e y + f). The input is 0 outside of the
    picture.

    Args:
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras' image data format.

    Input shape:
        A list of pictures `(batch, height, width, channels)`, or `(batch, channels, height, width)`
        for `"channels_first"`, and maps `(batch, 6)`, the coefficients (a, b, c, d, e, f).

    Output shape:
        Same as the pictures. Integers remain integers, rounded as by `keras.layers.Resizing`.

    Example:
        >>> pictures = ops.ones((8, 48, 48, 3))
        >>> maps = ops.tile(ops.array([IDENTITY]), (8, 1))
        >>> tuple(AffineSampling(data_format="channels_last")([pictures, maps]).shape)
        (8, 48, 48, 3)

    Source: Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, equations (1) and (5).
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)

    def build(self, input_shape):
        pictures, maps = (tuple(shape) for shape in input_shape)
        if len(pictures) != 4 or None in pictures[1:] or maps[1:] != (6,):
            raise ValueError(
                "Inputs must be pictures (batch, height, width, channels) with known sizes and "
                f"maps (batch, 6). Received: input_shape={[pictures, maps]}."
            )

    def call(self, inputs):
        pictures, maps = inputs
        if pictures.shape[0] == 0:
            return pictures  # JAX cannot gather from an empty tensor.
        x = as_float(pictures, self)
        if self.data_format == "channels_first":
            x = ops.transpose(x, (0, 2, 3, 1))
        x = self._sample(x, ops.cast(as_float(maps, self), "float32"))
        if self.data_format == "channels_first":
            x = ops.transpose(x, (0, 3, 1, 2))
        return as_pictures(x, pictures.dtype)

    def _sample(self, pictures, maps):
        # The sizes are tensors while torch traces the layer for an export to ONNX.
        height, width, channels = map(int, pictures.shape[1:])
        across, down = self._places(maps, height, width)  # (b, h * w) each
        left, top = ops.floor(across), ops.floor(down)
        # The weights are not 1 - |across - column|, whose gradient is wrong at the pixel centers,
        # where the identity samples.
        right_share, lower_share = across - left, down - top
        flat = ops.reshape(pictures, (-1, channels))
        # The index of each picture's first pixel among all pixels of the batch.
        begins = ops.arange(ops.shape(pictures)[0], dtype="int32")[:, None] * (height * width)
        result = 0
        for column, row, weights in (
            (left, top, (1 - right_share) * (1 - lower_share)),
            (left + 1, top, right_share * (1 - lower_share)),
            (left, top + 1, (1 - right_share) * lower_share),
            (left + 1, top + 1, right_share * lower_share),
        ):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weights = ops.cast(ops.where(inside, weights, 0.0), pictures.dtype)
            column = ops.cast(ops.clip(column, 0, width - 1), "int32")
            row = ops.cast(ops.clip(row, 0, height - 1), "int32")
            pixels = ops.take(flat, begins + row * width + column, axis=0)  # (b, h * w, c)
            result = result + weights[..., None] * pixels
        return ops.reshape(result, (-1, height, width, channels))

    def _places(self, maps, height, width):
        """Returns the input coordinates of each output pixel, two `(batch, height * width)`."""
        x = (2 * ops.arange(width, dtype="float32") + 1) / width - 1
        y = (2 * ops.arange(height, dtype="float32") + 1) / height - 1
        x, y = ops.tile(x, height), ops.repeat(y, width)
        a, b, c, d, e, f = (maps[:, i : i + 1] for i in range(6))
        across, down = a * x + b * y + c, d * x + e * y + f
        return ((across + 1) * width - 1) / 2, ((down + 1) * height - 1) / 2

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def compute_output_spec(self, inputs):
        pictures, maps = inputs
        shape = self.compute_output_shape([pictures.shape, maps.shape])
        return keras.KerasTensor(shape, dtype=picture_dtype(pictures, self))

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
