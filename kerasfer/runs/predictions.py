"""Writes and reads `predictions.csv`, the predicted probabilities of each picture."""

import csv
import io
from typing import NamedTuple

import numpy as np

from kerasfer.errors import RunError
from kerasfer.files import write_text

_COLUMNS = ["id", "target", "prediction"]


class Predictions(NamedTuple):
    """The content of a `predictions.csv`.

    Args:
        ids: `n` names.
        targets: `(n,)` integers.
        probabilities: float32 `(n, num_classes)`.
        class_names: `num_classes` names.
    """

    ids: list
    targets: np.ndarray
    probabilities: np.ndarray
    class_names: tuple


def write_predictions(path, ids, targets, probabilities, class_names):
    """Writes a row for each picture: id, true class, predicted class and all probabilities.

    Classes are written by name. Nine digits represent float32 probabilities exactly.

    Args:
        path: The CSV file.
        ids: `n` readable names. Bytes that are not UTF-8 are written as escapes.
        targets: `(n,)` integers in `[0, num_classes)`.
        probabilities: `(n, num_classes)`.
        class_names: The names of the columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *class_names])
    for name, target, row in zip(ids, targets, probabilities, strict=True):
        prediction = class_names[int(np.argmax(row))]
        writer.writerow([name, class_names[target], prediction, *(f"{p:.9g}" for p in row)])
    write_text(path, text.getvalue())


def read_predictions(path):
    """Reads a file that `write_predictions` has written.

    Returns:
        `Predictions`.

    Raises:
        RunError: If the file is missing or was not written by kerasfer.
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
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise RunError(
            f"Expected {path} to be a predictions.csv as `kerasfer train` writes it, but "
            f"it cannot be read: {error}. Evaluate the run again."
        ) from error


def select_mistakes(probabilities, targets, n=16):
    """Finds the wrong predictions with the highest confidence.

    Args:
        probabilities: `(num_samples, num_classes)`.
        targets: `(num_samples,)` integers.
        n: The largest number of indices to return.

    Returns:
        Indices into `targets`, the most confident error first.

    Example:

    >>> select_mistakes([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], [1, 1, 0])
    array([0, 2])
    """
    probabilities = np.asarray(probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != np.asarray(targets))
    confidence = probabilities[wrong].max(axis=-1)
    return wrong[np.argsort(-confidence, kind="stable")][:n]
