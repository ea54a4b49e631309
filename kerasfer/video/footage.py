"""Reads frames from video files, cameras and streams with OpenCV.

Times are in seconds since the first frame. OpenCV applies the rotation that a file specifies.
"""

import math
import os
import threading
import time
from functools import partial
from pathlib import Path

from kerasfer.errors import RunError

NOMINAL_FPS = 25.0  # Used if a file reports no plausible frame rate.
MAX_FPS = 240.0
CAMERA_FPS = 15.0  # Maximum rate of the written video of a camera.
TIMEOUT = 10.0  # Seconds to wait for a frame of a camera.
_SLOT_TOLERANCE = 0.1  # In frames. Files round their times to milliseconds.


def open_footage(source):
    """Opens a video file, a camera or a stream and reads its first frame.

    Args:
        source: The path of a video file, the index of a camera (`0` or `"0"`), a device
            (`"/dev/video0"`), or the URL of a stream (`"rtsp://…"`).

    Returns:
        A `VideoFile` or a `Camera`.

    Raises:
        RunError: If the file or camera does not exist or cannot be read as a video, or OpenCV is
            not installed.

    Example:

    ```python
    with open_footage("lesson.mp4") as footage:
        for number, seconds, frame in footage.frames():
            print(number, seconds, frame.shape)
    ```
    """
    source = str(source)
    if source.isdecimal() or source.startswith("/dev/") or "://" in source:
        return Camera(source)
    return VideoFile(source)


class VideoFile:
    """Reads the frames of a video file in order.

    Args:
        path: The path of the file.

    Attributes:
        name: The name of the file.
        size: The width and height of a frame, in pixels.
        fps: The frame rate that the file reports, or `NOMINAL_FPS`.
        duration: The duration in seconds, or `None` if it is unknown.
        problem: One line if the file ended too early, else `None`. It is set after the last frame.
        num_skipped: The number of frames that were skipped to keep up, which is 0 for files.

    Raises:
        RunError: If the file does not exist or cannot be read as a video, or OpenCV is not
            installed.
    """

    live = False
    num_skipped = 0

    def __init__(self, path):
        cv2 = import_cv2()
        self.name = Path(path).name
        self.problem = None
        if not Path(path).is_file():
            raise RunError(
                f"Expected a video file or the index of a camera, such as 0. Received: {path}, "
                f"which {'is a folder' if Path(path).is_dir() else 'does not exist'}."
            )
        self._capture = cv2.VideoCapture() if _is_text(path) else cv2.VideoCapture(str(path))
        found, self._first = self._capture.read()
        if not found:
            self._capture.release()
            raise RunError(
                f"{path} cannot be read as a video: it is not a video, it is damaged, or OpenCV "
                "does not support its format. Convert it to mp4, or copy it again."
            )
        self.size = self._first.shape[1::-1]
        reported = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = reported if 0 < reported <= MAX_FPS else NOMINAL_FPS
        self.duration = count / reported if reported > 0 and 0 < count < 1e9 else None

    def frames(self, *, every=1, max_fps=None, seconds=None, stopped=lambda: False):
        """Yields frames as (number, seconds, uint8 RGB `(height, width, 3)`).

        Args:
            every: Yields every n-th frame.
            max_fps: The maximum number of frames per second of video.
            seconds: The time at which to stop.
            stopped: A function that is called before each frame and returns whether to stop.
        """
        cv2 = import_cv2()
        number, moment, slot = 0, 0.0, -1
        start = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        while not (stopped() or (seconds is not None and moment >= seconds)):
            due = slot + 1 if max_fps is None else frame_slot(moment, max_fps)
            if number % every == 0 and due > slot:
                slot = due
                found, frame = (True, self._first) if number == 0 else self._capture.retrieve()
                self._first = None
                if found:
                    yield number, moment, _rgb(frame, self.size)
            if not self._capture.grab():
                self.problem = self._missing(moment)
                return
            number += 1
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - start
            # Some files contain no times, and the times in damaged files can decrease.
            moment = stamp if stamp > moment else moment + 1 / self.fps

    def _missing(self, moment):
        """Returns one line if frames are missing after the given time, else `None`."""
        end = moment + 1 / self.fps
        # The duration of a container includes the sound, which may be slightly longer.
        if self.duration is None or self.duration - end <= max(1.0, 0.02 * self.duration):
            return None
        return (
            f"{self.name} is damaged or truncated: only {end:.1f} of {self.duration:.1f} seconds "
            "could be read. Copy or convert it again."
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._capture.release()


class Camera:
    """Reads the newest frame of a camera or a stream. It has the attributes of `VideoFile`.

    A thread reads all frames and keeps the newest one. A slow consumer therefore skips frames
    instead of falling behind.

    Args:
        source: The index, the device or the URL, a string.

    Raises:
        RunError: If the camera returns no frame, or OpenCV is not installed.
    """

    live = True
    duration = None

    def __init__(self, source):
        cv2 = import_cv2()
        self.problem = None
        self.num_skipped = 0
        if source.isdecimal():
            self.name, target = f"camera {source}", int(source)
        else:
            self.name, target = source, source
        self._capture = cv2.VideoCapture(target)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # Avoids old frames.
        found, frame = self._capture.read()
        if not found:
            self._capture.release()
            raise RunError(
                f"{self.name} returns no frames. Expected the index of a camera (0, 1, …), a "
                "device (/dev/video0) or the URL of a stream. Check that the camera is connected "
                "and that no other program uses it."
            )
        self.size = frame.shape[1::-1]
        reported = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = min(reported, CAMERA_FPS) if reported > 0 else CAMERA_FPS
        self._newest = (-1, 0.0, None)
        self._ended = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = None

    def frames(self, *, max_fps=None, seconds=None, stopped=lambda: False):
        """Yields frames as `VideoFile.frames` does. The numbers include skipped frames."""
        start = received = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(start,), daemon=True)
        self._thread.start()
        last, slot = -1, -1
        while not stopped():
            with self._changed:
                self._changed.wait_for(partial(self._has_after, last), timeout=0.2)
                number, moment, frame = self._newest
                ended = self._ended
            if number == last:
                if ended or time.monotonic() - received > TIMEOUT:
                    self.problem = f"{self.name} stopped returning frames. Check its connection."
                    return
                continue
            if seconds is not None and moment >= seconds:
                return
            received = time.monotonic()
            self.num_skipped += number - last - 1
            last = number
            due = slot + 1 if max_fps is None else frame_slot(moment, max_fps)
            if due > slot:
                slot = due
                yield number, moment, _rgb(frame, self.size)

    def _has_after(self, number):
        return self._ended or self._newest[0] > number

    def _read(self, start):
        number, found = 0, True
        while found and not self._closing.is_set():
            found, frame = self._capture.read()
            with self._changed:
                if found:
                    self._newest = (number, time.monotonic() - start, frame)
                self._ended = not found
                self._changed.notify()
            number += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.set()
        if self._thread:
            self._thread.join(TIMEOUT)
        # Releasing a camera during a read crashes the process.
        if not (self._thread and self._thread.is_alive()):
            self._capture.release()


def import_cv2():
    """Imports OpenCV and disables its log messages.

    Raises:
        RunError: If OpenCV is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        import cv2
    except ImportError as error:
        raise RunError(
            'Reading and writing videos needs OpenCV. Run pip install "kerasfer[video]".'
        ) from error
    return cv2


def frame_slot(moment, fps):
    """Returns the number of the frame that shows a time at a constant frame rate."""
    return math.floor(moment * fps + _SLOT_TOLERANCE)


def _rgb(frame, size):
    cv2 = import_cv2()
    if frame.shape[1::-1] != tuple(size):  # The frame size of a stream may change.
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _is_text(path):
    """Returns whether a file contains text, which FFmpeg would decode as ANSI art."""
    with open(path, "rb") as file:
        head = file.read(4096)
    return not any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)
