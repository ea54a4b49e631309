"""Landmarks of faces, such as the corners of the eyes, from a CSV file.

    picture,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,…
    train/happy/0001.jpg,71.20,98.75,152.10,98.75,112.40,141.00,…

A line names a picture like the first column of `predictions.csv` in a run folder. It gives x and y
of any number of points in pixels of the picture, the same number in every line. An empty field is a
point that was not found. `kerasfer data prepare` writes such a file for the five points of MTCNN.
"""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasfer.data.text_files import MOST_LETTERS, read_text
from kerasfer.errors import DataError
from kerasfer.text import printable

FORM = "picture,x0,y0,x1,y1,… with x and y in pixels, one line per picture"


def with_landmarks(samples, path):
    """Adds the landmarks in a file to samples.

    Args:
        samples: `Samples`.
        path: The CSV file.

    Returns:
        The samples with `landmarks`, which are NaN for pictures that the file does not name.

    Raises:
        DataError: If the file is missing or damaged, or names none of the samples.
    """
    points = read_landmarks(path)
    known = np.array([name in points for name in samples.ids])
    if not known.any():
        raise DataError(
            f"{path} names none of the {len(samples):,} pictures of {samples.name}. Expected names "
            f"such as {samples.ids[0]}; it has names such as {next(iter(points))}."
        )
    num_points = len(next(iter(points.values())))
    landmarks = np.full((len(samples), num_points, 2), np.nan, dtype="float32")
    for index in np.flatnonzero(known):
        landmarks[index] = points[samples.ids[index]]
    # A point with only one number is unknown.
    landmarks[np.isnan(landmarks).any(axis=-1)] = np.nan
    return replace(samples, landmarks=landmarks)


def read_landmarks(path):
    """Reads a file of landmarks: `{picture: float32 (points, 2)}`.

    Raises:
        DataError: If the file is missing or a line is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"The landmarks were not found. Expected {path}, a file {FORM}.")
    csv.field_size_limit(MOST_LETTERS)
    lines = csv.reader(io.StringIO(read_text(path, f"Expected a file {FORM}."), newline=""))
    try:
        return _parse(lines, path)
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}. Expected {FORM}.") from error


def _parse(lines, path):
    width = len(next(lines, ()))
    if width < 3 or width % 2 == 0:
        raise DataError(f"{path}, line 1: expected {FORM}. Found: {width} columns.")
    points = {}
    for fields in lines:
        try:
            if len(fields) != width:
                raise ValueError(f"{len(fields)} fields")
            numbers = [float(field) if field.strip() else np.nan for field in fields[1:]]
        except ValueError as error:
            raise DataError(
                f"{path}, line {lines.line_num}: expected a picture and {width - 1} numbers. "
                f"Found: {printable(str(error)[:80])}."
            ) from error
        points[fields[0]] = np.array(numbers, dtype="float32").reshape(-1, 2)
    if not points:
        raise DataError(f"{path} holds no landmarks. Expected {FORM}.")
    return points
