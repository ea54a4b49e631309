"""Finds mirrored and slightly rotated copies of pictures by perceptual hashes.

Rotation leaves empty corners, so only the center of a picture is hashed. Rotation and the discrete
cosine transform are linear, so the frequencies of all versions of many pictures are one matrix
product.
"""

import functools

import numpy as np
from PIL import Image

from kerasfer.data.checks.duplicates import NEAR, WORDS, near_duplicates

SIDE = 32  # Pixels of the center, twice the number of frequencies.
MARGIN = 5  # Pixels around it that rotation may leave empty.
THUMBNAIL = SIDE + 2 * MARGIN
ANGLES = (-9, -6, -3, 3, 6, 9)  # Degrees. The hashes tolerate two degrees more or less.
CHANGES = ("mirrored", *(f"rotated by about {abs(angle)}°" for angle in ANGLES))
LARGE = 60_000  # Above, only pictures outside of the training split are compared with the others.
_TOLERANCE = 4  # More different bits than of near duplicates, due to the interpolation.
_FREQUENCIES = 16  # Per axis.
_SIGNS = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype("float32")


def thumbnail(picture):
    """Shrinks or enlarges a picture to what `center_hashes` needs.

    Args:
        picture: uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        uint8 `(THUMBNAIL, THUMBNAIL)`.
    """
    size = (THUMBNAIL, THUMBNAIL)
    return np.asarray(Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BICUBIC))


def center_hashes(thumbnails):
    """Hashes the centers of pictures, and their mirrored and rotated versions.

    Args:
        thumbnails: uint8 `(n, THUMBNAIL, THUMBNAIL)`, from `thumbnail`.

    Returns:
        uint64 `(n, 1 + len(CHANGES), 5)`, hashes as from `perceptual_hash`, of the picture itself
        first.
    """
    pixels = np.asarray(thumbnails, dtype="float32").reshape(-1, THUMBNAIL**2)
    shape = (len(pixels), 1 + len(ANGLES), _FREQUENCIES, _FREQUENCIES)
    low = (pixels @ _projection()).reshape(shape)
    # A mirror image has the same frequencies, of which every second one changes its sign.
    low = np.insert(low, 1, low[:, 0] * _SIGNS, axis=1)
    bits = []
    for count in (8, _FREQUENCIES):
        part = low[..., :count, :count].reshape(*low.shape[:2], count**2)
        bits.append(part > np.median(part, axis=-1, keepdims=True))
    return np.packbits(np.concatenate(bits, axis=-1), axis=-1).view("uint64")


@functools.cache
def _projection():
    """Returns the matrix from pixels to the frequencies of the center and its rotations."""
    waves = np.pi / SIDE * np.outer(np.arange(_FREQUENCIES), np.arange(SIDE) + 0.5)
    cosines = np.kron(np.cos(waves), np.cos(waves))  # (frequencies, pixels of the center)
    grid = np.arange(THUMBNAIL)
    offsets = np.arange(SIDE) - (SIDE - 1) / 2
    y, x = (axis.reshape(-1, 1) for axis in np.meshgrid(offsets, offsets, indexing="ij"))
    parts = []
    for angle in np.deg2rad([0, *ANGLES]):
        # The place in the picture of each pixel of the rotated center, and the weights there.
        column = np.cos(angle) * x - np.sin(angle) * y + (THUMBNAIL - 1) / 2
        row = np.sin(angle) * x + np.cos(angle) * y + (THUMBNAIL - 1) / 2
        weights = _cubic(row - grid)[:, :, None] * _cubic(column - grid)[:, None, :]
        parts.append(cosines @ weights.reshape(SIDE**2, THUMBNAIL**2))
    return np.concatenate(parts).T.astype("float32")


def _cubic(distance):
    """Returns the weights of bicubic interpolation for distances in pixels."""
    d = np.abs(distance)
    return np.where(
        d < 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0)
    )


def changed_duplicates(hashes, comparable=None, *, distance=NEAR):
    """Finds the pairs of which one picture is a mirrored or rotated copy of the other.

    Args:
        hashes: uint64 `(n, 1 + len(CHANGES), 5)`, from `center_hashes`.
        comparable: Indices of the pictures to compare with all others; `None` for all.
        distance: As for `near_duplicates`.

    Returns:
        A dict that maps pairs `(lower index, higher index)` to one of `CHANGES`.
    """
    hashes = np.asarray(hashes, dtype="uint64").reshape(-1, 1 + len(CHANGES), WORDS)
    comparable = np.arange(len(hashes)) if comparable is None else np.asarray(comparable)
    found = {}
    for number, change in enumerate(CHANGES, 1):
        pairs = near_duplicates(
            hashes[comparable, number], hashes[:, 0], distance=distance + _TOLERANCE
        )
        for one, other in pairs.tolist():
            one = int(comparable[one])
            if one != other:
                found.setdefault((min(one, other), max(one, other)), change)
    return found
