"""SFEW 2.0: 1,394 faces from films, cut out and aligned (Dhall et al., ICCV Workshops 2011).

Classes in alphabetical order, as the release's folders: angry, disgust, fear, happy, neutral, sad,
surprise. The labels of the test pictures were never published: as in the papers, the release's
validation pictures are the test split, and the protocol draws validation from training.

    sfew/Train_Aligned_Faces/Angry/*.png        (also Train_Aligned_Faces_new/)
    sfew/Val_Aligned_Faces/Angry/*.png          (also Val_Aligned_Faces_new/)
"""

from pathlib import Path

import numpy as np

from kerasfer.data.datasets import rafdb
from kerasfer.data.pictures import list_class_folders, list_pictures
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
# RAF-DB's names where they differ.
RAFDB_NAMES = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
PARTS = {"Train_Aligned_Faces": "train", "Val_Aligned_Faces": "test"}
SOURCE = "https://users.cecs.anu.edu.au/~few_group/AFEW.html"


def load(data_dir, *, with_rafdb=False):
    """Reads SFEW 2.0's aligned faces from `data_dir`/sfew.

    Args:
        data_dir: the folder that holds the datasets.
        with_rafdb: whether RAF-DB's training pictures join the training split, by the names of
            their classes, as in the SPD-Attention paper; they are read from `data_dir`/rafdb.

    Returns:
        `Samples` with the splits train and test, and pictures as paths.

    Raises:
        DataError: a release is missing or incomplete; the message names the folder.
    """
    folder = Path(data_dir) / "sfew"
    pictures, targets, splits, ids = [], [], [], []
    for part, split in PARTS.items():
        place = _find_part(folder, part)
        found = {name.lower(): path for name, path in list_class_folders(place).items()}
        if set(found) != set(CLASS_NAMES):
            raise DataError(
                f"{place} must have the class folders {', '.join(CLASS_NAMES)}. "
                f"Found: {', '.join(found) or 'none'}. Unpack the release again."
            )
        for target, class_name in enumerate(CLASS_NAMES):
            paths = list_pictures(found[class_name])
            if not paths:
                raise DataError(f"{found[class_name]} holds no pictures. Unpack the release again.")
            pictures += paths
            targets += [target] * len(paths)
            splits += [split] * len(paths)
            ids += [path.relative_to(folder).as_posix() for path in paths]
    if with_rafdb:
        joined = rafdb.load(data_dir)
        names = [RAFDB_NAMES.get(name, name) for name in joined.class_names]
        for index in np.flatnonzero(joined.splits == "train"):
            pictures.append(joined.pictures[index])
            targets.append(CLASS_NAMES.index(names[joined.targets[index]]))
            splits.append("train")
            ids.append(f"rafdb/{joined.ids[index]}")
    return Samples(
        name="sfew",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(targets, len(CLASS_NAMES)),
        ids=ids,
        splits=np.array(splits),
    )


def _find_part(folder, part):
    """Finds a part of the release, whose folder may end in `_new` and hold one of its own name."""
    for name in (part, f"{part}_new"):
        place = folder / name
        if place.is_dir():
            nested = place / name  # what unpacking with a folder of the archive's name leaves
            return nested if nested.is_dir() else place
    raise DataError(
        f"SFEW 2.0 was not found. Expected {folder}/{part}/<class>/*.png or "
        f"{folder}/{part}_new/<class>/*.png. Apply for it at {SOURCE}, or point --data-dir "
        "(or $KERASFER_DATA) to the folder that holds sfew/."
    )
