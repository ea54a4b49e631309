"""Crops the faces of a dataset, upright and at one size, into a folder of pictures.

    OUT/train/<class>/*.jpg, OUT/val/..., OUT/test/...    loaded by data.name=folder, data.path=OUT
    OUT/landmarks.csv       eyes, nose and mouth in the prepared pictures, in pixels
    OUT/without_face.csv    pictures in which no face was found, and whether they were kept
    OUT/prepared.csv        the journal, from which an interrupted preparation continues

A dataset may choose another tree for its copy; see `kerasfer.data.layout`.
"""

import contextlib
import csv
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kerasfer.data.pictures import resize
from kerasfer.data.scanning import scan
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.faces import crop_face
from kerasfer.files import only_writer, replace_file, write_json

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COORDINATES = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
JOURNAL = ("id", "picture", "faces", "problem", *COORDINATES)
NO_FACE = ("keep", "skip")
NO_FACE_FOUND = "no face"
JPEG = {"quality": 95, "subsampling": 0}


@dataclass(frozen=True)
class Crop:
    """Describes how faces are cropped.

    Args:
        size: int, the side of the prepared pictures in pixels.
        margin: The share of the longer side of the face box that is added around it.
        no_face: What happens to a picture without a face: `"keep"` its central square, so that a
            test split keeps all its pictures, or `"skip"` it.
        detector: Name of the face detector. Another detector cannot continue the same copy.

    Raises:
        RecipeError: If `no_face` is unknown.
    """

    size: int = 224
    margin: float = 0.2
    no_face: str = "keep"
    detector: str = "mtcnn"

    def __post_init__(self):
        if self.no_face not in NO_FACE:
            raise RecipeError(
                f"no_face must be one of {', '.join(NO_FACE)}. Received: {self.no_face!r}."
            )


def prepare(samples, output_dir, detect, crop=Crop(), *, workers=1, progress=None):  # noqa: B008
    """Detects, aligns and crops the face in every picture of a dataset.

    If a picture shows several faces, the one that is large and near the center is used. Soft labels
    become their most likely class. An interrupted preparation, even one that was killed, continues
    where it stopped.

    Args:
        samples: `Samples`, the whole dataset; `samples.layout.complete` adds the pictures that a
            copy needs besides those loaded.
        output_dir: The folder to write, which is new, empty, or from an interrupted preparation.
        detect: A function from a uint8 RGB picture to a list of `kerasfer.faces.Face`, such as
            `make_detector()`. It is called from `workers` threads.
        crop: `Crop`.
        workers: int >= 1, the number of threads.
        progress: Is called with the number of finished pictures, after each.

    Returns:
        A dict with the numbers of pictures `prepared`, of those `several_faces`, `without_face` and
        `unreadable`, and whether pictures without a face were `kept`.

    Raises:
        RecipeError: If skipping pictures would make the copy incomplete.
        RunError: If the folder holds something else, or another program writes into it.
    """
    layout = samples.layout
    if crop.no_face == "skip" and layout.needs_all_pictures:
        raise RecipeError(
            f"A prepared copy of {samples.name} needs all its pictures. Use --no-face keep. "
            "Received: skip."
        )
    output_dir, journal_path = Path(output_dir), Path(output_dir) / "prepared.csv"
    settings = {"dataset": samples.name, "source": samples.source, "pictures": len(samples)}
    _claim(output_dir, settings | asdict(crop))
    with _alone_in(output_dir):
        layout.copy_labels(samples, output_dir)
        paths, names = layout.paths(samples), layout.ids(samples)
        done = _read_done(journal_path)
        left = np.array([i for i in range(len(samples)) if samples.ids[i] not in done], dtype=int)

        def cut(picture):
            return _cut(picture, detect, crop)

        with (
            open(journal_path, "a", newline="", encoding="utf-8") as file,
            contextlib.closing(scan(samples.take(left), cut, workers=workers)) as results,
        ):
            journal = csv.DictWriter(file, JOURNAL, restval="", lineterminator="\n")
            if file.tell() == 0:
                journal.writeheader()
            for number, (index, result) in enumerate(zip(left, results, strict=True), 1):
                row = {"id": samples.ids[index], "picture": names[index]}
                journal.writerow(row | _write(result, output_dir / paths[index], crop.no_face))
                file.flush()
                if progress is not None:
                    progress(len(done) + number)
        return _finish(output_dir, journal_path, crop.no_face)


def choose_face(faces, shape):
    """Chooses the face that the label of a picture most likely describes.

    Args:
        faces: At least one `Face`.
        shape: The height and width of the picture, in pixels.

    The weight of a face is its area, reduced by its distance from the center of the picture.

    Example:

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
    """Computes the landmarks in the picture that `crop_face` makes.

    Args:
        face: `Face` with landmarks.
        size: The side of the crop in pixels.
        margin: As for `crop_face`.

    Returns:
        float `(5, 2)`, x and y in pixels of the crop.
    """
    x, y, width, height = face.box
    center = np.array([x + width / 2, y + height / 2])
    right_eye_from_left = face.landmarks[1] - face.landmarks[0]
    angle = math.atan2(right_eye_from_left[1], right_eye_from_left[0])
    cos, sin = math.cos(angle), math.sin(angle)
    upright = (face.landmarks - center) @ np.array([[cos, -sin], [sin, cos]])
    return upright * size / max(1.0, (1 + margin) * max(width, height)) + size / 2


def _cut(picture, detect, crop):
    """Returns the prepared picture, the number of faces found, and the landmarks or `None`."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    faces = detect(picture)
    if not faces:
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(picture[top : top + side, left : left + side], crop.size), 0, None
    face = choose_face(faces, picture.shape)
    marks = None if face.landmarks is None else landmarks_in_crop(face, crop.size, crop.margin)
    return crop_face(picture, face, crop.size, margin=crop.margin), len(faces), marks


def _write(result, path, no_face):
    """Writes the result of one picture and returns its part of the row in the journal."""
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


def _claim(output_dir, settings):
    """Accepts a new or empty folder, or one that was begun with the same settings."""
    path = output_dir / "prepare.json"
    if path.is_file():
        try:
            begun = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{path} is damaged: {error}. Choose another --output-dir, or remove the folder."
            ) from error
        # Earlier versions always used MTCNN, and stored the options of the dataset as its source.
        begun.setdefault("detector", "mtcnn")
        if not isinstance(begun.get("source"), str):
            begun["source"] = settings["source"]
        changed = [key for key in settings if begun.get(key) != settings[key]]
        if changed:
            key = changed[0]
            raise RunError(
                f"{output_dir} was begun with {key} = {begun.get(key)}. Received: {settings[key]}. "
                "Choose another --output-dir, or use the earlier settings."
            )
        return
    if output_dir.exists() and not (output_dir.is_dir() and _is_empty(output_dir)):
        raise RunError(
            f"{output_dir} holds something other than prepared pictures. Choose a new or empty "
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
                f"Another program is writing prepared pictures to {output_dir}. Wait for it, or "
                "choose another --output-dir."
            ) from error
        yield


def _read_done(path):
    """Reads the ids of finished pictures, and removes the incomplete line of a killed program."""
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
    """Writes landmarks.csv and without_face.csv from the journal, and returns the numbers."""
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
