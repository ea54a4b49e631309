"""Classifies any number of pictures with several processes, into Parquet files."""

import logging
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from kerasfer.data.listing import SHARD, find_shards, walk_pictures
from kerasfer.data.shards import PictureInShard, ShardedPictures, open_shard
from kerasfer.data.shards import check_installed as check_pyarrow
from kerasfer.errors import DataError, KerasferError, RunError
from kerasfer.files import only_writer, sha256
from kerasfer.predict.outputs import find_pictures
from kerasfer.scale.answers import begin_attempt, open_answers, read_answered, write_answers
from kerasfer.scale.cluster import (
    check_installed,
    check_visible,
    joined_cluster,
    last_line,
)

PART = 256  # Pictures per task and Parquet file. At most this many are repeated after a failure.
# Pictures, their faces, pictures without a face, and pictures that cannot be read.
COUNTED = ("pictures", "faces", "empty", "errors")


@dataclass(frozen=True)
class Job:
    """Holds the settings that determine the answers for given pictures.

    Args:
        model: The path of the model.
        digest: The SHA-256 digest of its file, or `None` for a folder.
        class_names: The names of its classes.
        faces: A key of `kerasfer.faces.DETECTORS`, or `"none"`.
        margin: As in `kerasfer.predict.Predictor`.
    """

    model: str
    digest: str | None
    class_names: tuple[str, ...]
    faces: str
    margin: float


def score(run, pictures, folder, *, workers=1, faces="mtcnn", margin=0.0, address=None, tell=None):
    """Classifies the faces in pictures with several processes, into Parquet files.

    The same call continues an interrupted one: pictures in the files of `folder` are not classified
    again. See `kerasfer.scale.answers` for the columns.

    Args:
        run: A model, as for `kerasfer.predict.Predictor`.
        pictures: Sequence of picture files, folders, patterns and lists, as for `list_inputs`.
        folder: The folder of the Parquet files. All workers must see it.
        workers: The number of processes. Each uses one core and a copy of the model.
        faces: As for `kerasfer.predict.Predictor`.
        margin: As for `kerasfer.predict.Predictor`.
        address: The address of a Ray cluster; `None` to start Ray on this machine.
        tell: Called with the number of pictures that are answered so far and with their total.

    Returns:
        A `collections.Counter` with the numbers of this call by the names of `COUNTED`, and
        `answered_before`.

    Raises:
        DataError: If there are no pictures.
        RunError: If the model cannot be loaded, if the folder contains other files, or if the
            workers cannot start.

    Example:

    ```python
    score("runs/quickstart", ["album"], "answers", workers=8, faces="none")
    ```
    """
    check_installed()
    paths = list_inputs(pictures)
    job = _describe(run, faces, margin)
    state = open_answers(folder, asdict(job) | {"class_names": list(job.class_names)})
    with only_writer(state):
        attempt = begin_attempt(state)
        answered = read_answered(folder)
        left = [path for path in paths if _as_text(path) not in answered]
        counts = Counter(answered_before=len(paths) - len(left))
        if not left:
            return counts
        with joined_cluster(workers, address=address):
            if address is not None:
                first = left[0].path if isinstance(left[0], PictureInShard) else left[0]
                check_visible([job.model, first], folder)
            for done in _run((job, os.path.abspath(folder), attempt), left, workers):
                counts.update(done)
                if tell:
                    tell(counts["answered_before"] + counts["pictures"], len(paths))
    return counts


def list_inputs(names):
    """Lists the pictures of files, folders, patterns and lists, each once, as absolute paths.

    Unlike `kerasfer.predict.outputs.find_pictures` it also searches the subfolders of a folder, and
    reads lists: text files ending in `.txt` with a path in each line. A relative path in a list
    begins at the folder of the list. Parquet files, and folders in which there are only these,
    contain pictures themselves.

    Args:
        names: Sequence of strings or paths.

    Returns:
        A list of strings and, in Parquet files, of `kerasfer.data.shards.PictureInShard`.

    Raises:
        DataError: If a file does not exist, or if a folder, pattern or list names no picture.

    Example:

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> _ = (folder / "list.txt").write_text("faces/a.jpg\\nfaces/b.jpg\\n")
    >>> [Path(path).name for path in list_inputs([folder / "list.txt"])]
    ['a.jpg', 'b.jpg']
    """
    found = {}
    for name in map(Path, names):
        if name.is_dir():
            paths = walk_pictures(name, Counter()) or _list_rows(name)
            if not paths:
                raise DataError(f"Expected pictures in {name} or its subfolders, but found none.")
        elif name.suffix == ".txt" and name.is_file():
            lines = name.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            paths = [name.parent / line.strip() for line in lines if line.strip()]
            if not paths:
                raise DataError(f"Expected a path in each line of {name}, which is empty.")
        elif name.suffix == SHARD and name.is_file():
            paths = _list_rows(name)
        else:
            paths = find_pictures([name])
        found |= dict.fromkeys(
            path if isinstance(path, PictureInShard) else os.path.abspath(path) for path in paths
        )
    return list(found)


def _list_rows(name):
    """Lists the pictures in a Parquet file, or in those of a folder."""
    found = []
    for path in sorted(find_shards(os.path.abspath(name))):
        check_pyarrow()
        found += ShardedPictures([path], open_shard(path).find_pictures())
    return found


def _describe(run, faces, margin):
    """Returns the `Job`. A damaged model or a missing detector is detected before Ray starts."""
    from kerasfer.predict import Predictor

    predictor = Predictor(run, faces=faces, margin=margin)
    path = predictor.runtime.path.resolve()
    digest = sha256(path) if path.is_file() else None
    return Job(str(path), digest, tuple(predictor.class_names), faces, margin)


def _run(arguments, paths, workers):
    """Yields a `Counter` for each part of the pictures, in the order in which they are finished.

    Args:
        arguments: The arguments of `_Scorer`.
        paths: List of the picture files.
        workers: The number of processes.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / workers)
    tables = [_pack(paths[start : start + PART]) for start in range(0, len(paths), PART)]
    data = ray.data.from_arrow(tables).map_batches(
        _Scorer,
        fn_constructor_args=arguments,
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    try:
        for row in data.iter_rows():
            if failure := row.pop("failure"):
                raise RunError(failure)
            yield Counter({name: int(value) for name, value in row.items()})
    except ray.exceptions.RayError as error:
        raise RunError(
            f"A worker failed, {last_line(error)}. Run the same command again to continue."
        ) from error


def _pack(pictures):
    """Makes an Arrow table of pictures. A file name need not be UTF-8, so it is passed as bytes."""
    import pyarrow as pa

    rows = [
        (os.fsencode(one.path), one.row, one.column)
        if isinstance(one, PictureInShard)
        else (os.fsencode(one), -1, "")
        for one in pictures
    ]
    return pa.table(dict(zip(("path", "row", "column"), zip(*rows, strict=True), strict=True)))


def _unpack(part):
    """Returns the pictures of a table of `_pack`, of which each column is an array."""
    rows = zip(part["path"], part["row"], part["column"], strict=True)
    return [
        os.fsdecode(path) if row < 0 else PictureInShard(Path(os.fsdecode(path)), int(row), column)
        for path, row, column in rows
    ]


class _Scorer:
    """Classifies the pictures of a part in a worker and writes their answers.

    Args:
        job: The `Job`.
        folder: The absolute path of the folder of the Parquet files.
        attempt: As for `kerasfer.scale.answers.write_answers`.
    """

    def __init__(self, job, folder, attempt):
        self.job = job
        self.folder = folder
        self.attempt = attempt
        self.predictor = None

    def __call__(self, part):
        try:
            counts = self.answer(_unpack(part))
        except KerasferError as error:  # Ray Data would replace it with its own error.
            counts = {**dict.fromkeys(COUNTED, 0), "failure": str(error)}
        return {name: [value] for name, value in counts.items()}

    def answer(self, paths):
        """Writes the answers for pictures. Returns their numbers by the names of `COUNTED`."""
        from kerasfer.predict import Predictor, to_record

        if self.predictor is None:
            job = self.job
            self.predictor = Predictor(job.model, faces=job.faces, margin=job.margin)
        records = [
            to_record(_as_text(path), found)
            for path, found in zip(paths, self.predictor.stream(paths), strict=True)
        ]
        write_answers(records, self.job.class_names, self.folder, self.attempt)
        errors = sum(record["error"] is not None for record in records)
        empty = sum(not record["faces"] for record in records) - errors
        faces = sum(len(record["faces"]) for record in records)
        numbers = (len(records), faces, empty, errors)
        return {**dict(zip(COUNTED, numbers, strict=True)), "failure": ""}


def _as_text(path):
    """Returns a picture as valid UTF-8. Other bytes are written as escapes such as `\\udce9`."""
    return str(path).encode("utf-8", "backslashreplace").decode()
