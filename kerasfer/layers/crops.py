import math
from typing import get_args

import keras
import numpy as np
from keras import ops

from kerasfer.layers.feature_maps import standardize_data_format
from kerasfer.layers.inputs import as_float, as_pictures, picture_dtype
from kerasfer.options import CropMode

FIXED = ("top left", "top right", "bottom left", "bottom right", "center")


@keras.saving.register_keras_serializable(package="kerasfer")
class RegionCrops(keras.layers.Layer):
    """Stacks each picture with crops of it, all resized to the size of the picture.

    Region 0 is the whole picture. Crops are cut and resized bilinearly by two matrix products,
    which export to every format and run on every accelerator.

    Args:
        crops: Number of crops, at least 1, and at most 5 unless `mode="landmarks"`.
        mode: `"random"` places the crops randomly during training and at the fixed positions during
            inference. `"fixed"` always uses the four corners and the center. `"landmarks"` centers
            each crop on a landmark of the face and shifts it into the picture if it would exceed an
            edge.
        area: Fraction of the picture's area that a crop covers, in (0, 1].
        seed: Integer that seeds the random positions.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras' image data format.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        `"channels_first"`. With landmarks, a list of the pictures and `(batch, crops, 2)`, x and y
        as fractions of width and height in [0, 1]. Negative coordinates mark an unknown landmark,
        whose crop is taken at one of the fixed positions.

    Output shape:
        `(batch, 1 + crops, height, width, channels)`, or `(batch, 1 + crops, channels, height,
        width)` for `"channels_first"`. Integers remain integers, rounded as by
        `keras.layers.Resizing`.

    Example:
        >>> pictures = ops.ones((8, 48, 48, 3))
        >>> tuple(RegionCrops(crops=5, data_format="channels_last")(pictures).shape)
        (8, 6, 48, 48, 3)

    Source: Du et al. 2022, section 1.1, area 0.75; fixed crops as in Wang et al., Region Attention
    Networks, IEEE TIP 2020.
    """

    def __init__(self, crops=5, mode="random", area=0.75, seed=None, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if mode not in get_args(CropMode):
            raise ValueError(
                f"`mode` must be 'random', 'fixed' or 'landmarks'. Received: mode={mode!r}."
            )
        if crops < 1 or (mode != "landmarks" and crops > len(FIXED)):
            raise ValueError(
                f"`crops` must be from 1 to {len(FIXED)} ({', '.join(FIXED)} at inference). "
                f"Received: crops={crops}."
            )
        if not 0 < area <= 1:
            raise ValueError(f"`area` must be in (0, 1]. Received: area={area}.")
        self.crops = crops
        self.mode = mode
        self.area = area
        self.seed = seed
        self.data_format = standardize_data_format(data_format)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        if self.mode == "landmarks":
            input_shape, landmarks_shape = input_shape
            if tuple(landmarks_shape[1:]) != (self.crops, 2):
                raise ValueError(
                    f"Landmarks must be (batch, {self.crops}, 2), as many as `crops`. "
                    f"Received: input_shape={tuple(landmarks_shape)}."
                )
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "Pictures must be (batch, height, width, channels) with known sizes. "
                f"Received: input_shape={tuple(input_shape)}."
            )

    def call(self, inputs, training=False):
        if self.mode == "landmarks":
            inputs, landmarks = inputs
        pictures = as_float(inputs, self)
        first = self.data_format == "channels_first"
        height, width = pictures.shape[2:] if first else pictures.shape[1:3]
        if self.mode == "random" and training:
            shape = (ops.shape(pictures)[0], self.crops, 2)
            places = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        else:
            corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]], dtype="float32")
            corners = corners[np.arange(self.crops) % len(corners)]
            places = ops.convert_to_tensor(corners[None])
        side = math.sqrt(self.area)
        if self.mode == "landmarks":
            landmarks = ops.cast(as_float(landmarks, self), "float32")
            centers = ops.flip(landmarks, axis=-1)  # rows first
            # A place is a fraction of the length outside of the window, which may be zero.
            around = ops.clip((centers - side / 2) / max(1 - side, 1e-6), 0.0, 1.0)
            places = ops.where(centers < 0, places, around)
        vertical = _resampling(places[..., 0], height, side, pictures.dtype)  # (b|1, crops, h, h)
        horizontal = _resampling(places[..., 1], width, side, pictures.dtype)  # (b|1, crops, w, w)
        if first:
            rows = ops.matmul(vertical[:, :, None], pictures[:, None])
            crops = ops.matmul(rows, ops.swapaxes(horizontal, -2, -1)[:, :, None])
        else:
            # Products of four axes, since TFLite 2.9 does not multiply tensors of five.
            channels = pictures.shape[3]
            rows = ops.reshape(pictures, (-1, 1, height, width * channels))
            rows = ops.matmul(vertical, rows)
            rows = ops.reshape(rows, (-1, self.crops, height, width, channels))
            columns = ops.reshape(
                ops.swapaxes(rows, 2, 3), (-1, self.crops, width, height * channels)
            )
            columns = ops.matmul(horizontal, columns)
            columns = ops.reshape(columns, (-1, self.crops, width, height, channels))
            crops = ops.swapaxes(columns, 2, 3)
        return ops.concatenate([inputs[:, None], as_pictures(crops, inputs.dtype)], axis=1)

    def compute_output_shape(self, input_shape):
        if self.mode == "landmarks":
            input_shape = input_shape[0]
        return (input_shape[0], 1 + self.crops, *input_shape[1:])

    def compute_output_spec(self, inputs, training=False):
        pictures = inputs[0] if self.mode == "landmarks" else inputs
        shape = (pictures.shape[0], 1 + self.crops, *pictures.shape[1:])
        return keras.KerasTensor(shape, dtype=picture_dtype(pictures, self))

    def get_config(self):
        return {
            **super().get_config(),
            "crops": self.crops,
            "mode": self.mode,
            "area": self.area,
            "seed": self.seed,
            "data_format": self.data_format,
        }


def _resampling(place, size, side, dtype):
    """Bilinear weights (..., size, size) that stretch a window over `size` pixels.

    The window covers the fraction `side` of the axis and begins at the fraction `place` of the
    rest.
    """
    start = place[..., None] * (1 - side) * size
    pixels = ops.arange(size, dtype="float32")
    # Pixel centers of the output, in pixels of the input. The border is repeated.
    centers = ops.clip(start + (pixels + 0.5) * side - 0.5, 0.0, size - 1.0)
    weights = ops.relu(1.0 - ops.abs(centers[..., None] - pixels))
    return ops.cast(weights, dtype)
