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


@dataclass(frozen=True, eq=False)
class Answers:
    """Holds what the detector and the model returned for one frame.

    Args:
        faces: The detected faces, a list of `kerasfer.faces.Face`. `None` if the detector was not
            called.
        probabilities: The probabilities of each classified face, float32 `(num_classes,)`.
    """

    faces: list[Face] | None
    probabilities: list[np.ndarray]


class Follower:
    """Identifies and classifies the persons in each frame.

    Args:
        predictor: A `kerasfer.predict.Predictor`. If it has no detector, each frame is one face.
        detect_every: Detects faces in every n-th frame.
        smoothing: The time constant of the smoothing, in seconds.
        remember: The time in seconds after which a person who is not detected is forgotten.

    Attributes:
        answers: The `Answers` for the last frame.
        num_faces: The number of faces in all frames.
        num_searched: The number of frames in which the detector was called.
        searching: The time spent on detection, in seconds.
        num_classified: The number of faces for which the model was called.
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
        self.answers = None
        self.num_searched = self.num_faces = self.num_classified = 0
        self.searching = self.classifying = 0.0
        self._turn = 0
        self._known = {}  # Maps each person to the Face that was detected last.
        # The first call compiles the model. Its time must not count as classification.
        predictor.classify([np.zeros((predictor.image_size,) * 2 + (3,), "uint8")])

    def __call__(self, moment, frame, known=None):
        """Processes a frame.

        Args:
            moment: The time of the frame in seconds, later than that of the previous frame.
            frame: uint8 RGB `(height, width, 3)`.
            known: The `Answers` for this frame from an earlier analysis with the same settings, in
                which case neither the detector nor the model is called.

        Returns:
            A list of `Sighting`, sorted by person.
        """
        detected, faces = self._find(moment, frame, known)
        probabilities = known.probabilities if known else self._classify(frame, faces.values())
        self.answers = Answers(detected, probabilities)
        self.num_faces += len(faces)
        return [
            Sighting(person, face, values, self.smoother.update(person, moment, values))
            for (person, face), values in zip(faces.items(), probabilities, strict=True)
        ]

    def _find(self, moment, frame, known):
        """Returns the detected faces or `None`, and a sorted dict from persons to faces."""
        height, width = frame.shape[:2]
        if self.predictor.detect is None:
            return None, {1: Face((0.0, 0.0, float(width), float(height)))}
        self._turn += 1
        if (self._turn - 1) % self.detect_every:
            return None, {
                person: _moved(self._known[person], box)
                for person, box in sorted(self.tracker.predict(moment).items())
                if box[0] < width and box[1] < height and (box[:2] + box[2:] > 0).all()
            }
        found = known.faces if known else self._detect(frame)
        persons = self.tracker.update(moment, [face.box for face in found])
        pairs = [(person, face) for person, face in zip(persons, found, strict=True) if person]
        self._known = dict(sorted(pairs, key=lambda pair: pair[0]))
        return found, self._known

    def _detect(self, frame):
        start = time.perf_counter()
        found = self.predictor.detect(frame)
        self.searching += time.perf_counter() - start
        self.num_searched += 1
        return found

    def _classify(self, frame, faces):
        if not faces:
            return []
        start = time.perf_counter()
        probabilities = self.predictor.classify([self._crop(frame, face) for face in faces])
        self.classifying += time.perf_counter() - start
        self.num_classified += len(faces)
        return list(probabilities)

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
