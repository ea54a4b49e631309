"""Bounds the memory that a damaged or hostile `.keras` file can claim while it is loaded.

The configuration in such a file may describe layers of any size, whatever the file contains.
"""

import contextlib
import math
import threading
import zipfile
import zlib
from pathlib import Path

import keras

from kerasfer.errors import RunError
from kerasfer.keras_internals import nodes_from_the_output

# What `keras.saving.load_model` raises for damaged files.
LOADING_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
MAX_OUTPUT = 2**27  # Values of one picture in one layer.
_MAX_RATIO = 20  # Of the unpacked size to the size of the file. Weights hardly compress.
_FREE = 2**20  # Bytes and weights that are always allowed.
_LOCK = threading.RLock()


@contextlib.contextmanager
def limit_weights(path):
    """Lets models that are created in the block have only as many weights as a file has bytes.

    Args:
        path: The `.keras` file.

    Raises:
        RunError: If a layer exceeds the limit, before its weights are allocated, or if the file
            unpacks to many times its size.
        zipfile.BadZipFile: If the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _FREE + _MAX_RATIO * Path(path).stat().st_size:
        raise RunError(
            f"{path} is not loaded: it unpacks to {unpacked / 1e6:,.0f} MB, many times its size. "
            "Save the model again."
        )
    left, exceeded = unpacked + _FREE, None
    original, thread = keras.layers.Layer.add_weight, threading.get_ident()

    def add_weight(self, shape=None, *arguments, **options):
        nonlocal left, exceeded
        if threading.get_ident() == thread:
            left -= math.prod(shape or ())
            if left < 0:
                exceeded = tuple(shape or ())
                raise ValueError("The file describes more weights than it contains.")
        return original(self, shape, *arguments, **options)

    with _LOCK:  # The method belongs to all threads.
        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = original
            if exceeded is not None:  # Keras rewrites the messages of errors in layers.
                raise RunError(
                    f"{path} is not loaded: it describes more weights than it contains, among "
                    f"them some of the shape {exceeded}. The file is damaged. Save the model again."
                )


def check_outputs(model, path):
    """Checks that no layer of a model needs an excessive amount of memory for one picture.

    Args:
        model: A functional `keras.Model`.
        path: Where the model was loaded from.

    Raises:
        RunError: If the output of a layer has more than `MAX_OUTPUT` values.
    """
    for node in _nodes(model):
        for tensor in node.output_tensors:
            size = math.prod(side or 1 for side in tensor.shape)
            if size > MAX_OUTPUT:
                raise RunError(
                    f"{path} is not loaded: its layer {node.operation.name!r} has outputs of the "
                    f"shape {tuple(tensor.shape)}, which need more than "
                    f"{4 * MAX_OUTPUT // 2**20} MiB for each picture."
                )


def _nodes(model):
    """Yields the nodes of a model and of the models in it."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    for node in nodes_from_the_output(model):
        yield node
        if isinstance(node.operation, keras.Model):
            yield from _nodes(node.operation)
