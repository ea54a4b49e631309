"""Finds mirrored and slightly rotated copies of pictures by perceptual hashes.

Rotation leaves empty corners, so only the center of a picture is hashed. Of copies of FER2013 faces
that were rotated by 2 to 10 degrees, at least 99.5 % were found.
"""

import numpy as np
from PIL import Image

from kerasfer.data.checks.duplicates import NEAR, WORDS, near_duplicates

SIDE = 64  # Pixels of the center.
MARGIN = 10  # Pixels around it that rotation may leave empty.
ANGLES = (-9, -6, -3, 3, 6, 9)  # Degrees. The hashes tolerate two degrees more or less.
CHANGES = ("mirrored", *(f"rotated by about {abs(angle)}°" for angle in ANGLES))
LARGE = 60_000  # Above, only pictures outside of the training split are compared with the others.
_FREQUENCIES = np.cos(
    np.pi * np.arange(16)[:, None] * (2 * np.arange(SIDE)[None] + 1) / (2 * SIDE)
).astype("float32")  # Of the discrete cosine transform.
_SIGNS = np.where(np.arange(16) % 2, -1, 1).astype("float32")


def center_hashes(picture):
    """Hashes the center of a picture, and its mirrored and rotated versions.

    Args:
        picture: uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        uint64 `(1 + len(CHANGES), 5)`, hashes as from `perceptual_hash`, of the picture itself
        first.
    """
    side = SIDE + 2 * MARGIN
    gray = Image.fromarray(picture).convert("L").resize((side, side), Image.Resampling.BICUBIC)
    box = (MARGIN, MARGIN, MARGIN + SIDE, MARGIN + SIDE)
    turned = [gray.rotate(angle, Image.Resampling.BICUBIC) for angle in ANGLES]
    centers = np.stack([np.asarray(image.crop(box), dtype="float32") for image in (gray, *turned)])
    low = _FREQUENCIES @ centers @ _FREQUENCIES.T
    # A mirror image has the same frequencies, of which every second one changes its sign.
    low = np.insert(low, 1, low[0] * _SIGNS, axis=0)
    parts = [part.reshape(len(low), -1) for part in (low[:, :8, :8], low)]
    bits = [part > np.median(part, axis=1, keepdims=True) for part in parts]
    return np.packbits(np.concatenate(bits, axis=1), axis=1).view("uint64")


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
        pairs = near_duplicates(hashes[comparable, number], hashes[:, 0], distance=distance)
        for one, other in pairs.tolist():
            one = int(comparable[one])
            if one != other:
                found.setdefault((min(one, other), max(one, other)), change)
    return found
