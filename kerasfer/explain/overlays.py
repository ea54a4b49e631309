"""Overlays heat maps and signed maps on pictures."""

import matplotlib
import numpy as np

from kerasfer.plotting import BLUE, ORANGE

HEAT = "inferno"  # Readable with color vision deficiencies, and in grayscale.


def overlay(picture, heat, strength=0.65):
    """Overlays a heat map on a picture.

    The picture is converted to gray. Low values are transparent, so that the face remains visible
    there.

    Args:
        picture: uint8 or float RGB `(h, w, 3)` in [0, 255].
        heat: float `(h, w)` in [0, 1].
        strength: The opacity of the value 1, in [0, 1].

    Returns:
        uint8 `(h, w, 3)`.

    Example:

    >>> overlay(np.full((1, 1, 3), 90), np.zeros((1, 1))).tolist()
    [[[90, 90, 90]]]
    """
    colors = 255 * matplotlib.colormaps[HEAT](np.clip(heat, 0, 1))[..., :3]
    opacity = strength * np.clip(heat, 0, 1)[..., None] ** 0.7
    return _blend(_gray(picture), colors, opacity)


def overlay_signed(picture, values, strength=0.8):
    """Overlays a signed map on a picture, in orange for positive and blue for negative values.

    Args:
        picture: uint8 or float RGB `(h, w, 3)` in [0, 255].
        values: float `(h, w)`. The opacity is proportional to the magnitude.
        strength: The opacity of the largest magnitude, in [0, 1].

    Returns:
        uint8 `(h, w, 3)`.
    """
    relative = values / max(np.abs(values).max(), 1e-12)
    colors = np.where(relative[..., None] > 0, _rgb(ORANGE), _rgb(BLUE))
    return _blend(_gray(picture), colors, strength * np.abs(relative)[..., None])


def _blend(below, above, opacity):
    return np.clip(below + opacity * (above - below), 0, 255).astype("uint8")


def _gray(picture):
    gray = np.asarray(picture, "float32") @ np.array([0.299, 0.587, 0.114], "float32")
    return np.repeat(gray[..., None], 3, axis=-1)


def _rgb(color):
    return 255 * np.array(matplotlib.colors.to_rgb(color))
