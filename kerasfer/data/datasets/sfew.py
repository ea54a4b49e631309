"""SFEW 2.0: 1,394 faces from films, cropped and aligned (Dhall et al., ICCV Workshops 2011).

The classes are in alphabetical order, as the folders of the release: angry, disgust, fear, happy,
neutral, sad, surprise. The labels of the test pictures were never published. As in the papers, the
validation pictures of the release are the test split, and the protocol draws the validation split
from train.

    sfew/Train_Aligned_Faces/Angry/*.png        (also Train_Aligned_Faces_new/)
    sfew/Val_Aligned_Faces/Angry/*.png          (also Val_Aligned_Faces_new/)
"""

from pathlib import Path

import numpy as np

from kerasfer.data.datasets import rafdb
from kerasfer.data.listing import list_class_folders, list_pictures
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.errors import DataError

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
# RAF-DB's names where they differ.
RAFDB_NAMES = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
PARTS = {"Train_Aligned_Faces": "train", "Val_Aligned_Faces": "test"}
SOURCE = "https://users.cecs.anu.edu.au/~few_group/AFEW.html"


def load(data_dir, *, with_rafdb=False):
    """Loads the aligned faces of SFEW 2.0 from `data_dir`/sfew.

    Args:
        data_dir: The folder that holds the datasets.
        with_rafdb: Whether to add the training pictures of RAF-DB to the training split, as in the
            SPD-Attention paper. They are loaded from `data_dir`/rafdb, and classes are matched by
            name.

    Returns:
        `Samples` with the splits train and test, and pictures as paths.

    Raises:
        DataError: If a release is missing or incomplete. The message names the folder.
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
        source=source_of(folder.resolve(), with_rafdb=with_rafdb),
    )


def _find_part(folder, part):
    """Finds a part of the release. Its folder may end in `_new` and contain another folder."""
    for name in (part, f"{part}_new"):
        place = folder / name
        if place.is_dir():
            nested = place / name  # Made by unpackers that create a folder for the archive.
            return nested if nested.is_dir() else place
    raise DataError(
        f"SFEW 2.0 was not found. Expected {folder}/{part}/<class>/*.png or "
        f"{folder}/{part}_new/<class>/*.png. Apply for it at {SOURCE}, or point --data-dir "
        "(or $KERASFER_DATA) to the folder that holds sfew/."
    )
