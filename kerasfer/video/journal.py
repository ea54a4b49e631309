"""Keeps what the detector and the model return while a video is analyzed.

If the analysis is killed, the next one reads its journal instead of calling them again.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kerasfer import __version__
from kerasfer.faces import Face
from kerasfer.files import sha256
from kerasfer.runs.finding import find_run
from kerasfer.video.following import Answers

_SAMPLE = 1 << 20  # Bytes of each end of a video that identify it.


def describe_analysis(video, runtime, *settings):
    """Describes everything that the answers for a video depend on.

    Args:
        video: The path of the video file.
        runtime: The `kerasfer.predict.runtimes.Runtime` of the model.
        settings: Dataclasses from `kerasfer.video.settings`.

    Returns:
        A dict for `Journal`, or `None` if the model is not a file or a setting is a function.
    """
    path, described = Path(runtime.path), [asdict(one) for one in settings]
    if not path.exists() or any(callable(value) for one in described for value in one.values()):
        return None
    if runtime.kind == "keras":
        path = find_run(path).model
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {
        "version of kerasfer": __version__,
        "video": _identify(video),
        "model": [sha256(file) for file in files],
        "settings": described,
    }


class Journal:
    """Writes the answers for each frame to a file, and reads those of a killed analysis.

    Each frame is one line of JSON, which is passed to the operating system at once.

    Args:
        path: The path of the file.
        key: The dict from `describe_analysis`, or `None` to keep nothing.

    Attributes:
        num_frames: The number of frames that a killed analysis of the same kind has left.
        changed: The keys in which a killed analysis differs. Its answers are discarded.

    Example:

    ```python
    with Journal(path, key) as journal:
        known = journal.recall(0)
        sightings = follow(0.0, frame, known)
        if known is None:
            journal.add(0, follow.answers)
        journal.remove()
    ```
    """

    def __init__(self, path, key):
        self.path = Path(path)
        self.num_frames = 0
        self.changed = []
        self._key = key
        self._left = 0
        self._files = contextlib.ExitStack()

    def __enter__(self):
        if self._key is None:
            return self
        with self._files as files:
            self._file = files.enter_context(open(self.path, "ab"))
            self._earlier = files.enter_context(open(self.path, "rb"))
            key, length = self._scan()
            self._earlier.seek(0)
            if key != self._key:
                self.changed = (
                    [] if key is None else [k for k in self._key if key.get(k) != self._key[k]]
                )
                self.num_frames = length = 0
            self._file.truncate(length)
            if length:
                self._earlier.readline()
            else:
                self._write(self._key)
            self._files = files.pop_all()
        self._left = self.num_frames
        return self

    def __exit__(self, *error):
        return self._files.__exit__(*error)

    @property
    def has_answers(self):
        """Whether answers of the killed analysis are left."""
        return self._left > 0

    def recall(self, number):
        """Returns the `Answers` of a killed analysis for a frame, or `None`.

        Args:
            number: The number of the frame in the video. The numbers must increase.
        """
        if not self._left:
            return None
        place = self._earlier.tell()
        known, answers = _parse(self._earlier.readline())
        self._left -= 1
        if known == number:
            return answers
        # Another version of OpenCV decodes the video differently.
        self._file.truncate(place)
        self._left = 0
        return None

    def add(self, number, answers):
        """Writes the answers for a frame."""
        if self._key is None:
            return
        faces = answers.faces
        if faces is not None:
            marks = [None if one.landmarks is None else one.landmarks.tolist() for one in faces]
            faces = [[one.box, one.score, mark] for one, mark in zip(faces, marks, strict=True)]
        rows = [np.asarray(row, "float32").tolist() for row in answers.probabilities]
        self._write([number, faces, rows])

    def remove(self):
        """Removes the file when the results are complete."""
        self.path.unlink(missing_ok=True)

    def _write(self, value):
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()

    def _scan(self):
        """Returns the key in the file or `None`, and the length of its valid part in bytes."""
        try:
            key = dict(json.loads(self._earlier.readline()))
        except (ValueError, TypeError, RecursionError):
            return None, 0
        length = self._earlier.tell()
        for line in self._earlier:
            if _parse(line) is None:  # The analysis was killed while it wrote the line.
                break
            self.num_frames += 1
            length += len(line)
        return key, length


def _parse(line):
    """Returns the number of a frame and its `Answers`, or `None` if the line is incomplete."""
    if not line.endswith(b"\n"):
        return None
    try:
        number, faces, rows = json.loads(line)
        if faces is not None:
            faces = [
                Face(tuple(box), score, None if marks is None else np.array(marks, "float64"))
                for box, score, marks in faces
            ]
        return number, Answers(faces, [np.array(row, "float32") for row in rows])
    except (ValueError, TypeError, RecursionError):
        return None


def _identify(path):
    """Returns the size of a file and the digest of its first and last bytes, as a list."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLE))
        file.seek(max(0, size - _SAMPLE))
        digest.update(file.read(_SAMPLE))
    return [size, digest.hexdigest()]
