"""Colors for maps: heat over a face, and what speaks for and against."""

import matplotlib
import numpy as np

from kerasfer.plotting import BLUE, ORANGE

HEAT = "inferno"  # readable with any color vision, and in gray


def overlay(picture, heat, strength=0.65):
    """Lays a heat map over a picture.

    The picture becomes gray, and the more transparent the heat the lower it is, so that the face
    stays visible where the model does not look.

    Args:
        picture: uint8 or float RGB `(h, w, 3)` in [0, 255].
        heat: float `(h, w)` in [0, 1].
        strength: opacity of the highest value, in [0, 1].

    Returns:
        uint8 `(h, w, 3)`.
    """
    colors = 255 * matplotlib.colormaps[HEAT](np.clip(heat, 0, 1))[..., :3]
    opacity = strength * np.clip(heat, 0, 1)[..., None] ** 0.7
    return _blend(_gray(picture), colors, opacity)


def overlay_signed(picture, values, strength=0.8):
    """Lays a signed map over a picture: orange speaks for, blue against, gray is neither.

    Args:
        picture: uint8 or float RGB `(h, w, 3)` in [0, 255].
        values: float `(h, w)`; the largest magnitude has the fullest color.
        strength: its opacity, in [0, 1].

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
