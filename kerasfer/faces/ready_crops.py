"""Recognizes pictures that are probably face crops."""

from PIL import Image

LARGEST_CROP = 256  # Pixels. Datasets of crops have 48 (FER2013), 100 (RAF-DB) or 224 (AffectNet).
MOST_ASPECT = 1.25


def looks_like_crop(path):
    """Returns whether a picture file is small and nearly square, like a crop of one face.

    Detectors often find no face in such a picture, because they need some of its surroundings.
    Only the header of the file is read. A file that cannot be read does not look like a crop.

    Args:
        path: The picture file.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "face.png"
    >>> Image.new("L", (48, 48)).save(path)
    >>> looks_like_crop(path)
    True
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # As Pillow raises.
        return False
    return max(width, height) <= min(LARGEST_CROP, MOST_ASPECT * min(width, height))
