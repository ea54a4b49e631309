"""AffectNet: 291,651 faces from the web, judged by one person each (Mollahosseini et al., 2017).

IEEE Transactions on Affective Computing. Classes in the order of the release: 0 neutral, 1 happy,
2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt. Faces with the codes 8 none, 9 uncertain
and 10 no-face are left out. The test pictures were never published: as in the papers, the release's
validation pictures are the test split, and the protocol draws validation from training.

Either release is read, the first that is found:

    2017  affectnet/Manually_Annotated_file_lists/training.csv, validation.csv
          affectnet/Manually_Annotated_Images/<folder>/<picture>   cut out by the list's face box
    2021  affectnet/train_set/images/<id>.jpg, affectnet/train_set/annotations/<id>_exp.npy
          affectnet/val_set/...
"""

import csv
import os
from array import array
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from kerasfer.data.picture_files import Names, PictureFiles
from kerasfer.data.pictures import SUFFIXES
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError

CLASS_NAMES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
LAST_CODE = 10  # no-face
LISTS = Path("Manually_Annotated_file_lists")
PICTURES = Path("Manually_Annotated_Images")
LIST_FILES = {"validation.csv": "test", "training.csv": "train"}
SETS = {"val_set": "test", "train_set": "train"}
COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
MOST_BYTES = 4096  # of a label file, which has some 130
RELEASES = (2017, 2021)
SOURCE = "http://mohammadmahoor.com/affectnet/"


def load(data_dir, *, release=None):
    """Lists AffectNet's manually annotated faces from `data_dir`/affectnet.

    No picture is opened, and what is kept of each is its name, its face box and its label: 287,651
    of them take some 70 MB.

    Args:
        data_dir: the folder that holds the datasets.
        release: 2017 or 2021; None for the one that is there, of both the older one, whose pictures
            have the names that lists of occluded and turned faces use.

    Returns:
        `Samples` with the splits train and test, and pictures as files. Pictures without a label
        file are left out, and of rows that name a picture again the first counts, those of the
        test split before the others.

    Raises:
        RecipeError: no such release.
        DataError: the release is missing or damaged; the message names the line or file.
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
        for line, row in _read_rows(path):
            try:
                name, box, code = _parse(row)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {line}: {error}. Unpack the release again."
                ) from None
            if code >= len(CLASS_NAMES) or name in names:
                continue
            if not os.path.isfile(folder / PICTURES / name):
                raise DataError(
                    f"{path}, line {line}: expected the picture {folder / PICTURES / name}, which "
                    "does not exist. Unpack the release again."
                )
            names[name] = None
            boxes.extend(box)
            targets.append(code)
        splits += [split] * (len(names) - len(splits))
    names = Names(names)
    boxes = np.frombuffer(boxes, dtype="int32").reshape(-1, 4)
    return _samples(PictureFiles(folder / PICTURES, names, boxes), targets, splits)


def _load_2021(folder):
    names, targets, splits = [], bytearray(), []
    for set_name, split in SETS.items():
        labels = folder / set_name / "annotations"
        for part in (folder / set_name / "images", labels):
            if not part.is_dir():
                raise DataError(
                    f"AffectNet is incomplete: expected {part}. Unpack the release again."
                )
        with os.scandir(labels) as entries:
            labelled = {
                entry.name.removesuffix("_exp.npy")
                for entry in entries
                if entry.name.endswith("_exp.npy") and not entry.name.startswith(".")
            }
        with os.scandir(folder / set_name / "images") as entries:
            file_names = sorted((entry.name for entry in entries), key=_number)
        for name in file_names:
            stem, suffix = os.path.splitext(name)
            if stem not in labelled or suffix.lower() not in SUFFIXES:
                continue
            labelled.remove(stem)
            code = _read_code(labels / f"{stem}_exp.npy")
            if code < len(CLASS_NAMES):
                names.append(f"{set_name}/images/{name}")
                targets.append(code)
        if labelled:
            raise DataError(
                f"{folder / set_name / 'images'} lacks {len(labelled):,} of the pictures that "
                f"annotations/ labels, {min(labelled)}.jpg among them. Unpack the release again."
            )
        splits += [split] * (len(names) - len(splits))
    return _samples(PictureFiles(folder, names), targets, splits)


def _samples(pictures, targets, splits):
    if not splits:
        raise DataError(
            f"{pictures.folder} holds no labelled face of the eight expressions. "
            "Unpack the release again."
        )
    return Samples(
        name="affectnet",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(np.frombuffer(targets, dtype="uint8"), len(CLASS_NAMES)),
        ids=pictures.names,
        splits=np.array(splits),
    )


def _read_rows(path):
    """Yields (line number, the fields of `COLUMNS`) of a list, one row at a time."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file, skipinitialspace=True)
        header = [name.strip() for name in next(rows, ())]
        if missing := [name for name in COLUMNS if name not in header]:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}. Found: {header}.")
        places = [header.index(name) for name in COLUMNS]
        for row in rows:
            if row:
                yield (
                    rows.line_num,
                    [row[place].strip() if place < len(row) else "" for place in places],
                )


def _parse(row):
    """Turns the fields of a row into name, box and code."""
    name, *numbers = row
    if not name:
        raise ValueError("the picture's path is missing")
    try:
        *box, code = (int(float(number)) for number in numbers)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{', '.join(COLUMNS[1:])} must be numbers, got {', '.join(numbers)!r}"
        ) from None
    if not 0 <= code <= LAST_CODE:
        raise ValueError(f"expression must be 0 to {LAST_CODE}, got {code}")
    return name.replace("\\", "/"), box, code


def _read_code(path):
    """Reads the expression of one face: an array of one number, or of one number's letters."""
    try:
        with open(path, "rb") as file:
            code = _decode(file.read(MOST_BYTES))
    except (OSError, ValueError, TypeError, EOFError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
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
    # 290,000 files have a dozen different contents: so loading takes seconds, not a minute.
    return int(float(np.load(BytesIO(content), allow_pickle=False).item()))


def _number(file_name):
    """Sorts `2.jpg` before `10.jpg`."""
    stem = os.path.splitext(file_name)[0]
    return int(stem) if stem.isdecimal() else -1
