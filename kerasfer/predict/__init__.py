"""Finds the faces in pictures and classifies their expressions."""

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

MAX_PENDING = 64  # Pictures that are read before their faces are classified.
MAX_ANNOTATED_SIDE = 2560  # Pixels.


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """Holds the prediction for one face.

    Args:
        face: The detected `kerasfer.faces.Face`. `None` if the whole picture is the face.
        label: The name of the most probable class.
        probabilities: float32 `(num_classes,)`.
        class_names: The names of the classes, in the order of the probabilities.
        crop: The input of the model, uint8 `(image_size, image_size, 3)`.
    """

    face: Face | None
    label: str
    probabilities: np.ndarray
    class_names: tuple[str, ...] = ()
    crop: np.ndarray | None = None

    @property
    def probability(self):
        """The probability of the label, in [0, 1]."""
        return float(self.probabilities.max())


class Predictor:
    """Finds the faces in pictures and classifies them in batches.

    A batch may contain faces of several pictures. A predictor can be called from several threads.

    Args:
        run: A run folder, a `.keras`, `.tflite` or `.onnx` file, the folder of a SavedModel, or a
            `kerasfer.predict.runtimes.Runtime`.
        faces: A key of `kerasfer.faces.DETECTORS`, or a function that maps uint8 RGB
            `(height, width, 3)` to a list of `kerasfer.faces.Face`. Use `"none"` if each picture
            is a ready face crop.
        margin: As in `kerasfer.faces.crop_face`. Use the margin of the training pictures.
        align: Whether faces are rotated so that their eyes are level.
        batch_size: The number of faces that are classified at once.

    Attributes:
        class_names: The names of the classes.
        image_size: The side of the crops, in pixels.
        runtime: The `Runtime`.

    Raises:
        RunError: If `run` cannot be loaded, or the package of the detector is not installed.

    Example:

    ```python
    predictor = Predictor("runs/quickstart")
    for faces in predictor(["us.jpg", "them.jpg"]):
        print([face.label for face in faces])
    ```
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
        """Classifies the faces in pictures.

        Args:
            pictures: Sequence of paths, PIL pictures or uint8 RGB arrays `(height, width, 3)`.

        Returns:
            For each picture a list of `FacePrediction`, the largest face first. The list is empty
            if no face was found.

        Raises:
            DataError: If a picture cannot be read. The message contains its path.
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
        """Yields the results of `__call__` one picture at a time, in constant memory.

        Args:
            pictures: Iterable of pictures, as in `__call__`.

        Yields:
            For each picture its list of `FacePrediction`, or a `DataError` if it cannot be read.
        """
        pending, num_crops = [], 0
        for picture in pictures:
            try:
                found = self.find(picture)
            except DataError as error:
                found = error
            else:
                num_crops += len(found)
            pending.append(found)
            if num_crops >= self.batch_size or len(pending) >= MAX_PENDING:
                yield from self._classify_pending(pending)
                pending, num_crops = [], 0
        yield from self._classify_pending(pending)

    def find(self, picture):
        """Finds the faces in one picture.

        Args:
            picture: A picture, as in `__call__`.

        Returns:
            A list of pairs of a `Face`, or `None` for the whole picture, and its crop, uint8
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
        """Predicts the class probabilities of face crops.

        Args:
            crops: Sequence of n uint8 RGB arrays of any size.

        Returns:
            float32 `(n, num_classes)`.
        """
        crops = [resize(crop, self.image_size) for crop in crops]
        parts = [np.zeros((0, len(self.class_names)), "float32")]
        for start in range(0, len(crops), self.batch_size):
            parts.append(self.runtime(np.stack(crops[start : start + self.batch_size])))
        return np.concatenate(parts)

    def _classify_pending(self, pending):
        crops = [crop for found in pending if isinstance(found, list) for _, crop in found]
        probabilities = iter(self.classify(crops))
        for found in pending:
            yield (
                [self._prediction(face, crop, next(probabilities)) for face, crop in found]
                if isinstance(found, list)
                else found
            )

    def _prediction(self, face, crop, probabilities):
        label = self.class_names[int(probabilities.argmax())]
        return FacePrediction(face, label, probabilities, self.class_names, crop)


def to_record(picture, result):
    """Converts the result for a picture to plain values, as in `kerasfer predict --json`.

    Args:
        picture: The path of the picture.
        result: List of `FacePrediction`, or the `DataError` of a picture that cannot be read.

    Returns:
        A dict with the keys `picture`; `error`, a message or None; and `faces`, a list of dicts
        with `box` (x, y, width, height in pixels, or None for the whole picture), `score`,
        `landmarks` (five pairs x, y, or None), `label`, `probability` and `probabilities` (a dict
        from class names to probabilities).
    """
    if isinstance(result, DataError):
        return {"picture": str(picture), "error": str(result), "faces": []}
    return {"picture": str(picture), "error": None, "faces": [_face_record(one) for one in result]}


def annotate(picture, predictions, path):
    """Writes a copy of a picture with the boxes, labels and bars of its faces to a PNG file.

    Pictures with a side above 2,560 pixels are downscaled to it.

    Args:
        picture: A path, or uint8 RGB `(height, width, 3)`.
        predictions: List of `FacePrediction`.
        path: The file to write.
    """
    original = as_picture(picture)
    picture = shrink(original, MAX_ANNOTATED_SIDE)
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
    probabilities = [round(float(value), 6) for value in prediction.probabilities]
    return {
        "box": None if face is None else [round(float(value), 1) for value in face.box],
        "score": None if face is None else round(face.score, 4),
        "landmarks": None if landmarks is None else np.round(landmarks, 1).tolist(),
        "label": prediction.label,
        "probability": max(probabilities),
        "probabilities": dict(zip(prediction.class_names, probabilities, strict=True)),
    }


def as_picture(picture):
    """Converts a picture to uint8 RGB `(height, width, 3)`.

    Args:
        picture: The path of a file to read, a PIL picture, or uint8 RGB `(height, width, 3)`.

    Returns:
        uint8 RGB `(height, width, 3)`.

    Raises:
        DataError: If the file cannot be read.
        ValueError: If an array has another type or shape.
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
