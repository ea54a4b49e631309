"""The settings of a video analysis, grouped by the step that they configure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kerasfer.faces import Face

MIN_FACE = 40  # Pixels. Most of a detector's time is spent on the smallest faces.


@dataclass(frozen=True)
class Frames:
    """Selects the frames of a video that are analyzed.

    Args:
        every: Analyzes every n-th frame of a file. It must be 1 for a camera or a stream.
        max_fps: The maximum number of frames per second of video. `None` sets no limit.
        seconds: The time at which the analysis stops, in seconds. `None` analyzes the whole video.

    Raises:
        ValueError: If a setting is out of range.
    """

    every: int = 1
    max_fps: float | None = None
    seconds: float | None = None

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"`Frames.every` must be at least 1. Received: {self.every}.")
        for name in ("max_fps", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`Frames.{name}` must be positive. Received: {value}.")


@dataclass(frozen=True)
class Detection:
    """Configures how faces are detected and cropped.

    `faces`, `min_face` and `margin` have no effect if `watch` receives a
    `kerasfer.predict.Predictor`, which has its own detector and margin.

    Args:
        faces: As in `kerasfer.predict.Predictor`. `"yunet"` is the fastest detector. `"none"` uses
            the whole frame as one face.
        min_face: The side of the smallest face that is detected, in pixels. It has no effect if
            `faces` is a function.
        margin: As in `kerasfer.faces.crop_face`.
        every: Detects faces in every n-th analyzed frame. The boxes in the frames in between are
            predicted from the motion of the faces.

    Raises:
        ValueError: If `every` is less than 1.
    """

    faces: str | Callable[..., list[Face]] = "mtcnn"
    min_face: int = MIN_FACE
    margin: float = 0.0
    every: int = 1

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"`Detection.every` must be at least 1. Received: {self.every}.")


@dataclass(frozen=True)
class Tracking:
    """Configures how persons are followed from frame to frame.

    Args:
        smoothing: The time constant in seconds over which probabilities are averaged. 0 disables
            smoothing.
        remember: The time in seconds after which a person who is not detected is forgotten. A
            person who reappears later gets a new number.

    Raises:
        ValueError: If a setting is negative.
    """

    smoothing: float = 0.5
    remember: float = 3.0

    def __post_init__(self):
        for name in ("smoothing", "remember"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"`Tracking.{name}` must not be negative. Received: {value}.")


@dataclass(frozen=True)
class Output:
    """Configures what an analysis writes and reports.

    Args:
        folder: The folder of the results. It must not contain a complete result. `None` selects
            `videos/<name of the source>`.
        codec: The codec of the written video, a four-character code that OpenCV supports.
        progress: A function that is called after each frame with the time of the frame in seconds,
            the duration of the video or `None`, and the average number of frames per second.
        tell: A function that is called with a line of text if a killed analysis is continued or
            discarded.
    """

    folder: str | Path | None = None
    codec: str = "mp4v"
    progress: Callable[[float, float | None, float], None] | None = None
    tell: Callable[[str], None] | None = None
