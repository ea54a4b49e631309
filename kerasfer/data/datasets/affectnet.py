"""AffectNet: 291,651 faces from the web, labeled by one person each (Mollahosseini et al., 2017).

IEEE Transactions on Affective Computing. The classes have the order of the release: 0 neutral,
1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt. Faces with the codes 8 none,
9 uncertain and 10 no-face are left out. The test pictures were never published. As in the papers,
the validation pictures of the release are the test split, and the protocol draws the validation
split from train.

Two releases are supported, and the first one found is loaded:

    2017  affectnet/Manually_Annotated_file_lists/training.csv, validation.csv
          affectnet/Manually_Annotated_Images/<folder>/<picture>   cropped by the face box
    2021  affectnet/train_set/images/<id>.jpg, affectnet/train_set/annotations/<id>_exp.npy
          affectnet/val_set/...
"""

import os
import tokenize
from array import array
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from kerasfer.data.listing import SUFFIXES
from kerasfer.data.picture_files import Names, PictureFiles
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.data.text_files import read_rows
from kerasfer.errors import DataError, RecipeError
from kerasfer.text import printable

CLASS_NAMES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
LAST_CODE = 10  # No face.
LISTS = Path("Manually_Annotated_file_lists")
PICTURES = Path("Manually_Annotated_Images")
LIST_FILES = {"validation.csv": "test", "training.csv": "train"}
HALVES = {"val_set": "test", "train_set": "train"}
COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
MOST_BYTES = 4096  # A label file has about 130.
MOST_PIXELS = 2**24  # Larger numbers in a face box are damaged.
# What NumPy raises on damaged files.
NPY_ERRORS = (
    *(OSError, ValueError, TypeError, EOFError, OverflowError, SyntaxError, LookupError),
    *(MemoryError, RecursionError, SystemError, tokenize.TokenError),
)
RELEASES = (2017, 2021)
SOURCE = "http://mohammadmahoor.com/affectnet/"


def load(data_dir, *, release=None):
    """Lists the manually annotated faces of AffectNet from `data_dir`/affectnet.

    No picture is opened. The name, face box and label of each picture are kept, about 70 MB for
    287,651 of them.

    Args:
        data_dir: The folder that holds the datasets.
        release: 2017 or 2021; `None` for the one that is found. If both are, it is 2017, whose file
            names are used by the lists of occluded and turned faces.

    Returns:
        `Samples` with the splits train and test, and pictures as files. Pictures without a label
        file are left out. If several rows name the same picture, the first one is used, and rows of
        the test split precede the others.

    Raises:
        RecipeError: If the release is unknown.
        DataError: If the release is missing or damaged. The message names the line or file.
    """
    if release not in (None, *RELEASES):
        raise RecipeError(f"data.release must be one of {RELEASES}. Received: {release!r}.")
    folder = Path(data_dir) / "affectnet"
    if release != 2021 and (folder / LISTS).is_dir() and (folder / PICTURES).is_dir():
        return _load_2017(folder)
    if release != 2017 and (folder / "train_set").is_dir() and (folder / "val_set").is_dir():
        return _load_2021(folder)
    trees = {
        2017: f"{folder / LISTS}/{{training,validation}}.csv with {folder / PICTURES}/<folder>/*",
        2021: f"{folder}/{{train_set,val_set}}/images/<id>.jpg with annotations/<id>_exp.npy",
    }
    expected = " or ".join(trees[year] for year in RELEASES if release in (None, year))
    raise DataError(
        f"AffectNet was not found. Expected {expected}. Apply for it at {SOURCE}, or point "
        "--data-dir (or $KERASFER_DATA) to the folder that holds affectnet/."
    )


def _load_2017(folder):
    names, boxes, targets, splits = {}, array("i"), bytearray(), []
    for file_name, split in LIST_FILES.items():
        path = folder / LISTS / file_name
        if not path.is_file():
            raise DataError(f"AffectNet is incomplete: expected {path}. Unpack the release again.")
        for line, row in read_rows(path, COLUMNS):
            try:
                name, box, code = _parse(row)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {line}: {error}. Unpack the release again."
                ) from None
            if code >= len(CLASS_NAMES) or name in names:
                continue
            if "\0" in name or not os.path.isfile(folder / PICTURES / name):
                raise DataError(
                    f"{path}, line {line}: expected the picture "
                    f"{printable(folder / PICTURES / name)[:300]}, which does not exist. Unpack "
                    "the release again."
                )
            names[name] = None
            boxes.extend(box)
            targets.append(code)
        splits += [split] * (len(names) - len(splits))
    names = Names(names)
    boxes = np.frombuffer(boxes, dtype="int32").reshape(-1, 4)
    return _samples(PictureFiles(folder / PICTURES, names, boxes), targets, splits, folder, 2017)


def _load_2021(folder):
    names, targets, splits = [], bytearray(), []
    for half, split in HALVES.items():
        labels = folder / half / "annotations"
        for part in (folder / half / "images", labels):
            if not part.is_dir():
                raise DataError(
                    f"AffectNet is incomplete: expected {part}. Unpack the release again."
                )
        with os.scandir(labels) as entries:
            labeled = {
                entry.name.removesuffix("_exp.npy")
                for entry in entries
                if entry.name.endswith("_exp.npy") and not entry.name.startswith(".")
            }
        with os.scandir(folder / half / "images") as entries:
            file_names = sorted((entry.name for entry in entries), key=_number)
        for name in file_names:
            stem, suffix = os.path.splitext(name)
            if stem not in labeled or suffix.lower() not in SUFFIXES:
                continue
            labeled.remove(stem)
            code = _read_code(labels / f"{stem}_exp.npy")
            if code < len(CLASS_NAMES):
                names.append(f"{half}/images/{name}")
                targets.append(code)
        if labeled:
            raise DataError(
                f"{folder / half / 'images'} lacks {len(labeled):,} of the pictures that "
                f"annotations/ labels, {min(labeled)}.jpg among them. Unpack the release again."
            )
        splits += [split] * (len(names) - len(splits))
    return _samples(PictureFiles(folder, names), targets, splits, folder, 2021)


def _samples(pictures, targets, splits, folder, release):
    if not splits:
        raise DataError(
            f"{pictures.folder} holds no labeled face of the eight expressions. "
            "Unpack the release again."
        )
    return Samples(
        name="affectnet",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(np.frombuffer(targets, dtype="uint8"), len(CLASS_NAMES)),
        ids=pictures.names,
        splits=np.array(splits),
        source=source_of(folder.resolve(), release=release),
    )


def _parse(row):
    """Parses the fields of a row: name, box and code."""
    name, *numbers = row
    if not name:
        raise ValueError("the picture's path is missing")
    try:
        *box, code = (int(float(number)) for number in numbers)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{', '.join(COLUMNS[1:])} must be numbers, got {', '.join(numbers)[:80]!a}"
        ) from None
    if not 0 <= code <= LAST_CODE:
        raise ValueError(f"expression must be 0 to {LAST_CODE}, got {code}")
    if not all(abs(number) < MOST_PIXELS for number in box):
        raise ValueError(f"the face box must be in pixels, got {box}")
    return name.replace("\\", "/"), box, code


def _read_code(path):
    """Reads the expression of one face, an array of one number or of its digits."""
    try:
        with open(path, "rb") as file:
            code = _decode(file.read(MOST_BYTES))
    except NPY_ERRORS as error:
        reason = printable(" ".join(str(error).split())[:120])
        raise DataError(
            f"{path} cannot be read as one number: {reason}. Unpack the release again."
        ) from error
    if not 0 <= code <= LAST_CODE:
        raise DataError(
            f"{path} must hold a number from 0 to {LAST_CODE}. Found: {code}. "
            "Unpack the release again."
        )
    return code


@lru_cache(maxsize=256)
def _decode(content):
    # 290,000 files have a dozen different contents, so this takes seconds instead of a minute.
    # np.load would also open archives.
    return int(float(np.lib.format.read_array(BytesIO(content), allow_pickle=False).item()))


def _number(file_name):
    """Sorts `2.jpg` before `10.jpg`."""
    stem = os.path.splitext(file_name)[0]
    return int(stem) if stem.isdecimal() else -1
