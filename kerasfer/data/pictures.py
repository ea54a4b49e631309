"""Picture files and arrays: finding them, decoding them to RGB, resizing them."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kerasfer.data.picture_files import FaceInPicture
from kerasfer.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SMALLEST_SIDE = 8  # pixels; nothing smaller can be a face
REMEDY = "Replace or remove the file, or leave out such pictures with data.on_bad_image=skip."

# Pillow warns from 89 megapixels on and refuses from 179 on: here a line that refuses is enough.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read_picture(path, remedy=REMEDY):
    """Decodes a picture file to uint8 RGB `(height, width, 3)`.

    Colour spaces, palettes and 16-bit greys become 8-bit RGB, transparency is laid on white, and
    the picture is turned upright as its EXIF orientation says.

    Args:
        path: the picture file, or a `FaceInPicture`, whose box alone is returned.
        remedy: the error's advice to the user.

    Raises:
        DataError: the file is no picture, is truncated, or the result has a side below 8 pixels.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "face.png"
    >>> Image.new("L", (48, 40), 128).save(path)
    >>> read_picture(path).shape
    (40, 48, 3)
    """
    box = None
    if isinstance(path, FaceInPicture):
        path, box = path.path, path.box
    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # a copy of 100 megapixels is 400 MB
            picture = np.array(_to_rgb(image if box is None else _cut_out(image, box)))
    # Pillow's decoders signal a damaged file by any of these.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as a picture: {_one_line(error)}. {remedy}"
        ) from error
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{path} is non-face-sized: expected at least {SMALLEST_SIDE} x {SMALLEST_SIDE} "
            f"pixels, got {width} x {height}. "
            f"{remedy}"
        )
    return picture


def resize(picture, size):
    """Resizes a uint8 picture to `(size, size)` or `(size, size, 3)`.

    Bilinear; when shrinking, the filter widens so that no detail aliases. The aspect ratio is not
    kept: face crops are square, or nearly so.

    Example:

    >>> resize(np.zeros((490, 640, 3), "uint8"), 48).shape
    (48, 48, 3)
    """
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def shrink(picture, longest):
    """Shrinks a uint8 RGB picture to a longest side of `longest` pixels, where it has more.

    Keeps the aspect ratio. Whole pixels are averaged first, which makes short work of 100
    megapixels.

    Example:

    >>> shrink(np.zeros((3000, 4000, 3), "uint8"), 1600).shape
    (1200, 1600, 3)
    """
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(pixels * scale)) for pixels in picture.shape[:2])
    image = Image.fromarray(picture)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def list_pictures(folder):
    """Lists the picture files of a folder, sorted by name; hidden files are passed over."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def list_class_folders(folder):
    """Maps class names to the subfolders of a folder, sorted by name.

    Hidden folders and the `__MACOSX` of archives made on a Mac are passed over.
    """
    return {
        path.name: path
        for path in sorted(Path(folder).iterdir())
        if path.is_dir() and not path.name.startswith((".", "__"))
    }


def _cut_out(image, box):
    left, top, width, height = box
    right, bottom = min(left + width, image.width), min(top + height, image.height)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        raise ValueError(
            f"the face box {box} (left, top, width, height) must lie in the picture, which has "
            f"{image.width} x {image.height} pixels"
        )
    return image.crop((left, top, right, bottom))


def _to_rgb(image):
    if image.mode.startswith(("I", "F")):  # 16-bit and deeper greys, which Pillow would clip
        depth = np.asarray(image, dtype="float32")
        if depth.max(initial=0.0) > 255:
            depth = depth / 257  # 65535 becomes 255
        image = Image.fromarray(depth.clip(0, 255).round().astype("uint8"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(error):
    return " ".join(str(error).split())
