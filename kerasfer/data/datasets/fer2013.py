"""FER2013: 35,887 grey 48 x 48 faces from a web search (Goodfellow et al., ICONIP 2013).

Classes in the order of the release: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise,
6 neutral. Training trains, PublicTest validates, PrivateTest tests.

Any of the three releases is read, the first that is found:

    fer2013/fer2013.csv           emotion,pixels,Usage
    fer2013/icml_face_data.csv    emotion, Usage, pixels (with the spaces)
    fer2013/train/<class>/Training_*.jpg and fer2013/test/<class>/PublicTest_*|PrivateTest_*.jpg
"""

import csv
from pathlib import Path

import numpy as np

from kerasfer.data.pictures import list_class_folders, list_pictures
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
SIDE = 48  # pixels
SOURCE = (
    "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-"
    "recognition-challenge"
)


def load(data_dir):
    """Reads FER2013 from `data_dir`/fer2013.

    Args:
        data_dir: the folder that holds the datasets.

    Returns:
        `Samples` with the official splits; uint8 `(n, 48, 48)` from a CSV file, paths from folders.

    Raises:
        DataError: no release is there, or it is damaged; the message names the row or file.
    """
    folder = Path(data_dir) / "fer2013"
    for name in CSV_NAMES:
        if (folder / name).is_file():
            return _load_csv(folder / name)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _load_folders(folder)
    raise DataError(
        f"FER2013 was not found. Expected {folder}/fer2013.csv, {folder}/icml_face_data.csv or "
        f"{folder}/{{train,test}}/<class>/*.jpg. Get it from {SOURCE}, or point --data-dir "
        "(or $KERASFER_DATA) to the folder that holds fer2013/."
    )


def read_csv(path):
    """Reads the rows of fer2013.csv or icml_face_data.csv.

    Returns:
        Pictures, uint8 `(n, 48, 48)`; emotions, int64 `(n,)`; usages, a list of n names.

    Raises:
        DataError: a column is missing, or a row is damaged.
    """
    pictures, emotions, usages = [], [], []
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, ())]
        if not {"emotion", "pixels", "Usage"} <= set(header):
            raise DataError(
                f"{path} must have the columns emotion, pixels and Usage. Found: {header}."
            )
        emotion, pixels, usage = map(header.index, ("emotion", "pixels", "Usage"))
        for row in rows:
            if not row:
                continue
            try:
                pictures.append(_parse_pixels(row[pixels]))
                emotions.append(_parse_emotion(row[emotion]))
                usages.append(_parse_usage(row[usage]))
            except (IndexError, ValueError) as error:
                reason = "columns are missing" if isinstance(error, IndexError) else error
                raise DataError(
                    f"{path}, line {rows.line_num}: {reason}. "
                    "The file is damaged: unpack the release again."
                ) from None
    if not pictures:
        raise DataError(f"{path} has a header but no rows. Unpack the release again.")
    return np.stack(pictures).reshape(-1, SIDE, SIDE), np.array(emotions), usages


def _load_csv(path):
    pictures, emotions, usages = read_csv(path)
    return Samples(
        name="fer2013",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(emotions, len(CLASS_NAMES)),
        ids=[f"{path.name}:{line}" for line in range(2, len(pictures) + 2)],
        splits=np.array([USAGES[usage] for usage in usages]),
    )


def _load_folders(folder):
    pictures, targets, splits, ids = [], [], [], []
    for part in ("train", "test"):
        class_folders = list_class_folders(folder / part)
        if set(map(str.lower, class_folders)) != set(CLASS_NAMES):
            raise DataError(
                f"{folder / part} must have the class folders {', '.join(CLASS_NAMES)}. "
                f"Found: {', '.join(class_folders) or 'none'}."
            )
        for class_name, class_folder in class_folders.items():
            for path in list_pictures(class_folder):
                # The test folder merges two splits: only the file name tells them apart.
                usage = path.name.split("_")[0]
                if usage not in USAGES:
                    raise DataError(
                        f"{path}: the file name must begin with Training_, PublicTest_ or "
                        "PrivateTest_, which tells the split. Unpack the release again."
                    )
                pictures.append(path)
                targets.append(CLASS_NAMES.index(class_name.lower()))
                splits.append(USAGES[usage])
                ids.append(str(path.relative_to(folder).as_posix()))
    if not pictures:
        raise DataError(f"{folder}/{{train,test}}/<class>/ hold no pictures. Unpack them again.")
    return Samples(
        name="fer2013",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(targets, len(CLASS_NAMES)),
        ids=ids,
        splits=np.array(splits),
    )


def _parse_pixels(text):
    # np.fromstring parses a row in 30 microseconds, split and int in 150. int16 shows what uint8
    # would wrap around.
    values = np.fromstring(text, dtype="int16", sep=" ")
    if values.size != SIDE * SIDE:
        raise ValueError(f"expected {SIDE * SIDE} pixels, got {values.size}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels must be 0 to 255, got {values.min()} to {values.max()}")
    return values.astype("uint8")


def _parse_emotion(text):
    emotion = int(text) if text.strip().isdecimal() else -1
    if not 0 <= emotion < len(CLASS_NAMES):
        raise ValueError(f"the emotion must be 0 to {len(CLASS_NAMES) - 1}, got {text!r}")
    return emotion


def _parse_usage(text):
    if text.strip() not in USAGES:
        raise ValueError(f"Usage must be one of {', '.join(USAGES)}, got {text!r}")
    return text.strip()
