"""Loads models of all formats for prediction: Keras, SavedModel, TFLite and ONNX.

| Path                            | Runtime                                                  |
|---------------------------------|----------------------------------------------------------|
| A run folder, a `.keras` file   | Keras, with the current backend                          |
| `saved_models/<name>/<version>` | TensorFlow                                               |
| `saved_models/<name>`           | TensorFlow, with the highest version                     |
| A `.tflite` file                | ai-edge-litert, without TensorFlow's operations (Flex)   |
| A `.onnx` file                  | onnxruntime                                              |

Keras models of kerasfer and files of `kerasfer export` contain their class names and input size.
"""

import contextlib
import json
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np

from kerasfer.errors import RunError
from kerasfer.predict.graph_check import check_graph
from kerasfer.predict.size_check import check_onnx, check_tensors
from kerasfer.runs.folder import RunFolder
from kerasfer.text import did_you_mean

# The name of the file with the class names and the input size. It is in `assets.extra` of a
# SavedModel. In a TFLite file it is in the zip archive at the end, like TFLite's own metadata. In
# an ONNX file it is a metadata property.
METADATA = "kerasfer.json"
MIN_SIZE, MAX_SIZE = 8, 4096  # Pixels of the side of an input.
_METADATA_ERRORS = (
    *(EOFError, KeyError, NotImplementedError, OSError, RecursionError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


class Runtime:
    """Predicts the class probabilities of pictures.

    A runtime can be called from several threads.

    Args:
        kind: `"keras"`, `"saved_model"`, `"tflite"` or `"onnx"`.
        path: The path of the model.
        class_names: The names of the classes.
        image_size: The side of the pictures, in pixels.
        predict: Function from float32 `(n, image_size, image_size, 3)` to `(n, num_classes)`.
        model: The `keras.Model`. `None` for other formats.

    Example:

    >>> def predict(pictures):
    ...     dark = 1 - pictures.mean(axis=(1, 2, 3)) / 255
    ...     return np.stack([dark, 1 - dark], axis=1)
    >>> runtime = Runtime("onnx", "model.onnx", ["dark", "bright"], 8, predict)
    >>> runtime(np.full((2, 8, 8, 3), 255)).tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, kind, path, class_names, image_size, predict, model=None):
        self.kind = kind
        self.path = Path(path)
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.model = model
        self._predict = predict

    def __call__(self, images):
        """Predicts the class probabilities of pictures.

        Args:
            images: RGB `(n, image_size, image_size, 3)` in [0, 255].

        Returns:
            float32 `(n, num_classes)`.

        Raises:
            ValueError: If the pictures have another shape.
            RunError: If the model fails or does not return a probability for each class.
        """
        images = np.ascontiguousarray(images, dtype="float32")
        expected = (self.image_size, self.image_size, 3)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(
                f"Expected pictures of the shape (n, {', '.join(map(str, expected))}). "
                f"Received: images.shape={images.shape}."
            )
        if len(images) == 0:
            return np.zeros((0, len(self.class_names)), dtype="float32")
        probabilities = np.asarray(self._predict(images), dtype="float32")
        self._check(probabilities, len(images))
        return probabilities

    def _check(self, probabilities, num_images):
        expected = (num_images, len(self.class_names))
        if probabilities.shape != expected:
            raise RunError(
                f"{self.path} must return probabilities of the shape {expected}, one for each of "
                f"its classes. Received: {probabilities.shape}. The file is damaged: export or "
                "train the model again."
            )
        if not (np.isfinite(probabilities).all() and (abs(probabilities.sum(1) - 1) < 0.02).all()):
            raise RunError(
                f"{self.path} returns values that are not probabilities, such as NaN. The file is "
                "damaged, or the training diverged: export or train the model again."
            )


def load_runtime(path, *, threads=None):
    """Loads a model of any format for prediction.

    Args:
        path: A run folder, a `.keras`, `.tflite` or `.onnx` file, the folder of a SavedModel or of
            its versions, or the name of a pretrained model.
        threads: The number of threads for a TFLite or ONNX file. `None` selects the default of
            its runtime. Keras and TensorFlow have one setting for the whole process.

    Returns:
        A `Runtime`.

    Raises:
        RunError: If the model does not exist or cannot be loaded, or if the package of its
            runtime is not installed.

    Example:

    ```python
    runtime = load_runtime("saved_models/quickstart/quickstart-int8.tflite", threads=1)
    probabilities = runtime(pictures)
    ```
    """
    path = _resolve(path)
    if path.is_file():
        loaders = {".keras": _load_keras, ".tflite": _load_tflite, ".onnx": _load_onnx}
        if path.suffix not in loaders:
            raise RunError(f"Expected a .keras, .tflite or .onnx file. Received: {path}.")
        if path.stat().st_size == 0:
            raise RunError(f"{path} is an empty file. Copy it again, or export the model again.")
        return loaders[path.suffix](path, threads)
    if (path / "saved_model.pb").exists():
        return _load_saved_model(path)
    found = versions(path)
    if found and not RunFolder(path).exists:
        return _load_saved_model(path / str(found[-1]))
    return _load_keras(path, threads)


def _resolve(path):
    """Returns the path of a model. The name of a pretrained model is replaced by its path."""
    if not Path(path).exists():
        from kerasfer.models.pretrained import PRETRAINED, pretrained_path

        if str(path) in PRETRAINED:
            return pretrained_path(str(path))
        raise RunError(
            "Expected a run folder, a .keras, .tflite or .onnx file, a SavedModel folder, or a "
            f"pretrained model ({', '.join(PRETRAINED)}). Received: {path}, which does not exist."
            f"{did_you_mean(path, PRETRAINED)}"
        )
    return Path(path)


def versions(folder):
    """Lists the subfolders of `folder` that are version numbers, as integers in ascending order."""
    names = [path.name for path in Path(folder).glob("[0-9]*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdigit() and str(int(name)) == name)


def _load_keras(path, threads):
    from kerasfer.models.loading import load_model
    from kerasfer.runs.finding import find_run

    file = find_run(path)[0]
    if not zipfile.is_zipfile(file):
        raise RunError(
            f"{file} is not a Keras model file, or it was truncated: it is not a zip archive. Copy "
            "it again, or train the model again."
        )
    model = load_model(file)
    # The first call builds the prediction function, which must not happen in two threads at once.
    lock = threading.Lock()

    def predict(images):
        with lock:
            return model.predict_on_batch(images)

    names, shape = model.layers[-1].class_names, model.input_shape
    size = shape[1] if len(shape) == 4 else None
    if size is None or shape[2:] != (size, 3) or not MIN_SIZE <= size <= MAX_SIZE:
        raise RunError(
            f"The input of {path} must be square RGB pictures of a fixed size from {MIN_SIZE} to "
            f"{MAX_SIZE} pixels, with the shape (None, size, size, 3). Received: {shape}."
        )
    return Runtime("keras", path, names, size, predict, model)


def _load_saved_model(path):
    extra = path / "assets.extra" / METADATA
    metadata = _read_metadata(path, lambda: extra.read_text(encoding="utf-8"))
    check_graph(path)
    import tensorflow as tf

    errors = (tf.errors.OpError, OSError, ValueError, KeyError, TypeError, AttributeError)
    with _as_run_error(path, "cannot be loaded", *errors):
        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]

    def predict(images, loaded=loaded):  # `serve` does not keep the variables alive.
        with _as_run_error(path, "failed", *errors):
            return serve(pictures=tf.constant(images))["probabilities"].numpy()

    return Runtime("saved_model", path, *metadata, predict)


def _load_tflite(path, threads):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise _missing("ai-edge-litert", path) from error
    metadata = _read_metadata(path, lambda: zipfile.ZipFile(path).read(METADATA))
    with _as_run_error(path, "cannot be loaded", ValueError, RuntimeError):
        interpreter = Interpreter(str(path), num_threads=threads)
        check_tensors(path, interpreter.get_tensor_details())
        run = interpreter.get_signature_runner()
        ((source, described),) = run.get_input_details().items()
        (target,) = run.get_output_details()
    lock = threading.Lock()  # An interpreter has a single set of buffers.

    def predict(images):
        if described["dtype"] == np.uint8:
            images = np.rint(images).clip(0, 255).astype("uint8")
        # The graph has a batch size of 1.
        with lock, _as_run_error(path, "failed", ValueError, RuntimeError):
            return np.concatenate([run(**{source: image[None]})[target] for image in images])

    return Runtime("tflite", path, *metadata, predict)


def _load_onnx(path, threads):
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise _missing("onnxruntime", path) from error
    check_onnx(path)
    errors = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
        ValueError,
    )
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    with _as_run_error(path, "cannot be loaded", *errors):
        # The fallback would print to stdout and load the file a second time.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=providers, enable_fallback=0
        )
        properties = session.get_modelmeta().custom_metadata_map
        (source,) = session.get_inputs()
    metadata = _read_metadata(path, lambda: properties[METADATA])

    channels_first = source.shape[1:2] == [3]  # A side has at least `MIN_SIZE` pixels.

    def predict(images):
        if channels_first:
            images = images.transpose(0, 3, 1, 2)
        with _as_run_error(path, "failed", *errors):
            return session.run(None, {source.name: images})[0]

    return Runtime("onnx", path, *metadata, predict)


def _read_metadata(path, read):
    """Returns the class names and the input size that `kerasfer export` stored in an export."""
    try:
        metadata = json.loads(read())
        class_names, image_size = metadata["class_names"], metadata["image_size"]
        if not (isinstance(class_names, list) and all(isinstance(n, str) for n in class_names)):
            raise ValueError("`class_names` must be a list of strings")
        if image_size is not None and (
            type(image_size) is not int or not MIN_SIZE <= image_size <= MAX_SIZE
        ):
            raise ValueError(f"`image_size` must be an integer from {MIN_SIZE} to {MAX_SIZE}")
    except _METADATA_ERRORS as error:
        raise RunError(
            f"{path} does not contain valid class names and an input size, which `kerasfer export` "
            "stores in each export. Export the model again."
        ) from error
    if image_size is None:
        raise RunError(f"{path} cannot classify pictures, since its input is not an RGB picture.")
    return class_names, image_size


@contextlib.contextmanager
def _as_run_error(path, problem, *errors):
    """Converts the errors of a runtime to a `RunError` with a single line."""
    try:
        yield
    except errors as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise RunError(f"{path} {problem}: {reason}") from error


def _missing(package, path):
    return RunError(
        f'{path} requires {package}, which is not installed: pip install "kerasfer[export]".'
    )
