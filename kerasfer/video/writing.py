"""Writes video files with OpenCV."""

import tempfile
from pathlib import Path

import numpy as np

from kerasfer.errors import RunError
from kerasfer.video.footage import frame_slot, import_cv2

CODEC = "mp4v"
_SIZE = (352, 288)  # Pixels, CIF: a size that all codecs support.


def check_codec(codec, size=_SIZE):
    """Checks that OpenCV can write mp4 files with a codec, by writing one.

    Args:
        codec: A four-character code, such as `"mp4v"`.
        size: The width and height of the frames, in pixels.

    Raises:
        RunError: If OpenCV does not support the codec, or is not installed.
    """
    if codec == CODEC:  # OpenCV contains it.
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            writer = VideoWriter(Path(folder) / "video.mp4", size, 25.0, codec)
            writer.write(0.0, np.zeros((size[1], size[0], 3), "uint8"))
            writer.close()
        except RunError as error:
            raise RunError(
                f"OpenCV cannot write mp4 videos of {size[0]} x {size[1]} pixels with the codec "
                f"{codec!r}. Choose another --codec, such as {CODEC}."
            ) from error


class VideoWriter:
    """Writes frames with arbitrary times into a video with a constant frame rate.

    Gaps are filled by repeating the previous frame. If several frames fall into the same interval,
    the first one is written. The written video therefore lasts as long as its source.

    Args:
        path: The file to write. Its suffix determines the container format.
        size: The width and height, in pixels.
        fps: The frame rate.
        codec: A four-character code that OpenCV supports.

    Raises:
        RunError: If OpenCV cannot write the video.
    """

    def __init__(self, path, size, fps, codec="mp4v"):
        cv2 = import_cv2()
        self.path = Path(path)
        # MPEG-4 has a limited resolution, and players stutter below one frame per second.
        self.fps = max(1.0, round(fps, 2))
        self._slot = -1
        self._frame = None
        self._writer = cv2.VideoWriter()
        if len(codec) == 4 and codec.isascii():
            self._writer.open(str(path), cv2.VideoWriter_fourcc(*codec), self.fps, size)
        if not self._writer.isOpened():
            raise RunError(
                f"OpenCV cannot write a video of {size[0]} x {size[1]} pixels with the codec "
                f"{codec!r} to {self.path.parent}. Choose another --codec, such as mp4v, or check "
                "that the folder is writable."
            )

    def write(self, moment, frame):
        """Adds a frame.

        Args:
            moment: The time of the frame, in seconds.
            frame: uint8 RGB `(height, width, 3)`.
        """
        cv2 = import_cv2()
        slot = frame_slot(moment, self.fps)
        while self._frame is not None and self._slot < slot - 1:
            self._writer.write(self._frame)
            self._slot += 1
        if slot > self._slot:
            self._frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            self._writer.write(self._frame)
            self._slot = slot

    def close(self):
        """Completes the file.

        Raises:
            RunError: If the written file cannot be read.
        """
        cv2 = import_cv2()
        self._writer.release()
        # OpenCV does not report a full disk, but an incomplete mp4 file cannot be opened.
        if self._frame is not None and not cv2.VideoCapture(str(self.path)).isOpened():
            raise RunError(
                f"The video could not be written to {self.path.parent}. Free some disk "
                "space, and run the command again."
            )
