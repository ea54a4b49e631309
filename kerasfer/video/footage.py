"""Reads frames from video files and cameras, and writes them: OpenCV, with its traps made harmless.

Times are seconds since the first frame. OpenCV turns frames upright as the file says.
"""

import math
import os
import threading
import time
from functools import partial
from pathlib import Path

from kerasfer.errors import RunError

NOMINAL_FPS = 25.0  # where a file or camera tells none that can be
FASTEST_FPS = 240.0
CAMERA_FPS = 15.0  # of the written video; frames are repeated to keep the time
PATIENCE = 10.0  # seconds that a camera may need for a frame
_SLOT_TOLERANCE = 0.1  # in frames: files round their times to milliseconds


def open_footage(source):
    """Opens a video file, a camera or a stream and reads its first frame.

    Args:
        source: Path of a file that OpenCV reads; index of a camera, `0` or `"0"`; a device,
            `"/dev/video0"`; or the address of a stream, `"rtsp://…"`.

    Returns:
        A `VideoFile` or a `Camera`.

    Raises:
        RunError: There is no such file or camera, it is no video, or OpenCV is not installed.

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
    """Frames of a file, one after the other; see `open_footage`.

    Attributes:
        name: What to call it, and results about it.
        size: Width and height of a frame.
        fps: Frames per second, as far as known.
        duration: Seconds, or None where the file does not tell.
        problem: After the last frame one line where the file ended too early, else None.
        num_skipped: Frames that came too fast; 0 for files.
    """

    live = False
    num_skipped = 0

    def __init__(self, path):
        cv2 = import_cv2()
        self.name = Path(path).name
        self.problem = None
        if not Path(path).is_file():
            raise RunError(
                f"Expected a video file, or a camera's index such as 0. Received: {path}, "
                f"which {'is a folder' if Path(path).is_dir() else 'does not exist'}."
            )
        self._capture = cv2.VideoCapture() if _is_text(path) else cv2.VideoCapture(str(path))
        found, self._first = self._capture.read()
        if not found:
            self._capture.release()
            raise RunError(
                f"{path} cannot be read as a video: it is none, or it is broken or of a format "
                "that OpenCV does not know. Convert it to mp4, or copy it again."
            )
        self.size = self._first.shape[1::-1]
        told = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = told if 0 < told <= FASTEST_FPS else NOMINAL_FPS
        self.duration = count / told if told > 0 and 0 < count < 1e9 else None

    def frames(self, *, every=1, max_fps=None, seconds=None, stopped=lambda: False):
        """Yields frames as (number, seconds, uint8 RGB `(height, width, 3)`).

        Args:
            every: 2 passes over each second frame, and so on.
            max_fps: Most frames to yield from a second of the video.
            seconds: Where to stop.
            stopped: Function that tells, before each frame, whether to stop.
        """
        cv2 = import_cv2()
        number, moment, slot = 0, 0.0, -1
        start = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        while not (stopped() or (seconds is not None and moment >= seconds)):
            due = slot + 1 if max_fps is None else _slot(moment, max_fps)
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
            # Some files hold no times, and damaged ones go back in time.
            moment = stamp if stamp > moment else moment + 1 / self.fps

    def _missing(self, moment):
        """Says in one line that frames are missing after the last, or None where they are not."""
        end = moment + 1 / self.fps
        # Containers tell their duration with sound, which may last a little longer.
        if self.duration is None or self.duration - end <= max(1.0, 0.02 * self.duration):
            return None
        return (
            f"{self.name} is broken or truncated: {end:.1f} of {self.duration:.1f} seconds could "
            "be read. Copy or convert it again for the rest."
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._capture.release()


class Camera:
    """The newest frame of a camera or stream, whenever one is asked for; see `VideoFile`.

    A thread reads all frames and keeps the newest, so that slow work skips frames instead of
    falling behind what happens.
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
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where a driver obeys: no old frames
        found, frame = self._capture.read()
        if not found:
            self._capture.release()
            raise RunError(
                f"{self.name} gives no picture: expected a camera's index (0, 1, …), its device "
                "(/dev/video0) or a stream's address. Check that it is connected and that no "
                "other program uses it."
            )
        self.size = frame.shape[1::-1]
        told = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = min(told, CAMERA_FPS) if told > 0 else CAMERA_FPS
        self._newest = (-1, 0.0, None)
        self._ended = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = None

    def frames(self, *, max_fps=None, seconds=None, stopped=lambda: False):
        """Yields frames like `VideoFile.frames`; numbers count the frames that the camera gave."""
        start = heard = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(start,), daemon=True)
        self._thread.start()
        last, slot = -1, -1
        while not stopped():
            with self._changed:
                self._changed.wait_for(partial(self._has_after, last), timeout=0.2)
                number, moment, frame = self._newest
                ended = self._ended
            if number == last:
                if ended or time.monotonic() - heard > PATIENCE:
                    self.problem = f"{self.name} stopped giving pictures: check its connection."
                    return
                continue
            if seconds is not None and moment >= seconds:
                return
            heard = time.monotonic()
            self.num_skipped += number - last - 1
            last = number
            due = slot + 1 if max_fps is None else _slot(moment, max_fps)
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
            self._thread.join(PATIENCE)
        # Releasing a camera while it is read crashes the process.
        if not (self._thread and self._thread.is_alive()):
            self._capture.release()


class VideoWriter:
    """Writes frames at a constant rate, however unevenly they come.

    A frame is shown until the next one is due: gaps are filled by repeating it, and of frames that
    fall together one is kept. So the written video lasts as long as the one that was read.

    Args:
        path: The file to write; its suffix chooses the container.
        size: Width and height.
        fps: Frames per second.
        codec: Four letters, as OpenCV's build knows them.

    Raises:
        RunError: OpenCV cannot write such a video.
    """

    def __init__(self, path, size, fps, codec="mp4v"):
        cv2 = import_cv2()
        self.path = Path(path)
        # MPEG-4 knows no finer rates; players stutter below one frame a second.
        self.fps = max(1.0, round(fps, 2))
        self._slot = -1
        self._frame = None
        self._writer = cv2.VideoWriter()
        if len(codec) == 4 and codec.isascii():
            self._writer.open(str(path), cv2.VideoWriter_fourcc(*codec), self.fps, size)
        if not self._writer.isOpened():
            raise RunError(
                f"OpenCV cannot write a video of {size[0]} x {size[1]} pixels with the codec "
                f"{codec!r} to {self.path.parent}: choose another with --codec, such as mp4v, or "
                "check that the folder is writable."
            )

    def write(self, moment, frame):
        """Shows uint8 RGB `(height, width, 3)` from a moment on, in seconds."""
        cv2 = import_cv2()
        slot = _slot(moment, self.fps)
        while self._frame is not None and self._slot < slot - 1:
            self._writer.write(self._frame)
            self._slot += 1
        if slot > self._slot:
            self._frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            self._writer.write(self._frame)
            self._slot = slot

    def close(self):
        """Ends the file.

        Raises:
            RunError: What was written cannot be read.
        """
        cv2 = import_cv2()
        self._writer.release()
        # A full disk is told by nothing else: without its end an mp4 cannot be opened.
        if self._frame is not None and not cv2.VideoCapture(str(self.path)).isOpened():
            raise RunError(
                f"The video could not be written to {self.path.parent}: make room on the disk, "
                "and run again."
            )


def import_cv2():
    """Imports OpenCV without its messages, which are not for users.

    Raises:
        RunError: It is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        import cv2
    except ImportError as error:
        raise RunError(
            'Reading and writing video needs OpenCV: pip install "kerasfer[video]".'
        ) from error
    return cv2


def _slot(moment, fps):
    """The number of the frame that shows a moment at a constant rate."""
    return math.floor(moment * fps + _SLOT_TOLERANCE)


def _rgb(frame, size):
    cv2 = import_cv2()
    if frame.shape[1::-1] != tuple(size):  # streams may change their size on the way
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _is_text(path):
    """Whether a file holds text, which FFmpeg would play as a video of ANSI art."""
    with open(path, "rb") as file:
        head = file.read(4096)
    return not any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)
