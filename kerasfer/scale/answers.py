"""The Parquet files of `kerasfer predict --parquet`, one row for each face.

| Column                | Type    | Content                                            |
|-----------------------|---------|----------------------------------------------------|
| `picture`             | string  | The path of the picture.                           |
| `face`                | int32   | The number of the face in the picture, from 1.     |
| `x`, `y`              | float32 | The upper left corner of its box in pixels.        |
| `width`, `height`     | float32 | The size of its box in pixels.                     |
| `score`               | float32 | The confidence of the face detector.               |
| `label`               | string  | The most probable class.                           |
| `probability`         | float32 | Its probability.                                   |
| `probability_<class>` | float32 | The probability of each class.                     |
| `error`               | string  | Why the picture cannot be read.                    |

The box and the score are null if the whole picture is classified. A picture without a face and an
unreadable picture have one row each, with the columns `picture` and, for the latter, `error`.
"""

import hashlib
import uuid
from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.files import one_at_a_time, read_json, replace_file, write_json

# Parquet readers ignore names that begin with an underscore.
STATE = "_scoring"
JOB = "job.json"
ATTEMPT = "attempt.json"


def make_schema(class_names):
    """Returns the `pyarrow.Schema` of the files of a model."""
    import pyarrow as pa

    numbers = ("x", "y", "width", "height", "score")
    return pa.schema(
        [("picture", pa.string()), ("face", pa.int32())]
        + [(name, pa.float32()) for name in numbers]
        + [("label", pa.string()), ("probability", pa.float32())]
        + [(f"probability_{name}", pa.float32()) for name in class_names]
        + [("error", pa.string())]
    )


def make_rows(record):
    """Returns the rows of a picture, dicts with the columns that are not null.

    Args:
        record: A dict as `kerasfer.predict.to_record` returns it.

    Example:

    >>> make_rows({"picture": "a.jpg", "faces": [], "error": "It is empty."})
    [{'picture': 'a.jpg', 'error': 'It is empty.'}]
    """
    rows = []
    for number, face in enumerate(record["faces"], start=1):
        row = {"picture": record["picture"], "face": number, "score": face["score"]}
        row |= dict(zip(("x", "y", "width", "height"), face["box"] or (), strict=False))
        row |= {"label": face["label"], "probability": face["probability"]}
        row |= {f"probability_{name}": p for name, p in face["probabilities"].items()}
        rows.append(row)
    return rows or [{"picture": record["picture"], "error": record["error"]}]


def begin_attempt(state):
    """Begins an attempt to complete a job. Workers of earlier attempts can no longer write.

    Workers outlive a killed command by some seconds. They would otherwise answer pictures that the
    next command, which has already listed the answered ones, classifies again.

    Args:
        state: The folder that `open_answers` returns.

    Returns:
        The name of the attempt.
    """
    attempt = uuid.uuid4().hex
    with one_at_a_time(state):
        write_json(state / ATTEMPT, {"attempt": attempt})
    return attempt


def write_answers(records, class_names, folder, attempt):
    """Writes the answers for some pictures as one Parquet file, in one step.

    The name of the file depends on the pictures alone, so a repeated task replaces its own file.

    Args:
        records: Dicts as `kerasfer.predict.to_record` returns them.
        class_names: The names of the classes.
        folder: The folder of the files, which `open_answers` has prepared.
        attempt: The name of the attempt; see `begin_attempt`.

    Returns:
        The path of the file.

    Raises:
        RunError: If a later attempt has begun, or the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    pictures = "\n".join(record["picture"] for record in records)
    name = hashlib.sha256(pictures.encode()).hexdigest()[:20]
    path = Path(folder, f"{name}.parquet")
    rows = [row for record in records for row in make_rows(record)]
    table = pa.Table.from_pylist(rows, schema=make_schema(class_names))
    state = Path(folder, STATE)
    with one_at_a_time(state, shared=True):
        if read_json(state / ATTEMPT)["attempt"] != attempt:
            raise RunError(f"Another command has begun to write into {folder}.")
        with replace_file(path) as temporary:
            parquet.write_table(table, temporary)
    return path


def read_answered(folder):
    """Returns the set of the pictures that the Parquet files of a folder answer.

    Raises:
        RunError: If a file is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    answered = set()
    for path in Path(folder).glob("[!._]*.parquet"):
        try:
            column = parquet.read_table(path, columns=["picture"])["picture"]
        except (pa.ArrowException, OSError) as error:
            raise RunError(
                f"{path} is not a Parquet file of kerasfer, or it is damaged: remove it, and run "
                "the same command again."
            ) from error
        answered.update(column.to_pylist())
    return answered


def open_answers(folder, job):
    """Prepares a folder for the answers of a job, or checks that it contains the same job.

    Args:
        folder: The folder, which is created.
        job: A dict of JSON values that determine the answers, such as the model.

    Returns:
        The folder of the lock, inside of `folder`.

    Raises:
        RunError: If the folder contains something else.
    """
    folder = Path(folder)
    state = folder / STATE
    if folder.exists() and not folder.is_dir():
        raise RunError(f"Expected a folder for the Parquet files. Received: {folder}, a file.")
    if (state / JOB).exists():
        before = read_json(state / JOB)
        changed = [key for key in job if job[key] != before.get(key)]
        if changed:
            shown = ", ".join(f"{key} was {before.get(key)} and is {job[key]}" for key in changed)
            raise RunError(
                f"{folder} contains the answers of another job: {shown}. Choose another folder."
            )
        return state
    if folder.exists() and any(path.suffix == ".parquet" for path in folder.iterdir()):
        raise RunError(
            f"{folder} contains Parquet files that `kerasfer predict` did not write. Choose "
            "another folder."
        )
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / JOB, job)
    return state
