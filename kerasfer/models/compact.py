"""Writes small `.keras` files: kernels in half precision, everything else in single precision."""

import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py

from kerasfer.files import replace_file

WEIGHTS = "model.weights.h5"  # The name in a .keras file.


def save_compact(model, path):
    """Saves a model with its kernels in float16, in about half the bytes.

    The file is an ordinary `.keras` file: `keras.saving.load_model` reads it on every backend and
    returns a model in float32. Biases and the statistics of batch normalizations, which are few and
    have a wide range, stay in float32.

    Args:
        model: A `keras.Model` with float32 weights.
        path: The `.keras` file to write.

    Example:
        >>> import keras, tempfile
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(100)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_compact(model, f"{folder}/small.keras")
        ...     keras.saving.load_model(f"{folder}/small.keras").dtype
        'float32'
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole.keras")
        model.save(whole)
        with zipfile.ZipFile(whole) as archive:
            archive.extractall(folder)
            names = archive.namelist()
        weights = Path(folder, WEIGHTS)
        halved = Path(folder, "halved.h5")
        with h5py.File(weights) as source, h5py.File(halved, "w") as target:
            _copy(source, target)
        shutil.move(halved, weights)
        with (
            replace_file(Path(path)) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in names:
                archive.write(Path(folder, name), name)


def _copy(source, target):
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name))
        else:
            is_kernel = item.ndim > 1 and item.dtype == "float32"
            copy = target.create_dataset(
                name, data=item[()].astype("float16" if is_kernel else item.dtype)
            )
            for key, value in item.attrs.items():
                copy.attrs[key] = value
