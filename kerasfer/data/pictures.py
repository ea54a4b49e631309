"""Decodes picture files to uint8 RGB, and resizes pictures."""

import contextlib
import io
import os
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from kerasfer.data.picture_files import FaceInPicture
from kerasfer.data.shards import PictureInShard
from kerasfer.errors import DataError
from kerasfer.text import printable

# The only decoders that may run. Pillow has many more, some of which start other programs (EPS) or
# are hardly tested. JPEG includes MPO, the format of many phones, and PPM includes PGM and PBM.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SMALLEST_SIDE = 8  # Pixels. A smaller picture cannot show a face.
REMEDY = "Replace or remove the file, or leave out such pictures with data.on_bad_image=skip."
ORIENTATION = 0x0112  # The EXIF tag.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders and its EXIF parser raise on damaged files, as found by fuzzing.
DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
# The first bytes of files that are often mistaken for pictures: (offset, bytes, what it is).
LOOKALIKES = (
    (4, b"ftyphei", "a HEIC picture. HEIC is unsupported, so convert it to JPEG"),
    (4, b"ftyphev", "a HEIC picture. HEIC is unsupported, so convert it to JPEG"),
    (4, b"ftypmif1", "a HEIC picture. HEIC is unsupported, so convert it to JPEG"),
    (4, b"ftypmsf1", "a HEIC picture. HEIC is unsupported, so convert it to JPEG"),
    (4, b"ftypavi", "an AVIF picture, which this Pillow cannot decode (pip install -U pillow)"),
    (4, b"ftyp", "a video, of which `kerasfer video` reads the faces"),
    (0, b"\x1aE\xdf\xa3", "a video, of which `kerasfer video` reads the faces"),
    (8, b"AVI ", "a video, of which `kerasfer video` reads the faces"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer. Fetch the file itself (git lfs pull)"),
    (0, b"<", "a web page or an SVG drawing"),
)

# Pillow warns above 89 megapixels and refuses above 179. The error alone is sufficient here. The
# other warnings are about damaged metadata, which is ignored.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_picture(path, remedy=REMEDY, *, shortest=None):
    """Decodes a picture file to uint8 RGB `(height, width, 3)`.

    Color spaces, palettes, gray values of 16 bits and floating-point gray values become 8-bit RGB.
    Transparent pixels become white. The picture is turned upright according to its EXIF
    orientation, and damaged EXIF data is ignored. Of an animation, the first frame is read.

    Args:
        path: The picture file; a `FaceInPicture`, of which only the box is returned; or a
            `kerasfer.data.shards.PictureInShard`.
        remedy: The advice at the end of an error message.
        shortest: int. A picture with a shorter side of at least twice this length is shrunk until
            its shorter side has this length, which saves most of the decoding of a JPEG file. With
            `None` no picture is shrunk.

    Raises:
        DataError: If the file is not a regular file, is not a picture of one of `FORMATS`, is
            damaged, or if one side has fewer than 8 pixels.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "face.png"
    >>> Image.new("L", (48, 40), 128).save(path)
    >>> read_picture(path).shape
    (40, 48, 3)
    """
    path, box = (path.path, path.box) if isinstance(path, FaceInPicture) else (path, None)
    start = b""
    try:
        with _opened(path) as file:
            start = file.read(32)
            file.seek(0)
            picture = _decode(file, box, shortest)
    except DECODER_ERRORS as error:
        raise DataError(
            f"{printable(path)} cannot be read as a picture: {_reason(error, start)}. {remedy}"
        ) from error
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{printable(path)} is too small to show a face: expected at least {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE} pixels, got {width} x {height}. {remedy}"
        )
    return picture


def picture_size(path):
    """Returns the width and height that `read_picture` would return, without decoding the file.

    The EXIF orientation is not considered.

    Args:
        path: As for `read_picture`.

    Returns:
        `(width, height)` in pixels, or `None` if the file cannot be read.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "face.png"
    >>> Image.new("L", (48, 40), 128).save(path)
    >>> picture_size(path)
    (48, 40)
    """
    path, box = (path.path, path.box) if isinstance(path, FaceInPicture) else (path, None)
    try:
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            left, top, right, bottom = _corners(image, box or (0, 0, *image.size))
            return right - left, bottom - top
    except (DataError, *DECODER_ERRORS):
        return None


def resize(picture, size):
    """Resizes a uint8 picture to `(size, size)` or `(size, size, 3)`.

    The interpolation is bilinear with antialiasing. The aspect ratio is not kept, since face crops
    are square or nearly so.

    Example:

    >>> resize(np.zeros((490, 640, 3), "uint8"), 48).shape
    (48, 48, 3)
    """
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def shrink(picture, longest):
    """Shrinks a uint8 RGB picture until its longest side has `longest` pixels.

    The aspect ratio is kept, and a smaller picture is returned unchanged. Blocks of pixels are
    averaged first, which makes this fast for large pictures.

    Example:

    >>> shrink(np.zeros((3000, 4000, 3), "uint8"), 1600).shape
    (1200, 1600, 3)
    """
    if longest >= max(picture.shape[:2]):
        return picture
    return np.asarray(_scaled(Image.fromarray(picture), longest / max(picture.shape[:2])))


@contextlib.contextmanager
def _opened(picture):
    """Opens a picture file, or the bytes of a `PictureInShard`."""
    if isinstance(picture, PictureInShard):
        yield io.BytesIO(picture.read())
        return
    with open(picture, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        yield file


def _open_without_waiting(path, flags):
    """Opens a FIFO without waiting for a writer, so that it can be recognized and refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decode(file, box, shortest):
    with Image.open(file, formats=FORMATS) as image:
        size = image.size if box is None else box[2:]
        shrinks = shortest is not None and min(size) >= 2 * shortest
        if shrinks and box is None:
            scale = shortest / min(image.size)
            # Decodes a JPEG file at an eighth, a quarter or half of its size; elsewhere no effect.
            image.draft(None, tuple(round(side * scale) for side in image.size))
        has_16_bit_colors = any(";16" in str(tile.args) for tile in image.tile)
        image.load()
        if has_16_bit_colors and image.mode == "RGB":
            _check_16_bit_colors(image)
        orientation = _orientation(image)
        picture = _to_rgb(image if box is None else image.crop(_corners(image, box)))
        if shrinks and min(picture.size) > shortest:
            picture = _scaled(picture, shortest / min(picture.size))
        if orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[orientation])
        return np.array(picture)


def _orientation(image):
    try:
        return image.getexif().get(ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1


def _scaled(image, scale):
    width, height = (max(1, round(pixels * scale)) for pixels in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _corners(image, box):
    """Returns left, top, right and bottom of the part of a face box that is in the picture."""
    left, top, width, height = box
    right, bottom = min(left + width, image.width), min(top + height, image.height)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        raise ValueError(
            f"the face box {box} (left, top, width, height) must lie in the picture, which has "
            f"{image.width} x {image.height} pixels"
        )
    return left, top, right, bottom


def _to_rgb(image):
    if image.mode.startswith(("I", "F")):  # Pillow would clip these at 255.
        image = Image.fromarray(_to_bytes(np.asarray(image, dtype="float64")))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_bytes(gray):
    """Scales gray values of more than 8 bits to uint8.

    The scale follows from the largest value: up to 1 for floating-point files, then 8, 10, 12 and
    16 bits. Cameras with 10 or 12 bits write their values into 16-bit files, where they would
    otherwise look nearly black.
    """
    low, high = gray.min(initial=0.0), gray.max(initial=0.0)
    if not (low >= 0 and high <= 65535):
        raise ValueError(
            "gray values must be in [0, 1], [0, 255] or [0, 65535], got values from "
            f"{low:g} to {high:g}"
        )
    white = next(white for white in (1, 255, 1023, 4095, 65535) if high <= white)
    if white == 1 and (gray == gray.round()).all():
        white = 255  # Integers: a picture that really is black.
    return (gray * (255 / white)).round().astype("uint8")


def _check_16_bit_colors(image):
    """Refuses colors of 12 bits in a file of 16 bits, of which Pillow keeps only the upper 8."""
    brightest = max(high for _, high in image.getextrema())
    if 0 < brightest < 16:
        raise ValueError(
            "its colors have 16 bits and are all below 4096 of 65535, so it would be nearly black. "
            "Scale the colors to 16 bits, or save them with 8 bits"
        )


def _reason(error, start):
    for offset, magic, what in LOOKALIKES:
        if start[offset:].startswith(magic):
            return f"it is {what}"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it has none of the supported formats ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split())) or type(error).__name__
