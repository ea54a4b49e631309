"""Writes and reads `history.csv`, the metrics, learning rate and duration of each epoch."""

import csv
import io
import math

from kerasfer.errors import RunError
from kerasfer.files import write_text


def write_history(path, rows):
    """Writes the rows of a training.

    Args:
        path: The CSV file.
        rows: A dict of numbers for each epoch, all with the same keys.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[-1], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_history(path):
    """Reads a file that `write_history` has written.

    Args:
        path: The CSV file.

    Returns:
        A dict of floats for each epoch. An empty field is NaN.

    Raises:
        RunError: If the file is missing, or a field is not a number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {name: float(value) if value else math.nan for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunError(
            f"Cannot read {path}, which must be a table with a row of numbers for each epoch: "
            f"{error}. Restore it from a backup, or remove it."
        ) from error
