import keras
from keras import ops

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@keras.saving.register_keras_serializable(package="kerasfer")
class AffineSampling(keras.layers.Layer):
    """Resamples pictures or feature maps bilinearly, each by an affine map of its own.

    With a small network that regresses the six numbers of each map it is a spatial transformer: a
    model that learns where to look, end to end. A dense layer of zeros with the bias `IDENTITY`
    begins by looking at the whole picture.

    Each output place (x, y), from -1 at the left and top edges to 1 at the right and bottom ones,
    shows the input at (a x + b y + c, d x + e y + f). Outside the picture is 0.

    Input shape:
        A list of pictures `(batch, height, width, channels)` and maps `(batch, 6)`, the numbers
        (a, b, c, d, e, f).

    Output shape:
        `(batch, height, width, channels)`.

    Example:
        >>> AffineSampling()([pictures, maps]).shape  # (8, 48, 48, 3) and (8, 6)
        (8, 48, 48, 3)

    Source: Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, equations (1) and (5).
    """

    def build(self, input_shape):
        pictures, maps = (tuple(shape) for shape in input_shape)
        if len(pictures) != 4 or None in pictures[1:] or maps[1:] != (6,):
            raise ValueError(
                "Inputs must be pictures (batch, height, width, channels) with known sizes and "
                f"maps (batch, 6). Received: input_shape={[pictures, maps]}."
            )

    def call(self, inputs):
        pictures, maps = inputs
        height, width, channels = pictures.shape[1:]
        across, down = self._places(ops.cast(maps, "float32"), height, width)  # (b, h * w) each
        left, top = ops.floor(across), ops.floor(down)
        # Not 1 - |across - column|: its gradient is wrong on the pixels, where the identity looks.
        right_share, lower_share = across - left, down - top
        flat = ops.reshape(pictures, (-1, channels))
        # Where each picture begins among all the pixels of the batch.
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
        """Where each output pixel looks, in pixels of the input: two of (batch, height * width)."""
        x = (2 * ops.arange(width, dtype="float32") + 1) / width - 1
        y = (2 * ops.arange(height, dtype="float32") + 1) / height - 1
        x, y = ops.tile(x, height), ops.repeat(y, width)
        a, b, c, d, e, f = (maps[:, i : i + 1] for i in range(6))
        across, down = a * x + b * y + c, d * x + e * y + f
        return ((across + 1) * width - 1) / 2, ((down + 1) * height - 1) / 2

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])
