"""Finds the faces in pictures and says what they show."""

import os
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from kerasfer.data.pictures import SMALLEST_SIDE, read_picture, resize, shrink
from kerasfer.errors import DataError
from kerasfer.faces import Face, crop_face, make_detector
from kerasfer.files import replace_file
from kerasfer.predict.drawing import draw
from kerasfer.predict.runtimes import Runtime, load_runtime

__all__ = ["FacePrediction", "Predictor", "annotate", "draw", "to_record"]

MOST_WAITING = 64  # pictures read before their faces are classified
LARGEST_DRAWN = 2560  # pixels


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """Holds what one face shows.

    Args:
        face: where it is, a `kerasfer.faces.Face`; None where the whole picture is the face.
        label: name of the most probable class.
        probabilities: float32 `(num_classes,)`.
        class_names: the classes, in the order of the probabilities.
        crop: uint8 `(image_size, image_size, 3)`, what the model saw.
    """

    face: Face | None
    label: str
    probabilities: np.ndarray
    class_names: tuple[str, ...] = ()
    crop: np.ndarray | None = None

    @property
    def probability(self):
        """Probability of the label, in [0, 1]."""
        return float(self.probabilities.max())


class Predictor:
    """Finds the faces in pictures and classifies them, many at a time.

    Faces of several pictures share a batch. May be called from several threads.

    Args:
        run: a run's folder, a `.keras`, `.tflite` or `.onnx` file, a SavedModel's folder, or a
            `kerasfer.predict.runtimes.Runtime`.
        faces: a key of `kerasfer.faces.DETECTORS`; `"none"` if each picture is a ready crop; or a
            function that maps uint8 RGB `(height, width, 3)` to a list of `kerasfer.faces.Face`.
        margin: as in `kerasfer.faces.crop_face`. What suits is what the model was trained on.
        align: whether faces are turned so that their eyes are level.
        batch_size: faces classified at once.

    Attributes:
        class_names: one string a class.
        image_size: side of the crops, in pixels.
        runtime: the `Runtime`.

    Raises:
        RunError: `run` cannot be loaded, or the detector's package is not installed.

    Example:

    >>> predictor = Predictor("runs/quickstart")
    >>> [[face.label for face in faces] for faces in predictor(["us.jpg", "them.jpg"])]
    [['happy', 'neutral'], ['surprise']]
    """

    def __init__(self, run, *, faces="mtcnn", margin=0.0, align=True, batch_size=32):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
        if isinstance(faces, str):
            self.detect = None if faces == "none" else make_detector(faces)
        else:
            self.detect = faces
        self.runtime = run if isinstance(run, Runtime) else load_runtime(run)
        self.class_names = self.runtime.class_names
        self.image_size = self.runtime.image_size
        self.margin = margin
        self.align = align
        self.batch_size = batch_size

    def __call__(self, pictures):
        """Classifies the faces of pictures.

        Args:
            pictures: Sequence of paths, PIL pictures or uint8 RGB arrays `(height, width, 3)`.

        Returns:
            For each picture a list of `FacePrediction`, the largest face first; empty where no
            face was found.

        Raises:
            DataError: a picture cannot be read; the message names it.
        """
        if isinstance(pictures, (str, os.PathLike, Image.Image, np.ndarray)) and (
            not isinstance(pictures, np.ndarray) or pictures.ndim < 4
        ):
            raise ValueError(
                "`pictures` must be a sequence of pictures. Received: a single one, of the type "
                f"{type(pictures).__name__}. Pass it in a list: predictor([picture])."
            )
        results = []
        for result in self.stream(pictures):
            if isinstance(result, DataError):
                raise result
            results.append(result)
        return results

    def stream(self, pictures):
        """Yields what `__call__` returns picture by picture, in constant memory.

        Yields:
            For each picture its list of `FacePrediction`, or the `DataError` that it caused.
        """
        waiting, num_crops = [], 0
        for picture in pictures:
            try:
                found = self.find(picture)
            except DataError as error:
                found = error
            else:
                num_crops += len(found)
            waiting.append(found)
            if num_crops >= self.batch_size or len(waiting) >= MOST_WAITING:
                yield from self._finish(waiting)
                waiting, num_crops = [], 0
        yield from self._finish(waiting)

    def find(self, picture):
        """Finds the faces of one picture.

        Returns:
            A list of pairs: the `Face`, or None for the whole picture, and its crop, uint8
            `(image_size, image_size, 3)`.
        """
        picture = as_picture(picture)
        if self.detect is None:
            return [(None, resize(picture, self.image_size))]
        options = {"margin": self.margin, "align": self.align}
        return [
            (face, crop_face(picture, face, self.image_size, **options))
            for face in self.detect(picture)
        ]

    def classify(self, crops):
        """Predicts the probabilities of crops, float32 `(n, num_classes)`.

        Args:
            crops: sequence of n uint8 RGB arrays, of any size.
        """
        crops = [resize(crop, self.image_size) for crop in crops]
        parts = [np.zeros((0, len(self.class_names)), "float32")]
        for start in range(0, len(crops), self.batch_size):
            parts.append(self.runtime(np.stack(crops[start : start + self.batch_size])))
        return np.concatenate(parts)

    def _finish(self, waiting):
        crops = [crop for found in waiting if isinstance(found, list) for _, crop in found]
        probabilities = iter(self.classify(crops))
        for found in waiting:
            yield (
                [self._name(face, crop, next(probabilities)) for face, crop in found]
                if isinstance(found, list)
                else found
            )

    def _name(self, face, crop, probabilities):
        label = self.class_names[int(probabilities.argmax())]
        return FacePrediction(face, label, probabilities, self.class_names, crop)


def to_record(picture, result):
    """Says what was found in a picture in plain values, as `kerasfer predict --json` prints it.

    Args:
        picture: its path.
        result: list of `FacePrediction`, or the `DataError` that the picture caused.

    Returns:
        A dict: `picture`; `error`, the message or None; and `faces`, a list of dicts with `box`
        (x, y, width, height in pixels, or None for the whole picture), `score`, `landmarks` (five
        pairs x, y, or None), `label`, `probability` and `probabilities` (a dict by class).
    """
    if isinstance(result, DataError):
        return {"picture": str(picture), "error": str(result), "faces": []}
    return {"picture": str(picture), "error": None, "faces": [_face_record(one) for one in result]}


def annotate(picture, predictions, path):
    """Writes a picture with its faces' boxes, labels and bars to `path`, a PNG file.

    Pictures with a side above 2,560 pixels are shrunk to it.

    Args:
        picture: a path, or uint8 RGB `(height, width, 3)`.
        predictions: list of `FacePrediction`.
        path: the file to write.
    """
    original = as_picture(picture)
    picture = shrink(original, LARGEST_DRAWN)
    scale = picture.shape[1] / original.shape[1]
    scaled = [
        one if one.face is None else replace(one, face=one.face.scaled(scale))
        for one in predictions
    ]
    with replace_file(path) as temporary:
        Image.fromarray(draw(picture, scaled)).save(temporary, format="PNG")


def _face_record(prediction):
    face = prediction.face
    landmarks = None if face is None else face.landmarks
    probabilities = [round(float(share), 6) for share in prediction.probabilities]
    return {
        "box": None if face is None else [round(float(value), 1) for value in face.box],
        "score": None if face is None else round(face.score, 4),
        "landmarks": None if landmarks is None else np.round(landmarks, 1).tolist(),
        "label": prediction.label,
        "probability": max(probabilities),
        "probabilities": dict(zip(prediction.class_names, probabilities, strict=True)),
    }


def as_picture(picture):
    """Returns a picture as uint8 RGB `(height, width, 3)`, reading it where it is a path.

    Raises:
        DataError: the file cannot be read.
        ValueError: the array is none of a picture.
    """
    if picture is None:
        raise ValueError(
            "Pictures must be paths, PIL pictures or arrays. Received: None, which cv2.imread "
            "returns for a file that it cannot read. Pass the path of the file instead."
        )
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("RGB"))
    if not isinstance(picture, np.ndarray):
        return read_picture(picture, remedy="Replace or remove the file.")
    if (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or min(picture.shape[:2]) < SMALLEST_SIDE
    ):
        raise ValueError(
            f"Pictures must be paths, or uint8 RGB arrays (height, width, 3) of at least "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE} pixels. "
            f"Received: {picture.dtype} {picture.shape}."
        )
    return picture
