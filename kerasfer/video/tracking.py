"""Tracks persons by their boxes and smooths their probabilities over time.

All times are in seconds, so the results do not depend on the frame rate. The tracker does not
compare faces: a person who was absent for longer than `remember` gets a new number.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

_VELOCITY_SECONDS = 0.2  # Time constant of the velocity estimate.
_MOVING_SECONDS = 0.5  # A hidden face keeps its velocity for this long.
_STOPPING_SECONDS = 0.4  # Time constant with which its velocity then decays.
_FORBIDDEN = 1e6


class Tracker:
    """Assigns the number of a person to each box, from 1 in order of appearance.

    The box of each person is predicted for the time of the frame. The velocity decays while a face
    is hidden. Boxes are then assigned to predictions such that the sum of their overlaps is
    maximal. Boxes are enlarged before they are compared, so that a face can be matched even if it
    moves by more than its width between two detections (buffered IoU). A box without a match
    starts a new track, which is confirmed by further boxes. Isolated false positives of the
    detector therefore get no number. Faces in the first frame are confirmed immediately.

    Args:
        min_overlap: The minimum IoU of two enlarged boxes of the same person, in (0, 1].
        buffer: The enlargement of a box on each side, as a share of its width and height.
        remember: The time in seconds after which a person who is not detected is forgotten.
        confirm: The number of boxes that confirm a track. 1 confirms each box immediately.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    Two faces move past each other.

    >>> tracker = Tracker()
    >>> for step in range(11):
    ...     boxes = [(20 * step, 50, 40, 40), (200 - 20 * step, 60, 40, 40)]
    ...     persons = tracker.update(step / 10, boxes)
    >>> persons
    [1, 2]

    References:

    - Bewley et al., Simple Online and Realtime Tracking, 2016.
    - Yang et al., Hard to Track Objects with Irregular Motions and Similar Appearances? Make It
      Easier by Buffering the Matching Space, 2023 (buffered IoU).
    """

    def __init__(self, *, min_overlap=0.15, buffer=0.3, remember=3.0, confirm=2):
        if not 0 < min_overlap <= 1:
            raise ValueError(f"`min_overlap` must be in (0, 1]. Received: {min_overlap}.")
        if buffer < 0 or remember < 0:
            raise ValueError(
                f"`buffer` and `remember` must not be negative. Received: {buffer}, {remember}."
            )
        if confirm < 1:
            raise ValueError(f"`confirm` must be at least 1. Received: {confirm}.")
        self.min_overlap = min_overlap
        self.buffer = buffer
        self.remember = remember
        self.confirm = confirm
        self._tracks = []
        self._num_persons = 0
        self._time = None

    def update(self, time, boxes):
        """Adds the detected boxes of a frame.

        Args:
            time: The time in seconds, later than that of the previous call.
            boxes: `(n, 4)` x, y, width, height in pixels.

        Returns:
            A list with the person of each box, or `None` for a track that is not confirmed yet.
        """
        boxes = np.asarray(boxes, "float64").reshape(-1, 4)
        self._tracks = [t for t in self._tracks if time - t.time <= self.remember]
        tracks = [None] * len(boxes)
        for box, track in self._pairs(time, boxes):
            tracks[box] = self._tracks[track]
            tracks[box].see(time, boxes[box])
        for track in self._tracks:
            track.hidden = track.time < time
        # An unconfirmed track without a further box was a false positive.
        self._tracks = [t for t in self._tracks if t.person or not t.hidden]
        for number, box in enumerate(boxes):
            if tracks[number] is None:
                tracks[number] = _Track(time, box)
                self._tracks.append(tracks[number])
        for track in tracks:
            if not track.person and (self._time is None or track.num_seen >= self.confirm):
                self._num_persons += 1
                track.person = self._num_persons
        self._time = time
        return [track.person for track in tracks]

    def predict(self, time):
        """Predicts the boxes of the persons that were detected at the last update.

        Args:
            time: The time in seconds, not before the last update.

        Returns:
            A dict that maps persons to float64 `(4,)` x, y, width, height in pixels.
        """
        return {
            track.person: track.predict(time)
            for track in self._tracks
            if track.person and not track.hidden
        }

    def _pairs(self, time, boxes):
        """Returns a list of (box index, track index)."""
        if not len(boxes) or not self._tracks:
            return []
        predicted = np.stack([track.predict(time) for track in self._tracks])
        overlaps = self._overlaps(boxes, predicted)
        # A hidden person may have stopped at the last known position.
        last = np.stack([track.box for track in self._tracks])
        hidden = [track.hidden for track in self._tracks]
        overlaps = np.where(hidden, np.maximum(overlaps, self._overlaps(boxes, last)), overlaps)
        cost = np.where(overlaps >= self.min_overlap, 1 - overlaps, _FORBIDDEN)
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        return [pair for pair in pairs if cost[pair] < _FORBIDDEN]

    def _overlaps(self, boxes, others):
        return overlaps(_enlarge(boxes, self.buffer), _enlarge(others, self.buffer))


class Smoother:
    """Averages the probabilities of each person over time with exponential weights.

    The weight of a prediction decays as `exp(-t / seconds)` with its age `t`, independently of the
    frame rate.

    Args:
        seconds: The time constant. 0 disables smoothing.
        remember: The time in seconds after which a person without updates may be forgotten.

    Raises:
        ValueError: If `seconds` is negative.

    Example:

    >>> smoother = Smoother(1.0)
    >>> smoother.update(1, 0.0, np.array([1.0, 0.0]))
    array([1., 0.])
    >>> smoother.update(1, 1.0, np.array([0.0, 1.0])).round(3)  # The old value keeps 1 / e.
    array([0.368, 0.632])
    """

    def __init__(self, seconds=0.5, *, remember=10.0):
        if seconds < 0:
            raise ValueError(f"`seconds` must not be negative. Received: {seconds}.")
        self.seconds = seconds
        self.remember = remember
        self._states = {}  # Maps each person to (time, probabilities).

    def update(self, person, time, probabilities):
        """Adds the probabilities of a person at a time in seconds, and returns the average."""
        before, smooth = self._states.get(person, (time, probabilities))
        if self.seconds > 0:
            kept = math.exp(-max(time - before, 0.0) / self.seconds)
            probabilities = kept * smooth + (1 - kept) * probabilities
        self._states[person] = (time, probabilities)
        if len(self._states) > 64:  # Bounds the memory for long videos with many persons.
            self._states = {
                key: state
                for key, state in self._states.items()
                if time - state[0] <= self.remember
            }
        return probabilities


def overlaps(boxes, others):
    """Computes the intersection over union (IoU) of all pairs of boxes.

    Args:
        boxes: `(n, 4)` x, y, width, height.
        others: `(m, 4)` x, y, width, height.

    Returns:
        float64 `(n, m)` in [0, 1].

    Example:

    >>> overlaps([(0, 0, 2, 2)], [(1, 0, 2, 2), (5, 5, 1, 1)]).round(3)
    array([[0.333, 0.   ]])
    """
    a = np.asarray(boxes, "float64")[:, None]
    b = np.asarray(others, "float64")[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return shared / np.maximum(union, 1e-12)


class _Track:
    """Holds the last box, the velocity and the number of detections of one face."""

    def __init__(self, time, box):
        self.time = time
        self.box = box
        self.velocity = np.zeros(2)  # Of the center, in pixels per second.
        self.num_seen = 1
        self.hidden = False  # Not detected at the last update.
        self.person = None

    def see(self, time, box):
        passed = time - self.time
        if passed > 0:
            measured = (_center(box) - _center(self.box)) / passed
            # The velocity is unknown before the second box.
            weight = 1.0 if self.num_seen == 1 else 1 - math.exp(-passed / _VELOCITY_SECONDS)
            self.velocity = self.velocity + weight * (measured - self.velocity)
        self.time, self.box = time, box
        self.num_seen += 1

    def predict(self, time):
        passed = time - self.time
        late = max(passed - _MOVING_SECONDS, 0.0)
        # Integral of a velocity that is constant at first and then decays exponentially.
        passed = passed - late + _STOPPING_SECONDS * -math.expm1(-late / _STOPPING_SECONDS)
        return np.concatenate([self.box[:2] + passed * self.velocity, self.box[2:]])


def _center(box):
    return box[:2] + box[2:] / 2


def _enlarge(boxes, share):
    boxes = np.asarray(boxes, "float64")
    sides = boxes[:, 2:]
    return np.concatenate([boxes[:, :2] - share * sides, sides * (1 + 2 * share)], axis=1)
