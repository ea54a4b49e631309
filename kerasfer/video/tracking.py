"""Who is who from frame to frame: boxes become tracks, and a track's probabilities are smoothed.

Time is told in seconds, never in frames, so that a video gives the same tracks and the same smooth
curves at any frame rate. Nothing here looks at pixels: someone who was away for longer than the
tracker remembers is another person when they come back.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

_VELOCITY_SECONDS = 0.2  # how fast the velocity follows what is measured
_MOVING_SECONDS = 0.5  # how long an unseen face is thought to move on as before
_STOPPING_SECONDS = 0.4  # and how fast it then comes to rest
_FORBIDDEN = 1e6


class Tracker:
    """Gives each box of a frame the number of its person, from 1 in order of appearance.

    Each person's box is predicted to the frame's time with a velocity that dies away while the face
    is hidden; boxes and predictions are then paired so that their overlaps sum up to the most. Both
    are enlarged before they are compared, so that a face that moves by more than its width between
    two detections still finds itself (buffered IoU). A box that fits nobody begins a new track,
    which counts once a second box has confirmed it: single false alarms of a detector get no
    number. Who is there in the first frame counts at once.

    Args:
        min_overlap: Least IoU of two enlarged boxes of one person, in (0, 1].
        buffer: How far a box is enlarged to each side, in shares of its width and height.
        remember: Seconds after which a person who is not seen is forgotten.
        confirm: Number of boxes from which on a track counts; 1 counts every box.

    Example: two faces that pass each other.

    >>> tracker = Tracker()
    >>> for step in range(11):
    ...     boxes = [(20 * step, 50, 40, 40), (200 - 20 * step, 60, 40, 40)]
    ...     persons = tracker.update(step / 10, boxes)
    >>> persons
    [1, 2]

    Source: Bewley et al., Simple Online and Realtime Tracking, 2016; the buffer: Yang et al., Hard
    to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering the
    Matching Space, 2023.
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
        """Takes the boxes that a detector found.

        Args:
            time: Seconds; later than at the last call.
            boxes: `(n, 4)` x, y, width, height in pixels.

        Returns:
            A list with each box's person, or None where a track is not confirmed yet.
        """
        boxes = np.asarray(boxes, "float64").reshape(-1, 4)
        self._tracks = [t for t in self._tracks if time - t.time <= self.remember]
        tracks = [None] * len(boxes)
        for box, track in self._pairs(time, boxes):
            tracks[box] = self._tracks[track]
            tracks[box].see(time, boxes[box])
        for track in self._tracks:
            track.hidden = track.time < time
        # An unconfirmed track that misses its second box was a false alarm.
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
        """Guesses where everyone is who was seen at the last update, between two detections.

        Args:
            time: Seconds; not before the last update.

        Returns:
            A dict from persons to float64 `(4,)` x, y, width, height in pixels.
        """
        return {
            track.person: track.predict(time)
            for track in self._tracks
            if track.person and not track.hidden
        }

    def _pairs(self, time, boxes):
        """Pairs boxes with tracks: a list of index pairs."""
        if not len(boxes) or not self._tracks:
            return []
        predicted = np.stack([track.predict(time) for track in self._tracks])
        overlaps = self._overlaps(boxes, predicted)
        # Who was hidden may have stood still instead of moving on.
        last = np.stack([track.box for track in self._tracks])
        hidden = [track.hidden for track in self._tracks]
        overlaps = np.where(hidden, np.maximum(overlaps, self._overlaps(boxes, last)), overlaps)
        cost = np.where(overlaps >= self.min_overlap, 1 - overlaps, _FORBIDDEN)
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        return [pair for pair in pairs if cost[pair] < _FORBIDDEN]

    def _overlaps(self, boxes, others):
        return overlaps(_enlarge(boxes, self.buffer), _enlarge(others, self.buffer))


class Smoother:
    """Averages each person's probabilities over the past, with weights that fall exponentially.

    The weight of what was seen t seconds ago falls as exp(-t / seconds), whatever the frame rate;
    what is held for a while is reached, and an absence longer than a few time constants is
    forgotten by itself.

    Args:
        seconds: The time constant; 0 does not smooth.
        remember: Seconds after which a person who is not seen is forgotten.

    Example:

    >>> smoother = Smoother(1.0)
    >>> smoother.update(1, 0.0, np.array([1.0, 0.0]))
    array([1., 0.])
    >>> smoother.update(1, 1.0, np.array([0.0, 1.0])).round(3)  # 1 / e is left
    array([0.368, 0.632])
    """

    def __init__(self, seconds=0.5, *, remember=10.0):
        if seconds < 0:
            raise ValueError(f"`seconds` must not be negative. Received: {seconds}.")
        self.seconds = seconds
        self.remember = remember
        self._states = {}  # person: (time, probabilities)

    def update(self, person, time, probabilities):
        """Takes what was seen of a person at a time in seconds; returns their smooth value."""
        before, smooth = self._states.get(person, (time, probabilities))
        if self.seconds > 0:
            kept = math.exp(-max(time - before, 0.0) / self.seconds)
            probabilities = kept * smooth + (1 - kept) * probabilities
        self._states[person] = (time, probabilities)
        if len(self._states) > 64:  # a street: those who passed by hours ago need no memory
            self._states = {
                key: state
                for key, state in self._states.items()
                if time - state[0] <= self.remember
            }
        return probabilities


def overlaps(boxes, others):
    """Computes the intersection over union of every box with every other.

    Args:
        boxes: `(n, 4)` x, y, width, height.
        others: `(m, 4)`.

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
    """One face over time: its last box, how fast it moves, how often it was seen."""

    def __init__(self, time, box):
        self.time = time
        self.box = box
        self.velocity = np.zeros(2)  # of the center, in pixels a second
        self.num_seen = 1
        self.hidden = False  # not found at the last update
        self.person = None

    def see(self, time, box):
        passed = time - self.time
        if passed > 0:
            measured = (_center(box) - _center(self.box)) / passed
            # The second box is the first that tells a velocity.
            weight = 1.0 if self.num_seen == 1 else 1 - math.exp(-passed / _VELOCITY_SECONDS)
            self.velocity = self.velocity + weight * (measured - self.velocity)
        self.time, self.box = time, box
        self.num_seen += 1

    def predict(self, time):
        passed = time - self.time
        late = max(passed - _MOVING_SECONDS, 0.0)
        # The integral of a velocity that first stays, then falls as exp(-t / _STOPPING_SECONDS).
        passed = passed - late + _STOPPING_SECONDS * -math.expm1(-late / _STOPPING_SECONDS)
        return np.concatenate([self.box[:2] + passed * self.velocity, self.box[2:]])


def _center(box):
    return box[:2] + box[2:] / 2


def _enlarge(boxes, share):
    boxes = np.asarray(boxes, "float64")
    sides = boxes[:, 2:]
    return np.concatenate([boxes[:, :2] - share * sides, sides * (1 + 2 * share)], axis=1)
