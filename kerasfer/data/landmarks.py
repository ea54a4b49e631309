"""Landmarks of faces, such as the corners of the eyes, from a CSV file beside the pictures.

    picture,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,…
    train/happy/0001.jpg,71.20,98.75,152.10,98.75,112.40,141.00,…

A line names a picture as the first column of a run's `predictions.csv` does, and gives x and y of
any number of points in pixels of the picture, the same number in every line; an empty field is a
point that was not found. `kerasfer data prepare` writes such a file for MTCNN's five points.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasfer.errors import DataError


def with_landmarks(samples, path):
    """Joins samples with the landmarks that a file gives for them.

    Args:
        samples: `Samples`.
        path: the CSV file.

    Returns:
        The samples with `landmarks`; NaN for those that the file lacks.

    Raises:
        DataError: the file is missing or damaged, or names none of the samples.
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
    # A point of which one number is missing is not known at all.
    landmarks[np.isnan(landmarks).any(axis=-1)] = np.nan
    return replace(samples, landmarks=landmarks)


def read_landmarks(path):
    """Reads a file of landmarks: `{picture: float32 (points, 2)}`.

    Raises:
        DataError: the file is missing, or a line is not as expected.
    """
    path = Path(path)
    form = "picture,x0,y0,x1,y1,… with x and y in pixels, a line a picture"
    if not path.is_file():
        raise DataError(f"The landmarks were not found. Expected {path}, a file {form}.")
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        width = len(next(lines, ()))
        if width < 3 or width % 2 == 0:
            raise DataError(f"{path}, line 1: expected {form}. Found: {width} columns.")
        points = {}
        for fields in lines:
            try:
                if len(fields) != width:
                    raise ValueError(f"{len(fields)} fields")
                numbers = [float(field) if field.strip() else np.nan for field in fields[1:]]
            except ValueError as error:
                raise DataError(
                    f"{path}, line {lines.line_num}: expected a picture and {width - 1} numbers. "
                    f"Found: {error}."
                ) from error
            points[fields[0]] = np.array(numbers, dtype="float32").reshape(-1, 2)
    if not points:
        raise DataError(f"{path} holds no landmarks. Expected {form}.")
    return points
