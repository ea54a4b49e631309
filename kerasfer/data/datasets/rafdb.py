"""RAF-DB, the basic expressions: 15,339 faces from the web (Li et al., CVPR 2017).

The classes have the order of the release's codes, from 1: surprise, fear, disgust, happiness,
sadness, anger, neutral. The release has no validation split, so the protocol draws one from train.

    rafdb/EmoLabel/list_patition_label.txt      train_00001.jpg 5    (spelled as in the release)
    rafdb/Image/aligned/train_00001_aligned.jpg
"""

import os
import re
from pathlib import Path

import numpy as np

from kerasfer.data.picture_files import Names, PictureFiles
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.data.text_files import read_text
from kerasfer.errors import DataError

CLASS_NAMES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
LABELS = Path("EmoLabel/list_patition_label.txt")
LINE = re.compile(r"(?P<name>(train|test)_\d+\.\w+)\s+(?P<code>\d)", re.IGNORECASE)
PICTURES = Path("Image/aligned")
SOURCE = "http://www.whdeng.cn/RAF/model1.html"


def load(data_dir):
    """Loads the basic set of RAF-DB from `data_dir`/rafdb, with the aligned faces of 100 x 100.

    Args:
        data_dir: The folder that holds the datasets.

    Returns:
        `Samples` with the splits train and test, and pictures as files. Ids are the names in the
        label file, such as `"test_0001.jpg"`.

    Raises:
        DataError: If the release is missing or damaged. The message names the line or file.
    """
    folder = Path(data_dir) / "rafdb"
    path = folder / LABELS
    if not path.is_file() or not (folder / PICTURES).is_dir():
        raise DataError(
            f"RAF-DB was not found. Expected {path} and {folder / PICTURES}/train_00001_aligned."
            f"jpg. Apply for it at {SOURCE}, or point --data-dir (or $KERASFER_DATA) to the folder "
            "that holds rafdb/."
        )
    names, targets, splits = _read_labels(path)
    files = {name.lower(): name for name in os.listdir(folder / PICTURES)}
    missing = [name for name in names if _aligned(name) not in files]
    if missing:
        raise DataError(
            f"{folder / PICTURES} lacks {len(missing):,} of the {len(names):,} pictures that "
            f"{LABELS.name} names, the first {_aligned(missing[0])}. Unpack the release again."
        )
    return Samples(
        name="rafdb",
        class_names=CLASS_NAMES,
        pictures=PictureFiles(folder / PICTURES, [files[_aligned(name)] for name in names]),
        labels=one_hot(targets, len(CLASS_NAMES)),
        ids=Names(names),
        splits=np.array(splits),
        source=source_of(folder.resolve()),
    )


def _read_labels(path):
    """Reads the label file: names, class indices and splits, three lists of n."""
    labels = {}
    text = read_text(path)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if not match or not 1 <= int(match["code"]) <= len(CLASS_NAMES):
            raise DataError(
                f"{path}, line {number}: expected a picture and a code from 1 to "
                f"{len(CLASS_NAMES)}, such as 'train_00001.jpg 5'. Found: {line.strip()[:60]!a}. "
                "Unpack the release again."
            )
        name, target = match["name"], int(match["code"]) - 1
        if labels.setdefault(name, target) != target:
            raise DataError(
                f"{path}, line {number}: {name} has another class than in an earlier line. "
                "Unpack the release again."
            )
    if not labels:
        raise DataError(f"{path} is empty. Unpack the release again.")
    splits = [name.split("_")[0].lower() for name in labels]
    return list(labels), list(labels.values()), splits


def _aligned(name):
    """Returns the file of a name in the label file: `train_00001_aligned.jpg`, in lower case."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}_aligned{suffix}".lower()
