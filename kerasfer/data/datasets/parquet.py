"""Parquet files that contain pictures and labels, as Hugging Face Datasets writes them.

    <path>/data/train-00000-of-00002.parquet    the file name begins with the split,
    <path>/train/0000.parquet                   or a folder is named after it

The names of the splits are those of the dataset `folder`. Without validation files the protocol
draws the validation split, and without test files a stratified fifth of train is drawn, always the
same. If no file names a split, all of them are train.

A picture is binary, or a struct with the binary field `bytes`. A label is the name of the class, or
its number, for which the metadata of the files or `class_names` has the names.
"""

import json
import re

import numpy as np

from kerasfer.data.datasets.folder import (
    describe_splits,
    describe_used,
    draw_test_split,
    split_named,
)
from kerasfer.data.listing import find_shards, locate
from kerasfer.data.picture_files import Names
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.data.shards import ShardedPictures, check_installed, open_shard
from kerasfer.errors import DataError, RecipeError
from kerasfer.text import printable


def load(data_dir, *, path=None, image_column=None, label_column="label", class_names=None):
    """Lists the pictures of Parquet files, which are read when they are needed.

    Args:
        data_dir: The folder that holds the datasets.
        path: The folder of the files, or one file. A relative path is looked up in the working
            folder first, and in `data_dir` second.
        image_column: The column of the pictures; `None` for the only one that can hold them.
        label_column: The column of the labels.
        class_names: The names of the classes in the order of their numbers; `None` for those in the
            metadata of the files or, if the labels are names, for these in alphabetical order.

    Returns:
        `Samples` with splits, and pictures as `ShardedPictures`.

    Raises:
        RecipeError: If `path` is missing.
        DataError: If pyarrow is not installed; if a file or a column is missing, damaged or has
            another type; or if a label has no class.
    """
    if not path:
        raise RecipeError("data.path must name the folder for data.name=parquet. Received: none.")
    check_installed()
    root = locate(path, data_dir)
    paths = sorted(find_shards(root))
    if not paths:
        raise DataError(
            f"Expected Parquet files in {printable(root)}, such as train-00000-of-00002.parquet. "
            "Found: none."
        )
    top = root if root.is_dir() else root.parent
    parts = _find_parts(top, paths)
    paths = [path for files in parts.values() for path in files]
    for file in paths:
        open_shard(file).check_column(label_column)
        image_column = open_shard(file).find_pictures(image_column)
    labels = [_read_labels(file, label_column) for file in paths]
    renamed = None if class_names is None else "/".join(class_names)
    if class_names is None:
        class_names = _find_class_names(paths, label_column, labels, len(parts["train"]))
    targets = np.concatenate(
        [
            _to_targets(values, class_names, f"{printable(file)}, column {label_column}")
            for file, values in zip(paths, labels, strict=True)
        ]
    )
    if len(targets) == 0:
        raise DataError(f"The Parquet files in {printable(root)} have no rows.")
    numbers = [
        sum(open_shard(file).metadata.num_rows for file in files) for files in parts.values()
    ]
    splits = np.repeat(np.array(list(parts), dtype="<U10"), numbers)
    notes, drawn = [], ()
    if "test" not in parts:
        drawn = ("test",)
        notes.append(f"no file is for test: drew {draw_test_split(targets, splits):,} of train")
    notes += describe_splits(targets, splits, class_names, {*parts, *drawn})
    names = [printable(file.relative_to(top).as_posix()) for file in paths]
    ids = [
        np.array([f"{name}:{row}".encode() for row in range(len(values))], dtype="S")
        for name, values in zip(names, labels, strict=True)
    ]
    return Samples(
        name="parquet",
        class_names=tuple(class_names),
        pictures=ShardedPictures(paths, image_column),
        labels=one_hot(targets, len(class_names)),
        ids=Names(np.concatenate(ids)),
        splits=splits,
        source=source_of(
            root.resolve(),
            image_column=image_column,
            label_column=None if label_column == "label" else label_column,
            class_names=renamed,
        ),
        drawn_splits=drawn,
        notes=(describe_used(splits), *notes),
    )


def _find_parts(root, paths):
    """Maps splits to their files, in the order train, validation, test."""
    found = {"train": [], "validation": [], "test": []}
    splits = [_split_of(path.relative_to(root)) for path in paths]
    if not any(splits):
        return {"train": paths}
    for path, split in zip(paths, splits, strict=True):
        if split is None:
            raise DataError(
                f"{printable(path)} does not name a split, unlike {printable(paths[0].parent)}. "
                "Expected a name such as train-0.parquet or test-0.parquet. Rename or remove it."
            )
        found[split].append(path)
    if not found["train"]:
        raise DataError(
            f"{printable(root)} has no Parquet files for train, such as train-0.parquet."
        )
    return {split: files for split, files in found.items() if files}


def _split_of(path):
    """Returns the split that a file name or else a folder denotes, or `None`."""
    words = re.split(r"[^a-zA-Z]+", path.stem)
    names = [*words, *(part for part in reversed(path.parent.parts))]
    return next(filter(None, map(split_named, names)), None)


def _read_labels(path, column):
    """Reads the labels of a file: an array of integers or of strings."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        values = parquet.read_table(path, columns=[column], partitioning=None)[column]
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{printable(path)} cannot be read as a Parquet file: damaged. Get the file again."
        ) from error
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (texts or pa.types.is_integer(kind)):
        raise DataError(
            f"The column {column} of {printable(path)} must have names or numbers of classes. "
            f"Received the type: {kind}. Set data.label_column."
        )
    if values.null_count:
        raise DataError(
            f"{values.null_count:,} of {len(values):,} rows of {printable(path)} have no {column}. "
            "Remove these rows or the file."
        )
    return values.to_numpy()


def _find_class_names(paths, column, labels, num_train):
    """Returns the class names in the metadata of the files, or the labels themselves."""
    found = {path: _class_names_in(open_shard(path).schema, column) for path in paths}
    first = found[paths[0]]
    for path, names in found.items():
        if names != first:
            raise DataError(
                f"{printable(path)} has other class names than {printable(paths[0])}: "
                f"{', '.join(names or ['none'])} instead of {', '.join(first or ['none'])}. Keep "
                "the files of one dataset in the folder."
            )
    if first is None and labels[0].dtype.kind in "iu":
        raise DataError(
            f"The column {column} of {printable(paths[0])} has numbers, and the metadata of the "
            "file does not name the classes. Set data.class_names=[NAME, NAME, ...]."
        )
    first = first or sorted(set().union(*(values.tolist() for values in labels[:num_train])))
    if len(first) < 2:
        raise DataError(
            f"The column {column} of {printable(paths[0])} must have at least two classes. "
            f"Found: {', '.join(first) or 'none'}."
        )
    return first


def _class_names_in(schema, column):
    """Returns the class names that Hugging Face Datasets stores in a schema, or `None`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [printable(name) for name in names]


def _to_targets(values, class_names, place):
    """Returns the numbers of the classes of labels, which are names or numbers."""
    number_of = {name: number for number, name in enumerate(class_names)}
    if values.dtype.kind in "iu":
        wrong = np.flatnonzero((values < 0) | (values >= len(class_names)))
        expected = f"0 to {len(class_names) - 1}"
        targets = values
    else:
        targets = np.array([number_of.get(value, -1) for value in values], dtype="int64")
        wrong, expected = np.flatnonzero(targets < 0), f"one of {', '.join(class_names)}"
    if len(wrong):
        unlabeled = " -1 stands for a picture without a label." * int(values[wrong[0]] == -1)
        raise DataError(
            f"{place}, row {wrong[0]}: the label must be {expected}. Received: "
            f"{values[wrong[0]]!s:.40}, in {len(wrong):,} rows.{unlabeled} Remove the file, or "
            "correct its labels."
        )
    return targets
