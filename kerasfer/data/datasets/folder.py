"""Any folder of pictures sorted into class folders: training on one's own pictures.

    <path>/train/<class>/*.jpg|png|...     required
    <path>/val/<class>/...                 or validation/; else drawn from train by the protocol
    <path>/test/<class>/...                else a fifth of train, stratified, the same for ever

Without train/, val/ and test/, the class folders may lie in <path> itself. The classes are in
alphabetical order, and must be the same in all parts.
"""

from pathlib import Path

import numpy as np

from kerasfer.data.pictures import list_class_folders, list_pictures
from kerasfer.data.protocols import split_off
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
TEST_FRACTION = 0.2
TEST_SEED = 0  # fixed: runs with different seeds are judged on the same pictures
TREE = "{train,val,test}/<class>/*.jpg|png (val and test may be missing), or <class>/*.jpg|png"


def load(data_dir, *, path=None):
    """Lists the pictures of a folder with a subfolder for each class.

    Where there is no test folder, a stratified fifth of the training pictures, always the same,
    becomes the test split. Who is pictured is not known: where a person is in several pictures,
    keep them in one part, with a test folder of your own, or the result will be too good.

    Args:
        data_dir: the folder that holds the datasets.
        path: the folder, absolute or below `data_dir`.

    Returns:
        `Samples` with splits, and pictures as paths.

    Raises:
        RecipeError: no path was given.
        DataError: the folder is missing, has no pictures or an empty class, or its parts have
            different classes.
    """
    if not path:
        raise RecipeError("data.path must name the folder for data.name=folder. Received: none.")
    folder = Path(data_dir) / Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"The folder {folder} was not found. Expected in it: {TREE}.")
    found = list_class_folders(folder)
    parts = {name: list_class_folders(found[name]) for name in PARTS if name in found}
    if not parts:
        parts = {".": found}
    elif "train" not in parts:
        raise DataError(f"{folder} must have train/ beside {', '.join(parts)}. Expected: {TREE}.")
    elif "val" in parts and "validation" in parts:
        raise DataError(f"{folder} has both val/ and validation/. Keep one of them.")

    training_part = next(iter(parts))
    class_names = tuple(parts[training_part])
    if len(class_names) < 2:
        raise DataError(
            f"{folder / training_part} must have at least two class folders. "
            f"Found: {', '.join(class_names) or 'none'}. Expected in {folder}: {TREE}."
        )
    pictures, targets, splits = [], [], []
    for part, classes in parts.items():
        if tuple(classes) != class_names:
            differing = sorted(set(classes) ^ set(class_names))
            raise DataError(
                f"{folder / part} must have the class folders of {folder / training_part}. "
                f"Only one of them has: {', '.join(differing)}."
            )
        for target, class_folder in enumerate(classes.values()):
            paths = list_pictures(class_folder)
            if not paths:
                raise DataError(
                    f"{class_folder} holds no pictures. Add some, or remove the class everywhere."
                )
            pictures += paths
            targets += [target] * len(paths)
            splits += [PARTS.get(part, "train")] * len(paths)

    targets, splits = np.array(targets), np.array(splits)
    if "test" not in parts:
        train = np.flatnonzero(splits == "train")
        _, drawn = split_off(targets[train], TEST_FRACTION, TEST_SEED)
        splits[train[drawn]] = "test"
    return Samples(
        name="folder",
        class_names=class_names,
        pictures=pictures,
        labels=one_hot(targets, len(class_names)),
        ids=[picture.relative_to(folder).as_posix() for picture in pictures],
        splits=splits,
    )
