"""`predictions.csv`: what a model said of each picture, kept so that anything can be recomputed."""

import csv
from typing import NamedTuple

import numpy as np

from kerasfer.errors import RunError
from kerasfer.files import replace_file

_COLUMNS = ["id", "target", "prediction"]


class Predictions(NamedTuple):
    """Predictions read back: `n` ids, `(n,)` targets, `(n, num_classes)` probabilities, names."""

    ids: list
    targets: np.ndarray
    probabilities: np.ndarray
    class_names: tuple


def write_predictions(path, ids, targets, probabilities, class_names):
    """Writes a row a picture: id, true class, predicted class, and the probability of each class.

    Classes are written by name. Nine digits keep float32 probabilities exactly.

    Args:
        path: the CSV file.
        ids: `n` readable names.
        targets: `(n,)` integers in `[0, num_classes)`.
        probabilities: `(n, num_classes)`.
        class_names: the names of the columns.
    """
    with (
        replace_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, *class_names])
        for name, target, row in zip(ids, targets, probabilities, strict=True):
            prediction = class_names[int(np.argmax(row))]
            writer.writerow([name, class_names[target], prediction, *(f"{p:.9g}" for p in row)])


def read_predictions(path):
    """Reads what `write_predictions` wrote, as `Predictions`.

    Raises:
        RunError: the file is missing or was not written by kerasfer.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header[:3] != _COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)}")
        class_names = tuple(header[3:])
        index = {name: i for i, name in enumerate(class_names)}
        return Predictions(
            ids=[row[0] for row in rows],
            targets=np.array([index[row[1]] for row in rows], dtype=np.int64),
            probabilities=np.array([row[3:] for row in rows], dtype=np.float32).reshape(
                len(rows), len(class_names)
            ),
            class_names=class_names,
        )
    except (OSError, ValueError, LookupError) as error:
        raise RunError(
            f"Expected {path} to be a predictions.csv as `kerasfer train` writes it, but "
            f"it cannot be read: {error}. Evaluate the run again."
        ) from error


def select_mistakes(probabilities, targets, n=16):
    """Finds the wrong predictions that the model was surest of.

    Args:
        probabilities: `(num_samples, num_classes)`.
        targets: `(num_samples,)` integers.
        n: how many to give at most.

    Returns:
        Indices into `targets`, the most confident mistake first.

    Example:

    >>> select_mistakes([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], [1, 1, 0])
    array([0, 2])
    """
    probabilities = np.asarray(probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != np.asarray(targets))
    confidence = probabilities[wrong].max(axis=-1)
    return wrong[np.argsort(-confidence, kind="stable")][:n]
