"""Loads a dataset by name, and the folds of a recipe."""

import inspect
import os
from pathlib import Path

from kerasfer.data import DATASETS
from kerasfer.data.landmarks import with_landmarks
from kerasfer.data.listing import find_shards, is_picture, locate
from kerasfer.data.protocols import make_folds
from kerasfer.errors import RecipeError
from kerasfer.options import function_of, options_of
from kerasfer.text import did_you_mean


def load_dataset(name, data_dir=None, **options):
    """Loads a dataset by name.

    Args:
        name: A key of `DATASETS`.
        data_dir: The folder that holds the datasets; see `data_folder`.
        **options: Options of the dataset, such as `labels="majority"` for `"ferplus"`.

    Returns:
        `kerasfer.data.samples.Samples`.

    Raises:
        RecipeError: If the dataset or an option is unknown.
        DataError: If the dataset is missing, incomplete or unreadable.

    Example:

    >>> len(load_dataset("synthetic", num_samples=20))
    20
    """
    if name not in DATASETS:
        raise RecipeError(
            f"data.name must be one of {', '.join(DATASETS)}. Received: {name!r}."
            f"{did_you_mean(name, DATASETS)}"
        )
    load = function_of(DATASETS[name])
    known = [option for option in inspect.signature(load).parameters if option != "data_dir"]
    for option in options:
        if option not in known:
            raise RecipeError(
                f"The dataset {name} has no option {option!r}. "
                f"Its options are: {', '.join(known) or 'none'}."
            )
    return load(data_folder(data_dir), **options)


def dataset_in(folder):
    """Returns the dataset for a folder: `"parquet"` if it has Parquet files and no pictures.

    Example:

    >>> from tempfile import mkdtemp
    >>> dataset_in(mkdtemp())
    'folder'
    """
    has_pictures = any(is_picture(path.name) for path in Path(folder).rglob("*"))
    return "parquet" if any(find_shards(folder)) and not has_pictures else "folder"


def data_folder(data_dir=None):
    """Returns the folder that holds the datasets and `lists/`.

    Args:
        data_dir: A path, or `None` for `$KERASFER_DATA`, or `data` if that is not set.

    Returns:
        `pathlib.Path`.

    Example:

    >>> data_folder("faces").as_posix()
    'faces'
    """
    return Path(data_dir or os.environ.get("KERASFER_DATA") or "data").expanduser()


def load_fold(data, seed, data_dir):
    """Loads the `Fold` of a recipe's `data` section.

    Args:
        data: The recipe's `data` section.
        seed: The seed of the split.
        data_dir: As for `load_dataset`.

    Returns:
        The `Fold` with the number `data.fold`, or the first one.
    """
    folds = load_folds(data, seed, data_dir)
    return folds[data.fold or 0]


def load_folds(data, seed, data_dir):
    """Loads all folds of a recipe's `data` section.

    Args:
        data: The recipe's `data` section.
        seed: The seed of the split.
        data_dir: As for `load_dataset`.

    Returns:
        A list of `kerasfer.data.protocols.Fold`.

    Raises:
        RecipeError: If `data.fold` is set and the protocol has no folds.
        DataError: If the dataset is missing, incomplete or unreadable.
    """
    own = set(options_of(DATASETS[data.name]).model_fields)
    samples = load_dataset(data.name, data_dir, **data.model_dump(include=own, exclude_none=True))
    if data.landmarks is not None:
        samples = with_landmarks(samples, locate(data.landmarks, data_folder(data_dir)))
    folds = make_folds(
        samples,
        data.protocol,
        seed=seed,
        num_folds=data.num_folds,
        validation_fraction=data.validation_fraction,
    )
    if data.fold is not None and len(folds) == 1:
        raise RecipeError(
            "data.fold requires data.protocol=subjects, the only protocol with folds. Received: "
            f"fold={data.fold}, with the protocol {folds[0].protocol} of {data.name}."
        )
    return folds
