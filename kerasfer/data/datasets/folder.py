"""Folders of pictures with a subfolder for each class.

    <path>/train/<class>/*.jpg|png|...     also training/, Train/, train_set/
    <path>/val/<class>/...                 also valid/, validation/, dev/; if missing, the protocol
                                           draws the validation split from train
    <path>/test/<class>/...                also testing/, Test/; if missing, a stratified fifth of
                                           train is drawn, always the same

If there is no train/, the class folders are in <path> itself. Pictures may be in subfolders of the
class folders. The classes are those of train, in alphabetical order.
"""

from collections import Counter

import numpy as np

from kerasfer.data.listing import (
    describe_skipped,
    list_class_folders,
    list_pictures,
    locate,
    walk_pictures,
)
from kerasfer.data.protocols import split_off
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.errors import DataError, RecipeError
from kerasfer.text import printable

SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tests", "tst"),
}
CONTAINERS = ("data", "dataset", "faces", "images", "pictures")  # May enclose everything else.
TEST_FRACTION = 0.2
TEST_SEED = 0  # Fixed, so that runs with different seeds are evaluated on the same pictures.
TREE = (
    "{train,val,test}/<class>/*.jpg|png (val and test are optional), or <class>/*.jpg|png without "
    "splits"
)


def load(data_dir, *, path=None):
    """Lists the pictures of a folder with a subfolder for each class.

    If there is no test folder, a stratified fifth of the training pictures, always the same,
    becomes the test split. The persons are unknown. If there are several pictures of a person, make
    a test folder that keeps them in one split. Otherwise the accuracy is too high.

    Args:
        data_dir: The folder that holds the datasets.
        path: The folder. A relative path is looked up in the working folder first, and in
            `data_dir` second.

    Returns:
        `Samples` with splits, and pictures as paths. Its `notes` say how many files were used and
        skipped.

    Raises:
        RecipeError: If `path` is missing.
        DataError: If the folder is missing, has no pictures or an empty class, or a split has a
            class that train does not have.
    """
    if not path:
        raise RecipeError("data.path must name the folder for data.name=folder. Received: none.")
    root = locate(path, data_dir)
    if not root.is_dir():
        raise DataError(
            f"The folder {printable(root)} was not found. A relative data.path is looked up in the "
            f"working folder first and in --data-dir second. Expected in it: {TREE}."
        )
    folder = _skip_containers(root)
    parts, notes = _find_parts(folder)
    classes = _classes_of(folder, parts)
    found = _list_all(parts, classes, notes)
    pictures, targets, splits = (list(column) for column in zip(*found, strict=True))
    targets, splits = np.array(targets), np.array(splits)
    drawn = ()
    if "test" not in parts:
        drawn = ("test",)
        number = draw_test_split(targets, splits)
        notes.append(f"{printable(folder)} has no test folder: drew {number:,} of train")
    notes += describe_splits(targets, splits, classes, {*parts, *drawn})
    return Samples(
        name="folder",
        class_names=classes,
        pictures=pictures,
        labels=one_hot(targets, len(classes)),
        ids=[picture.relative_to(root).as_posix() for picture in pictures],
        splits=splits,
        source=source_of(root.resolve()),
        drawn_splits=drawn,
        notes=(describe_used(splits), *notes),
    )


def draw_test_split(targets, splits):
    """Makes a stratified fifth of the training pictures, always the same, the test split.

    Args:
        targets: int `(n,)`, the classes.
        splits: `(n,)`, the splits, which are changed.

    Returns:
        The number of test pictures.
    """
    train = np.flatnonzero(splits == "train")
    _, chosen = split_off(targets[train], TEST_FRACTION, TEST_SEED, every_class=True)
    splits[train[chosen]] = "test"
    return len(chosen)


def describe_splits(targets, splits, classes, expected):
    """Yields a line for each expected split other than train that lacks a class."""
    for split in ("validation", "test"):
        present = set(targets[splits == split])
        missing = [name for number, name in enumerate(classes) if number not in present]
        if missing and split in expected:
            yield f"{split} has no picture of: {', '.join(missing)}"


def describe_used(splits):
    """Describes how many pictures each split has."""
    numbers = [f"{split} {(splits == split).sum():,}" for split in SPLIT_NAMES]
    return f"used {len(splits):,} pictures: {', '.join(numbers)}"


def split_named(name):
    """Returns the split that a folder name denotes, or `None`.

    Example:

    >>> split_named("Training_Set"), split_named("valid"), split_named("happy")
    ('train', 'validation', None)
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    plain = plain.removesuffix("data").removesuffix("set")
    return next((split for split, names in SPLIT_NAMES.items() if plain in names), None)


def _skip_containers(folder):
    """Descends into a folder such as images/, or of the same name, that encloses everything."""
    for _ in range(3):
        inside = list_class_folders(folder)
        if len(inside) != 1 or list_pictures(folder):
            break
        ((name, only),) = inside.items()
        below = list_class_folders(only)
        encloses = name.lower() in CONTAINERS or name.lower() == folder.name.lower()
        if split_named(name) or not (any(map(split_named, below)) or (encloses and below)):
            break
        folder = only
    return folder


def _find_parts(folder):
    """Returns the folder of each split, and notes. Without splits, `folder` itself is train."""
    parts, others = {}, []
    for name, place in list_class_folders(folder).items():
        split = split_named(name)
        if split is None:
            others.append(printable(name))
        elif split in parts:
            raise DataError(
                f"{printable(folder)} has both {parts[split].name}/ and {name}/ for {split}. "
                "Keep one of them."
            )
        else:
            parts[split] = place
    if not parts:
        return {"train": folder}, []
    if "train" not in parts:
        names = ", ".join(place.name for place in parts.values())
        raise DataError(f"{printable(folder)} must have train/ next to {names}. Expected: {TREE}.")
    notes = [f"ignored {', '.join(f'{name}/' for name in others)} next to train/"] if others else []
    return {split: parts[split] for split in SPLIT_NAMES if split in parts}, notes


def _classes_of(folder, parts):
    classes = tuple(map(printable, list_class_folders(parts["train"])))
    if len(classes) < 2:
        raise DataError(
            f"{printable(parts['train'])} must have at least two class folders. "
            f"Found: {', '.join(classes) or 'none'}. Expected in {printable(folder)}: {TREE}."
        )
    if len({name.lower() for name in classes}) < len(classes):
        raise DataError(
            f"{printable(parts['train'])} has class folders that differ only in case: "
            f"{', '.join(classes)}. Rename or merge them."
        )
    return classes


def _list_all(parts, classes, notes):
    """Lists (path, target, split) of all pictures, and notes what was skipped."""
    number_of = {name.lower(): number for number, name in enumerate(classes)}
    found, skipped = [], Counter()
    for split, place in parts.items():
        for name, class_folder in list_class_folders(place).items():
            target = number_of.get(printable(name).lower())
            if target is None:
                raise DataError(
                    f"{printable(class_folder)} is not a class of {printable(parts['train'])}, "
                    f"which has {', '.join(classes)}. Rename or remove it."
                )
            paths = walk_pictures(class_folder, skipped)
            if not paths and split == "train":
                reason = f", and {describe_skipped(skipped)}" if skipped else ""
                raise DataError(
                    f"{printable(class_folder)} holds no pictures{reason}. Add some, or remove the "
                    "class from every split."
                )
            found += [(path, target, split) for path in paths]
        if loose := len(list_pictures(place)):
            notes.append(f"ignored {loose:,} pictures in {place.name}/ outside of class folders")
    if skipped:
        notes.append(describe_skipped(skipped))
    return found
