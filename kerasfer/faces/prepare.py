"""Cuts the faces of a dataset out once, upright and at one size, into a tree of pictures.

    OUT/train/<class>/*.jpg, OUT/val/..., OUT/test/...    read with data.name=folder, data.path=OUT
    OUT/landmarks.csv       where eyes, nose and mouth are in the prepared pictures, in pixels
    OUT/without_face.csv    pictures in which no face was found, and what became of them
    OUT/prepared.csv        the journal: what is done, from which an interrupted preparation goes on

A folder knows no persons, which CK+ needs. So CK+ is written in its own form, OUT/ckplus/..., with
the file names of the release, and read with data.name=ckplus and OUT as the folder of the datasets.
"""

import contextlib
import csv
import json
import math
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from kerasfer.data.pictures import SUFFIXES, resize
from kerasfer.data.scanning import scan
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.faces import crop_face
from kerasfer.files import only_writer, replace_file, write_json

OFFICIAL_CKPLUS = "cohn-kanade-images"
PARTS = {"train": "train", "validation": "val", "test": "test"}
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COORDINATES = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
JOURNAL = ("id", "picture", "faces", "problem", *COORDINATES)
NO_FACE = ("keep", "skip")
NO_FACE_FOUND = "no face"
JPEG = {"quality": 95, "subsampling": 0}


def prepare(
    samples,
    output_dir,
    detect,
    *,
    data_dir=None,
    size=224,
    margin=0.2,
    no_face="keep",
    source=None,
    workers=1,
    progress=None,
):
    """Detects, aligns and cuts out the face of every picture of a dataset.

    Of several faces the one that is large and near the middle is taken. Soft labels become their
    most likely class. An interrupted preparation, even one that was killed, goes on where it
    stopped.

    Args:
        samples: `Samples`, the whole dataset.
        output_dir: the folder to write; new, empty or from an interrupted preparation.
        detect: a function from a uint8 RGB picture to a list of `kerasfer.faces.Face`, such as
            `make_detector()`; called from `workers` threads.
        data_dir: the folder that holds the datasets; needed for CK+.
        size: int, side of the prepared pictures in pixels.
        margin: share of the face box's longer side that is added around it.
        no_face: what becomes of a picture without a face: `"keep"` its central square, so that a
            test keeps all its pictures, or `"skip"` it.
        source: what else must be the same for an interrupted preparation to go on, such as the
            dataset's options; ready for JSON.
        workers: int >= 1, threads.
        progress: called with the number of pictures done, after each.

    Returns:
        A dict: how many pictures are `prepared`, of those `several_faces`; `without_face`,
        `unreadable`; and whether they are `kept`.

    Raises:
        RecipeError: `no_face` is none of the two, or CK+ would lose frames that it needs.
        RunError: the folder holds something else, or another program writes into it.
    """
    if no_face not in NO_FACE:
        raise RecipeError(f"no_face must be one of {', '.join(NO_FACE)}. Received: {no_face!r}.")
    if no_face == "skip" and samples.name == "ckplus" and _sequences(samples):
        raise RecipeError(
            "CK+ is prepared in its own form, whose sequences need all their frames. "
            "Use --no-face keep. Received: skip."
        )
    output_dir, journal_path = Path(output_dir), Path(output_dir) / "prepared.csv"
    settings = {
        "dataset": samples.name,
        "pictures": len(samples),
        "size": size,
        "margin": margin,
        "no_face": no_face,
        "source": source,
    }
    _claim(output_dir, settings)
    with _alone_in(output_dir):
        if samples.name == "ckplus":
            paths, names = _keep_ckplus(samples, data_dir, output_dir), samples.ids
        else:
            paths = names = _places(samples)
        done = _read_done(journal_path)
        left = np.array([i for i in range(len(samples)) if samples.ids[i] not in done], dtype=int)

        def cut(picture):
            return _cut(picture, detect, size, margin)

        with (
            open(journal_path, "a", newline="", encoding="utf-8") as file,
            contextlib.closing(scan(samples.take(left), cut, workers=workers)) as results,
        ):
            journal = csv.DictWriter(file, JOURNAL, restval="", lineterminator="\n")
            if file.tell() == 0:
                journal.writeheader()
            for number, (index, result) in enumerate(zip(left, results, strict=True), 1):
                row = {"id": samples.ids[index], "picture": names[index]}
                journal.writerow(row | _write(result, output_dir / paths[index], no_face))
                file.flush()
                if progress is not None:
                    progress(len(done) + number)
        return _finish(output_dir, journal_path, no_face)


def choose_face(faces, shape):
    """Picks the face that a picture is most likely labelled for: large, and near the middle.

    Args:
        faces: at least one `Face`.
        shape: height and width of the picture, in pixels.

    Example: the largest unless it is at the rim.

    >>> from kerasfer.faces import Face
    >>> choose_face([Face((0, 0, 50, 50)), Face((80, 80, 40, 40))], (200, 200)).box
    (80, 80, 40, 40)
    """
    height, width = shape[:2]

    def weight(face):
        x, y, face_width, face_height = face.box
        off = math.hypot(
            (x + face_width / 2) / width - 0.5, (y + face_height / 2) / height - 0.5
        ) / math.hypot(0.5, 0.5)
        return face_width * face_height * max(1 - off, 0)

    return max(faces, key=weight)


def landmarks_in_crop(face, size, margin):
    """Tells where the landmarks are in the picture that `crop_face` makes.

    Args:
        face: `Face` with landmarks.
        size: side of the crop in pixels.
        margin: as for `crop_face`.

    Returns:
        float `(5, 2)`, x and y in pixels of the crop.
    """
    x, y, width, height = face.box
    centre = np.array([x + width / 2, y + height / 2])
    right_eye_from_left = face.landmarks[1] - face.landmarks[0]
    angle = math.atan2(right_eye_from_left[1], right_eye_from_left[0])
    cos, sin = math.cos(angle), math.sin(angle)
    upright = (face.landmarks - centre) @ np.array([[cos, -sin], [sin, cos]])
    return upright * size / max(1.0, (1 + margin) * max(width, height)) + size / 2


def _cut(picture, detect, size, margin):
    """Returns the prepared picture, how many faces were found, and the landmarks or None."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    faces = detect(picture)
    if not faces:
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(picture[top : top + side, left : left + side], size), 0, None
    face = choose_face(faces, picture.shape)
    marks = None if face.landmarks is None else landmarks_in_crop(face, size, margin)
    return crop_face(picture, face, size, margin=margin), len(faces), marks


def _write(result, path, no_face):
    """Writes what came of one picture; returns its part of the journal's row."""
    if isinstance(result, DataError):
        return {"faces": 0, "picture": "", "problem": " ".join(str(result).split())}
    picture, num_faces, marks = result
    row = {"faces": num_faces, "problem": "" if num_faces else NO_FACE_FOUND}
    if not num_faces and no_face == "skip":
        return row | {"picture": ""}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        options = JPEG if path.suffix.lower() in (".jpg", ".jpeg") else {}
        Image.fromarray(picture).save(temporary, **options)
    if marks is not None:
        row |= zip(COORDINATES, (f"{value:.2f}" for value in marks.ravel()), strict=True)
    return row


def _places(samples):
    """Lists the path that each picture is written to, below the folder."""
    taken, paths = set(), []
    for index in range(len(samples)):
        part = () if samples.splits is None else (PARTS[str(samples.splits[index])],)
        folder = "/".join((*part, samples.class_names[samples.targets[index]]))
        stem = _stem(samples.ids[index])
        path, copy = f"{folder}/{stem}.jpg", 1
        while path.lower() in taken:  # a.jpg and a.png, or disks that take a and A for one
            copy += 1
            path = f"{folder}/{stem}_{copy}.jpg"
        taken.add(path.lower())
        paths.append(path)
    return paths


def _keep_ckplus(samples, data_dir, output_dir):
    """Keeps the tree and the names of CK+, which tell subject and sequence, and copies its labels.

    Returns:
        The path that each picture is written to, below the folder.
    """
    data_dir = Path(data_dir)
    for sequence in _sequences(samples):
        labels = data_dir / "ckplus" / "Emotion" / Path(*sequence.parts[-2:])
        for path in labels.glob("*_emotion.txt"):
            copy = output_dir / path.relative_to(data_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [path.relative_to(data_dir).as_posix() for path in samples.pictures]


def _sequences(samples):
    """The folders of CK+'s sequences; none of the derived CK+48."""
    return {path.parent for path in samples.pictures if OFFICIAL_CKPLUS in path.parts}


def _stem(sample_id):
    """`"a/b/fer0034656.png"` becomes `"fer0034656"`, `"fer2013.csv:17"` `"fer2013.csv_17"`."""
    name = sample_id.rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(name)
    name = stem if suffix.lower() in SUFFIXES else name
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "picture"


def _claim(output_dir, settings):
    """Takes a new or empty folder, or one that was begun with the same settings."""
    path = output_dir / "prepare.json"
    if path.is_file():
        try:
            begun = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{path} is damaged: {error}. Choose another --output-dir, or remove the folder."
            ) from error
        changed = [key for key in settings if begun.get(key) != settings[key]]
        if changed:
            key = changed[0]
            raise RunError(
                f"{output_dir} was begun with {key} = {begun.get(key)}, now it is {settings[key]}. "
                "Choose another --output-dir, or the settings of then."
            )
        return
    if output_dir.exists() and not (output_dir.is_dir() and _is_empty(output_dir)):
        raise RunError(
            f"{output_dir} holds something else than prepared pictures. Choose a new or empty "
            "--output-dir."
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _is_empty(folder):
    return all(path.name.startswith(".") for path in folder.iterdir())


@contextlib.contextmanager
def _alone_in(output_dir):
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_writer(output_dir))
        except RunError as error:
            raise RunError(
                f"Another program is preparing into {output_dir} at this moment. Wait for it, or "
                "choose another --output-dir."
            ) from error
        yield


def _read_done(path):
    """Reads the ids of what is done, and cuts off the line that a kill left unfinished."""
    if not path.is_file():
        return set()
    with open(path, "rb+") as file:
        whole = 0
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
        file.truncate(whole)
    return {row["id"] for row in _read_journal(path)}


def _read_journal(path):
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _finish(output_dir, journal_path, no_face):
    """Writes the lists that are read later, from the journal; returns the numbers."""
    numbers = Counter()
    with (
        _csv_file(output_dir / "landmarks.csv", ("picture", *COORDINATES)) as landmarks,
        _csv_file(output_dir / "without_face.csv", ("id", "picture", "problem")) as without,
    ):
        for row in _read_journal(journal_path):
            numbers["prepared"] += bool(row["picture"])
            numbers["several_faces"] += int(row["faces"]) > 1
            numbers["without_face"] += row["problem"] == NO_FACE_FOUND
            numbers["unreadable"] += row["problem"] not in ("", NO_FACE_FOUND)
            if row[COORDINATES[0]]:
                landmarks.writerow(row)
            if row["problem"]:
                without.writerow(row)
    return dict(numbers) | {"kept": no_face == "keep"}


@contextlib.contextmanager
def _csv_file(path, columns):
    with (
        replace_file(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        yield writer
