import math

import keras
import numpy as np
from keras import ops

FIXED = ("top left", "top right", "bottom left", "bottom right", "centre")


@keras.saving.register_keras_serializable(package="kerasfer")
class RegionCrops(keras.layers.Layer):
    """Stacks each picture with square crops of it, all resized to the picture's own size.

    Region 0 is the whole picture. Crops are cut and resized bilinearly by two matrix products, so
    that they export everywhere and run on any accelerator.

    Args:
        crops: Number of crops, at least 1; at most 5 but for landmarks.
        mode: `"random"`: at random places in training and fixed ones at inference; `"fixed"`:
            the four corners and the centre, always; `"landmarks"`: each around a landmark of the
            face, moved into the picture where it would reach beyond the edge.
        area: Share of the picture's area that a crop covers, in (0, 1].
        seed: Integer for the random places.

    Input shape:
        `(batch, height, width, channels)`; with landmarks a list of that and of
        `(batch, crops, 2)`, x and y as shares of width and height in [0, 1]. A negative landmark is
        unknown: its crop lies at one of the fixed places.

    Output shape:
        `(batch, 1 + crops, height, width, channels)`.

    Example:
        >>> RegionCrops(crops=5)(pictures).shape  # pictures: (8, 224, 224, 3)
        (8, 6, 224, 224, 3)

    Source: Du et al. 2022, section 1.1, area 0.75; fixed crops as in Wang et al., Region Attention
    Networks, IEEE TIP 2020.
    """

    def __init__(self, crops=5, mode="random", area=0.75, seed=None, **kwargs):
        super().__init__(**kwargs)
        if mode not in ("random", "fixed", "landmarks"):
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
        height, width, channels = inputs.shape[1:]
        if self.mode == "random" and training:
            shape = (ops.shape(inputs)[0], self.crops, 2)
            places = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        else:
            corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]], dtype="float32")
            corners = corners[np.arange(self.crops) % len(corners)]
            places = ops.convert_to_tensor(corners[None])
        side = math.sqrt(self.area)
        if self.mode == "landmarks":
            centres = ops.flip(ops.cast(landmarks, "float32"), axis=-1)  # rows first
            # The place is a share of what the window leaves free, which may be nothing.
            around = ops.clip((centres - side / 2) / max(1 - side, 1e-6), 0.0, 1.0)
            places = ops.where(centres < 0, places, around)
        vertical = _resampling(places[..., 0], height, side, inputs.dtype)  # (b|1, crops, h, h)
        horizontal = _resampling(places[..., 1], width, side, inputs.dtype)  # (b|1, crops, w, w)
        rows = ops.reshape(inputs, (-1, 1, height, width * channels))
        rows = ops.reshape(ops.matmul(vertical, rows), (-1, self.crops, height, width, channels))
        crops = ops.matmul(horizontal[:, :, None], rows)
        return ops.concatenate([inputs[:, None], crops], axis=1)

    def compute_output_shape(self, input_shape):
        if self.mode == "landmarks":
            input_shape = input_shape[0]
        return (input_shape[0], 1 + self.crops, *input_shape[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "crops": self.crops,
            "mode": self.mode,
            "area": self.area,
            "seed": self.seed,
        }


def _resampling(place, size, side, dtype):
    """Bilinear weights (..., size, size) that stretch a window over `size` pixels.

    The window covers the share `side` of the line and begins at the share `place` of what is left.
    """
    start = place[..., None] * (1 - side) * size
    pixels = ops.arange(size, dtype="float32")
    # Pixel centres of the output, in pixels of the input; the border repeats.
    centres = ops.clip(start + (pixels + 0.5) * side - 0.5, 0.0, size - 1.0)
    weights = ops.relu(1.0 - ops.abs(centres[..., None] - pixels))
    return ops.cast(weights, dtype)
