"""FER2013: 35,887 gray 48 x 48 faces from a web search (Goodfellow et al., ICONIP 2013).

The classes have the order of the release: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise,
6 neutral. Training is the training split, PublicTest validation, and PrivateTest the test split.

These releases are supported, in fer2013/ or in a folder in it, and the first one found is loaded:

    fer2013.csv           emotion,pixels,Usage
    icml_face_data.csv    emotion, Usage, pixels (with the spaces)
    train/<class>/Training_*.jpg and test/<class>/PublicTest_*|PrivateTest_*.jpg
    train/<class>/* and test/<class>/* or validation/<class>/* with other file names: copies that
                          merge PublicTest and PrivateTest into one test split

A CSV file without Usage is accepted if it has the rows of the release in their order.
"""

from pathlib import Path

import numpy as np

from kerasfer.data.datasets.folder import split_named
from kerasfer.data.listing import list_class_folders, list_pictures
from kerasfer.data.samples import SPLITS, Samples, one_hot, source_of
from kerasfer.data.text_files import read_rows
from kerasfer.errors import DataError
from kerasfer.text import printable

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OTHER_NAMES = {
    **{"anger": "angry", "disgusted": "disgust", "fearful": "fear", "happiness": "happy"},
    **{"sadness": "sad", "surprised": "surprise"},
}
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
NUM_ROWS = {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}  # In this order.
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
CONTAINERS = ("fer2013", "fer2013/fer2013", "images", "archive", "archive/fer2013", "data")
SIDE = 48  # Pixels.
SOURCE = (
    "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-"
    "recognition-challenge"
)
DAMAGED = "The file is damaged: unpack the release again."


def load(data_dir):
    """Loads FER2013 from `data_dir`/fer2013.

    Args:
        data_dir: The folder that holds the datasets.

    Returns:
        `Samples` with the official splits; uint8 `(n, 48, 48)` from a CSV file, paths from folders.
        Its `notes` say where a copy differs from the release.

    Raises:
        DataError: If no release is found or it is damaged. The message names the row or file.
    """
    root = Path(data_dir) / "fer2013"
    places = [root, *(root / name for name in CONTAINERS)]
    if path := find_csv(root):
        return _load_csv(path)
    for place in places:
        parts = _find_parts(place)
        if "train" in parts and len(parts) > 1:
            return _load_folders(root, parts)
    raise DataError(
        f"FER2013 was not found. Expected {root}/fer2013.csv, {root}/icml_face_data.csv or "
        f"{root}/{{train,test}}/<class>/*.jpg. Get it from {SOURCE}, or point --data-dir "
        "(or $KERASFER_DATA) to the folder that holds fer2013/."
    )


def find_csv(folder):
    """Returns the CSV file of the release in a folder or in a folder in it, or `None`."""
    places = [folder, *(folder / name for name in CONTAINERS)]
    paths = [place / name for place in places for name in CSV_NAMES]
    return next((path for path in paths if path.is_file()), None)


def read_csv(path):
    """Reads the rows of fer2013.csv or icml_face_data.csv.

    Returns:
        Pictures, uint8 `(n, 48, 48)`; emotions, int64 `(n,)`; usages, a list of n names; and
        notes, a list of lines.

    Raises:
        DataError: If a column is missing, or a row is damaged.
    """
    pictures, emotions, usages = [], [], []
    rows = read_rows(path, ("emotion", "pixels"), DAMAGED, optional=("Usage",))
    for line, (emotion, pixels, usage) in rows:
        try:
            pictures.append(_parse_pixels(pixels))
            emotions.append(_parse_emotion(emotion))
            if usage is not None:
                usages.append(_parse_usage(usage))
        except ValueError as error:
            raise DataError(f"{printable(path)}, line {line}: {error}. {DAMAGED}") from None
    if not pictures:
        raise DataError(f"{printable(path)} has a header but no rows. Unpack the release again.")
    notes = []
    if not usages:
        if len(pictures) != sum(NUM_ROWS.values()):
            raise DataError(
                f"{printable(path)} has no column Usage, which determines the splits, and "
                f"{len(pictures):,} rows instead of {sum(NUM_ROWS.values()):,}. Get the release "
                f"from {SOURCE}."
            )
        usages = [usage for usage, number in NUM_ROWS.items() for _ in range(number)]
        notes.append(f"{path.name} has no column Usage: the splits follow from the order of rows")
    return np.stack(pictures).reshape(-1, SIDE, SIDE), np.array(emotions), usages, notes


def _load_csv(path):
    pictures, emotions, usages, notes = read_csv(path)
    return Samples(
        name="fer2013",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(emotions, len(CLASS_NAMES)),
        ids=[f"{path.name}:{line}" for line in range(2, len(pictures) + 2)],
        splits=np.array([USAGES[usage] for usage in usages]),
        source=source_of(path.resolve()),
        notes=tuple(notes),
    )


def _find_parts(folder):
    """Maps splits to their folders."""
    if not folder.is_dir():
        return {}
    found = {split_named(name): place for name, place in list_class_folders(folder).items()}
    return {split: found[split] for split in SPLITS if split in found}


def _load_folders(root, parts):
    pictures, targets, splits, ids = [], [], [], []
    merged = []
    for split, part in parts.items():
        for target, class_folder in _class_folders(part).items():
            for path in list_pictures(class_folder):
                # The test folder merges two splits, which only the file name distinguishes.
                usage = path.name.split("_")[0]
                if usage not in USAGES and split != "train":
                    merged.append(path)
                pictures.append(path)
                targets.append(target)
                splits.append(USAGES.get(usage, split))
                ids.append(path.relative_to(root).as_posix())
    if not pictures:
        raise DataError(f"{root}/{{train,test}}/<class>/ hold no pictures. Unpack them again.")
    notes, splits = [], np.array(splits)
    if merged:
        if len(merged) < (splits != "train").sum():
            raise DataError(
                f"{printable(merged[0])}: the file name must begin with PublicTest_ or "
                "PrivateTest_ like the others, which tells the split. Unpack the release again."
            )
        if "test" not in parts:
            splits[splits == "validation"] = "test"
        notes.append(
            "the file names do not distinguish PublicTest and PrivateTest, so both are in test and "
            "the accuracy is not comparable with published results"
        )
    return Samples(
        name="fer2013",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(targets, len(CLASS_NAMES)),
        ids=ids,
        splits=splits,
        source=source_of(root.resolve()),
        notes=tuple(notes),
    )


def _class_folders(part):
    """Maps the index of each class to its folder, by the name of the class or a synonym."""
    found = {}
    for name, place in list_class_folders(part).items():
        known = OTHER_NAMES.get(name.lower(), name.lower())
        found[known] = place
    if set(found) != set(CLASS_NAMES):
        raise DataError(
            f"{part} must have the class folders {', '.join(CLASS_NAMES)}. "
            f"Found: {printable(', '.join(place.name for place in found.values())) or 'none'}."
        )
    return {CLASS_NAMES.index(name): place for name, place in found.items()}


def _parse_pixels(text):
    # np.fromstring parses a row in 30 microseconds, split and int in 150. int64 saturates, while
    # smaller types turn 65543 into 7.
    values = np.fromstring(text, dtype="int64", sep=" ")
    if values.size != SIDE * SIDE:
        raise ValueError(f"expected {SIDE * SIDE} pixels, got {values.size}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels must be 0 to 255, got {values.min()} to {values.max()}")
    return values.astype("uint8")


def _parse_emotion(text):
    emotion = int(text) if text.isdecimal() and len(text) < 9 else -1
    if not 0 <= emotion < len(CLASS_NAMES):
        raise ValueError(f"the emotion must be 0 to {len(CLASS_NAMES) - 1}, got {text[:40]!a}")
    return emotion


def _parse_usage(text):
    if text not in USAGES:
        raise ValueError(f"Usage must be one of {', '.join(USAGES)}, got {text[:40]!a}")
    return text
