"""Detects, tracks and classifies the faces in a sequence of frames."""

import time
from dataclasses import dataclass, replace

import numpy as np

from kerasfer.faces import Face, crop_face
from kerasfer.video.tracking import Smoother, Tracker


@dataclass(frozen=True, eq=False)
class Sighting:
    """Holds the prediction for one person in one frame.

    Args:
        person: The number of the person, from 1.
        face: The `kerasfer.faces.Face`.
        raw: The probabilities in this frame, float `(num_classes,)`.
        smooth: The probabilities averaged over time, float `(num_classes,)`.
    """

    person: int
    face: Face
    raw: np.ndarray
    smooth: np.ndarray


class Follower:
    """Identifies and classifies the persons in each frame.

    Args:
        predictor: A `kerasfer.predict.Predictor`. If it has no detector, each frame is one face.
        detect_every: Detects faces in every n-th frame.
        smoothing: The time constant of the smoothing, in seconds.
        remember: The time in seconds after which a person who is not detected is forgotten.

    Attributes:
        num_searched: The number of frames in which faces were detected.
        searching: The time spent on detection, in seconds.
        num_faces: The number of classified faces.
        classifying: The time spent on classification, in seconds.

    Example:

    ```python
    follow = Follower(Predictor("runs/quickstart"))
    [sighting.person for sighting in follow(0.0, frame)]  # [1, 2]
    ```
    """

    def __init__(self, predictor, *, detect_every=1, smoothing=0.5, remember=3.0):
        self.predictor = predictor
        self.detect_every = detect_every
        self.smoother = Smoother(smoothing)
        self.tracker = Tracker(remember=remember)
        self.num_searched = self.num_faces = 0
        self.searching = self.classifying = 0.0
        self._turn = 0
        self._known = {}  # Maps each person to the Face that was detected last.
        # The first call compiles the model. Its time must not count as classification.
        predictor.classify([np.zeros((predictor.image_size,) * 2 + (3,), "uint8")])

    def __call__(self, moment, frame):
        """Processes a frame.

        Args:
            moment: The time of the frame in seconds, later than that of the previous frame.
            frame: uint8 RGB `(height, width, 3)`.

        Returns:
            A list of `Sighting`, sorted by person.
        """
        faces = self._find(moment, frame)
        if not faces:
            return []
        start = time.perf_counter()
        raw = self.predictor.classify([self._crop(frame, face) for face in faces.values()])
        self.classifying += time.perf_counter() - start
        self.num_faces += len(faces)
        return [
            Sighting(person, face, values, self.smoother.update(person, moment, values))
            for (person, face), values in zip(faces.items(), raw, strict=True)
        ]

    def _find(self, moment, frame):
        """Returns a sorted dict that maps each person to a `Face`."""
        height, width = frame.shape[:2]
        if self.predictor.detect is None:
            return {1: Face((0.0, 0.0, float(width), float(height)))}
        self._turn += 1
        if (self._turn - 1) % self.detect_every:
            return {
                person: _moved(self._known[person], box)
                for person, box in sorted(self.tracker.predict(moment).items())
                if box[0] < width and box[1] < height and (box[:2] + box[2:] > 0).all()
            }
        start = time.perf_counter()
        found = self.predictor.detect(frame)
        self.searching += time.perf_counter() - start
        self.num_searched += 1
        persons = self.tracker.update(moment, [face.box for face in found])
        pairs = [(person, face) for person, face in zip(persons, found, strict=True) if person]
        self._known = dict(sorted(pairs, key=lambda pair: pair[0]))
        return self._known

    def _crop(self, frame, face):
        if self.predictor.detect is None:
            return frame
        options = {"margin": self.predictor.margin, "align": self.predictor.align}
        return crop_face(frame, face, self.predictor.image_size, **options)


def _moved(face, box):
    """Returns a copy of a face, shifted to a box together with its landmarks."""
    shift = box[:2] - np.asarray(face.box[:2])
    landmarks = None if face.landmarks is None else face.landmarks + shift
    return replace(face, box=tuple(float(value) for value in box), landmarks=landmarks)
