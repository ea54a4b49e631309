"""Records compactly which test pictures a run classifies correctly."""

import base64
import binascii
import hashlib
from typing import NamedTuple

import numpy as np

from kerasfer.errors import RunError
from kerasfer.runs.predictions import read_predictions


class Outcomes(NamedTuple):
    """The outcome for each picture.

    Args:
        pictures: A digest of the names of the pictures and of their order. Outcomes with the same
            digest can be compared picture by picture.
        correct: bool `(n,)`.
    """

    pictures: str
    correct: np.ndarray


def read_outcomes(path):
    """Reads the `Outcomes` of a `predictions.csv`.

    Raises:
        RunError: If the file is missing or was not written by kerasfer.
    """
    predictions = read_predictions(path)
    names = "\n".join(predictions.ids).encode("utf-8", "surrogateescape")
    correct = predictions.probabilities.argmax(axis=1) == predictions.targets
    return Outcomes(hashlib.sha256(names).hexdigest()[:16], correct)


def pack(outcomes):
    """Turns `Outcomes` into a dict for JSON, with one bit for each picture.

    Example:

    >>> pack(Outcomes("0f", np.array([True, False, True])))
    {'pictures': '0f', 'num_samples': 3, 'correct': 'oA=='}
    """
    bits = base64.b64encode(np.packbits(outcomes.correct).tobytes()).decode()
    return {
        "pictures": outcomes.pictures,
        "num_samples": len(outcomes.correct),
        "correct": bits,
    }


def unpack(values):
    """Restores the `Outcomes` from the dict of `pack`.

    Raises:
        RunError: If it is damaged.
    """
    try:
        packed = np.frombuffer(base64.b64decode(values["correct"], validate=True), np.uint8)
        count = values["num_samples"]
        if len(packed) != -(-count // 8):
            raise ValueError(f"{len(packed)} bytes are not {count} bits")
        return Outcomes(values["pictures"], np.unpackbits(packed, count=count).astype(bool))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RunError(
            f"The recorded outcomes of test pictures are damaged: {error}. Record the run again."
        ) from error
