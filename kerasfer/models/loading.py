"""Loads trained models, and checks that samples fit a model."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from kerasfer import layers  # noqa: F401  registers what a saved model is made of
from kerasfer.errors import DataError, RunError
from kerasfer.models.loading_limits import LOADING_ERRORS, check_outputs, limit_weights


def load_model(path, landmarks=False):
    """Loads a `.keras` file of kerasfer, which stores its class names.

    Args:
        path: The file.
        landmarks: Whether models with landmarks as a second input are supported.

    Returns:
        A `keras.Model`, which is not compiled.

    Raises:
        RunError: If the file is missing, is not a model of kerasfer, or needs landmarks.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(
            f"Expected a run folder with a model.keras, or a .keras file. Received: {path}, "
            "which does not exist."
        )
    model = read_model(path)
    if not getattr(model, "layers", None) or not hasattr(model.layers[-1], "class_names"):
        raise RunError(
            f"{path} does not store its class names. The last layer of the model must be a "
            "kerasfer.layers.ClassProbabilities, as in the models of kerasfer."
        )
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise RunError(f"{path} has no input: it must be a model with a fixed input size.")
    check_outputs(model, path)
    if isinstance(model.input, dict) and not landmarks:
        raise RunError(
            f"{path} crops around landmarks, which is supported only by `kerasfer train` and "
            "`kerasfer evaluate`. For other uses, train with model.crop_mode random or fixed."
        )
    return model


def read_model(path):
    """Reads any Keras model, within the limits of `kerasfer.models.loading_limits`.

    Args:
        path: A `.keras` file.

    Returns:
        A `keras.Model`, which is not compiled.

    Raises:
        RunError: If the file is damaged, or describes more than it contains.
    """
    try:
        with limit_weights(path):
            return keras.saving.load_model(path, compile=False)
    except LOADING_ERRORS as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RunError(f"{path} cannot be loaded as a Keras model: {reason}") from error


def picture_input(model):
    """Returns the symbolic input for the pictures."""
    return model.input["pictures"] if isinstance(model.input, dict) else model.input


def check_landmarks(model, samples):
    """Checks that samples have as many landmarks as a model expects.

    Raises:
        DataError: If they have another number of landmarks.
    """
    expected = model.input["landmarks"].shape[1] if isinstance(model.input, dict) else 0
    known = 0 if samples.landmarks is None else samples.landmarks.shape[1]
    if expected != known:
        raise DataError(
            f"The model expects {expected} landmarks per picture (model.crops). Received: "
            f"{known} landmarks per picture of {samples.name} (data.landmarks)."
        )


def with_classes_of(model, samples):
    """Returns the same samples with the classes of a model, in its order.

    The samples need not have all classes of the model.

    Raises:
        DataError: If the samples have a class that the model does not know.
    """
    expected = tuple(model.layers[-1].class_names)
    unknown = [name for name in samples.class_names if name not in expected]
    if unknown:
        raise DataError(
            f"The model has the classes {', '.join(expected)}, and {samples.name} has the classes "
            f"{', '.join(samples.class_names)}. Choose a dataset with the classes of the model."
        )
    labels = np.zeros((len(samples), len(expected)), dtype=samples.labels.dtype)
    labels[:, [expected.index(name) for name in samples.class_names]] = samples.labels
    return replace(samples, class_names=expected, labels=labels)
