"""Degrades pictures, to measure the robustness of a model."""

import numpy as np

from kerasfer.data.augment import blur, warp

BLUR_RADIUS = 1 / 32  # Of the side: 1.5 px of 48.
OCCLUDED_SIDE = 0.4
TURN = np.radians(30)


def blur_slightly(picture, rng):
    """Blurs a picture with a Gaussian whose radius is 1/32 of the side."""
    return blur(picture, BLUR_RADIUS * min(picture.shape[:2]))


def occlude(picture, rng):
    """Covers a random part of a picture with a gray square of 0.4 of the side."""
    height, width = picture.shape[:2]
    side = round(OCCLUDED_SIDE * min(height, width))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    occluded = picture.copy()
    occluded[top : top + side, left : left + side] = 128
    return occluded


def turn(picture, rng):
    """Rotates a square picture by 30 degrees, in a random direction."""
    return warp(picture, picture.shape[0], angle=TURN * rng.choice([-1, 1]))


CORRUPTIONS = {"blurred": blur_slightly, "occluded": occlude, "turned": turn}


def corrupt(pictures, name, seed=0):
    """Applies one of `CORRUPTIONS` to each picture.

    Args:
        pictures: uint8 `(n, side, side)` or `(n, side, side, 3)`.
        name: A key of `CORRUPTIONS`.
        seed: Seed of the random choices.

    Returns:
        uint8, of the same shape.

    Example:

    >>> corrupt(np.zeros((2, 48, 48), "uint8"), "occluded").max()
    np.uint8(128)
    """
    rng = np.random.default_rng(seed)
    return np.stack([CORRUPTIONS[name](picture, rng) for picture in pictures])
