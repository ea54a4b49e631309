"""Loads trained models, and fits samples to what a model takes."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from kerasfer import layers  # noqa: F401  registers what a saved model is made of
from kerasfer.errors import DataError, RunError
from kerasfer.models.loading_limits import LOADING_ERRORS, check_outputs, limit_weights


def load_model(path, landmarks=False):
    """Loads a `.keras` file of kerasfer, which knows its classes.

    Args:
        path: The file.
        landmarks: Whether the caller can pass landmarks to the model, too.

    Raises:
        RunError: Where there is none, it is something else, or it needs landmarks.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(
            f"Expected a run's folder with a model.keras, or a .keras file. Received: {path}, "
            "which does not exist."
        )
    try:
        with limit_weights(path):
            model = keras.saving.load_model(path, compile=False)
    except LOADING_ERRORS as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RunError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    if not getattr(model, "layers", None) or not hasattr(model.layers[-1], "class_names"):
        raise RunError(
            f"{path} does not know its classes: its last layer must be a "
            "kerasfer.layers.ClassProbabilities, as in kerasfer's own models."
        )
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise RunError(f"{path} has no input: it must be a model with a fixed input size.")
    check_outputs(model, path)
    if isinstance(model.input, dict) and not landmarks:
        raise RunError(
            f"{path} cuts its crops around landmarks, which only `kerasfer train` and `kerasfer "
            "evaluate` can give it: train with model.crop_mode random or fixed for anything else."
        )
    return model


def picture_input(model):
    """Returns the symbolic input that takes the pictures."""
    return model.input["pictures"] if isinstance(model.input, dict) else model.input


def check_landmarks(model, samples):
    """Checks that a model and samples agree on landmarks.

    Raises:
        DataError: Where the model takes another number of them than the samples have.
    """
    taken = model.input["landmarks"].shape[1] if isinstance(model.input, dict) else 0
    known = 0 if samples.landmarks is None else samples.landmarks.shape[1]
    if taken != known:
        raise DataError(
            f"The model takes {taken} landmarks a picture (model.crops); of {samples.name} "
            f"{known or 'none'} are given (data.landmarks)."
        )


def with_classes_of(model, samples):
    """Returns samples whose classes are those of a model, in its order.

    The samples may lack some of the model's classes.

    Raises:
        DataError: If the samples have a class that the model does not know.
    """
    expected = tuple(model.layers[-1].class_names)
    unknown = [name for name in samples.class_names if name not in expected]
    if unknown:
        raise DataError(
            f"The model knows the classes {', '.join(expected)}; {samples.name} has "
            f"{', '.join(samples.class_names)}. Choose a dataset with the model's classes."
        )
    labels = np.zeros((len(samples), len(expected)), dtype=samples.labels.dtype)
    labels[:, [expected.index(name) for name in samples.class_names]] = samples.labels
    return replace(samples, class_names=expected, labels=labels)
