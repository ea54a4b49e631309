"""Follows faces from frame to frame and says what each of them shows."""

import time
from dataclasses import dataclass, replace

import numpy as np

from kerasfer.faces import Face, crop_face
from kerasfer.video.tracking import Smoother, Tracker


@dataclass(frozen=True, eq=False)
class Sighting:
    """Holds what one person shows in one frame.

    Args:
        person: Their number, from 1.
        face: `kerasfer.faces.Face`.
        raw: float `(num_classes,)`, the probabilities in this frame.
        smooth: The same, averaged over the past.
    """

    person: int
    face: Face
    raw: np.ndarray
    smooth: np.ndarray


class Follower:
    """Says frame by frame who is where and shows what.

    Args:
        predictor: `kerasfer.predict.Predictor`; without a detector the frame is one face.
        detect_every: In each how many frames faces are looked for.
        smoothing: Time constant in seconds.
        remember: Seconds after which a person who is not seen is forgotten.

    Attributes:
        num_searched, searching: How many frames the detector has seen, in how many seconds.
        num_faces, classifying: How many faces the model has seen, in how many seconds.

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
        self._known = {}  # person: the Face that was found last
        # The first call of a model compiles it, which is no part of its speed.
        predictor.classify([np.zeros((predictor.image_size,) * 2 + (3,), "uint8")])

    def __call__(self, moment, frame):
        """Looks at a frame.

        Args:
            moment: Its time in seconds, later than the last.
            frame: uint8 RGB `(height, width, 3)`.

        Returns:
            A list of `Sighting`, by person.
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
        """Returns a dict from persons to their `Face`, sorted."""
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
    """Returns a face at another place, its landmarks with it."""
    shift = box[:2] - np.asarray(face.box[:2])
    landmarks = None if face.landmarks is None else face.landmarks + shift
    return replace(face, box=tuple(float(value) for value in box), landmarks=landmarks)
