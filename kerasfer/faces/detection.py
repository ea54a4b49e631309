"""Detects the faces in pictures, and crops them upright."""

import math
from dataclasses import dataclass

import numpy as np

from kerasfer.data.augment import warp
from kerasfer.data.pictures import shrink
from kerasfer.faces import DETECTORS

SMALLEST = 20  # Pixels; detectors are unreliable on faces below this side.
LEAST_MIN_FACE = 12  # Pixels; MTCNN cannot see smaller faces.


@dataclass(frozen=True, eq=False)
class Face:
    """Holds the position of a face in a picture, in pixels.

    Args:
        box: x and y of the upper left corner, width, height. May reach beyond the picture.
        score: Confidence of the detector, in [0, 1].
        landmarks: float `(5, 2)`, x and y of the left eye, right eye, nose, left and right corner
            of the mouth, as seen in the picture; None if the detector does not give any.
    """

    box: tuple[float, float, float, float]
    score: float = 1.0
    landmarks: np.ndarray | None = None

    def scaled(self, scale):
        """Returns the same face in the picture resized by the factor `scale`."""
        landmarks = None if self.landmarks is None else self.landmarks * scale
        return Face(tuple(scale * value for value in self.box), self.score, landmarks)


def make_detector(name="mtcnn", *, min_face=SMALLEST, max_side=1600):
    """Returns a function that finds the faces of a picture, the largest first.

    Large pictures are shrunk before they are searched, which limits time and memory. The
    faces are given in pixels of the original picture. The function may be called from several
    threads.

    Args:
        name: A key of `DETECTORS`: `"mtcnn"`, the detector of the papers, or `"yunet"`, which is
            about ten times faster and misses more of the faces below 60 pixels.
        min_face: Side in pixels of the smallest faces to return, at least 12. In a picture that is
            shrunk, faces below 20 pixels of the shrunk picture are left out.
        max_side: Longest side in pixels that is searched.

    Returns:
        A function that maps a uint8 RGB picture `(height, width, 3)` to a list of `Face`.

    Raises:
        RunError: If a package that the detector needs is not installed.
        ValueError: If the name is unknown, or `min_face` is too small.

    Example:

    >>> detect = make_detector("mtcnn")  # Needs the extra `faces`.
    >>> detect(np.zeros((120, 160, 3), "uint8"))
    []
    """
    if name not in DETECTORS:
        raise ValueError(f"`name` must be one of {', '.join(DETECTORS)}. Received: {name!r}.")
    if min_face < LEAST_MIN_FACE:
        raise ValueError(
            f"`min_face` must be at least {LEAST_MIN_FACE} pixels. Received: {min_face}."
        )
    find = DETECTORS[name]()

    def detect(picture):
        small = shrink(picture, max_side)
        smallest = max(min_face * small.shape[0] / picture.shape[0], min(min_face, SMALLEST))
        back = np.divide(picture.shape[1::-1], small.shape[1::-1])  # x, y
        faces = []
        for box, score, landmarks in zip(*find(small, smallest), strict=True):
            corner, end = box[:2] * back, box[2:] * back
            box = tuple(map(float, (*corner, *(end - corner))))
            if max(box[2:]) >= smallest * back[0]:
                faces.append(Face(box, float(score), landmarks * back))
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    return detect


def crop_face(picture, face, size=None, *, margin=0.0, align=True):
    """Crops a face from a picture as a square, rotated so that the eyes are level.

    Args:
        picture: uint8 RGB `(height, width, 3)`.
        face: `Face` in the picture.
        size: Side of the result in pixels; None keeps the resolution of the picture.
        margin: Share of the longer side of the box that is added, half of it on each side.
            Negative values crop closer.
        align: Whether to rotate. Faces without landmarks are never rotated.

    Returns:
        uint8 `(size, size, 3)`. The edge of the picture is repeated outside of it.

    Example:

    >>> picture = np.zeros((120, 160, 3), "uint8")
    >>> crop_face(picture, Face((50, 40, 30, 40)), 48).shape
    (48, 48, 3)
    """
    if margin <= -1:
        raise ValueError(f"`margin` must be larger than -1. Received: margin={margin}.")
    x, y, width, height = face.box
    side = max(1.0, (1 + margin) * max(width, height))
    size = size or round(side)
    angle = _tilt(face.landmarks) if align and face.landmarks is not None else 0.0
    # A square that contains the rotated one, so that huge pictures do not cost more.
    center_x, center_y = x + width / 2, y + height / 2
    reach = side * (abs(math.cos(angle)) + abs(math.sin(angle))) / 2 + 2
    left, top = math.floor(center_x - reach), math.floor(center_y - reach)
    whole = math.ceil(2 * reach) + 2
    columns = np.arange(left, left + whole).clip(0, picture.shape[1] - 1)
    rows = np.arange(top, top + whole).clip(0, picture.shape[0] - 1)
    around = picture.take(rows, axis=0).take(columns, axis=1)
    center = ((center_x - left) / whole, (center_y - top) / whole)
    return np.ascontiguousarray(warp(around, size, center, side / whole, angle))


def _tilt(landmarks):
    """Returns the clockwise angle of the line through the eyes, in radians."""
    x, y = landmarks[1] - landmarks[0]
    return math.atan2(y, x)
