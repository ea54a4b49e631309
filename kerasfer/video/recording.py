"""Writes the results of a video analysis while it runs: a video, a table and a timeline."""

import contextlib
import csv
import time

from kerasfer.faces import crop_face
from kerasfer.files import replace_file
from kerasfer.predict import FacePrediction
from kerasfer.predict.drawing import draw
from kerasfer.video.timeline import Timeline
from kerasfer.video.writing import VideoWriter

_THUMBNAIL = 104  # Pixels. The page shows it at half the size.


class Recording:
    """Writes `video.mp4` and `faces.csv` into a folder and fills a timeline, frame by frame.

    Args:
        folder: The existing folder, a `Path`.
        size: The width and height of the frames, in pixels.
        fps: The frame rate of the written video.
        codec: As in `kerasfer.video.writing.VideoWriter`.
        class_names: The names of the classes.

    Attributes:
        timeline: The `Timeline`.
        num_frames: The number of frames so far.
        end: The time at which the last frame ends, in seconds.

    Raises:
        RunError: If OpenCV cannot write the video.
    """

    def __init__(self, folder, size, fps, codec, class_names):
        self.timeline = Timeline(class_names)
        self.num_frames = 0
        self.end = 0.0
        self._class_names = class_names
        self._interval = 1 / fps
        self._arguments = (folder, size, fps, codec)
        self._shown = None
        self._files = contextlib.ExitStack()

    def __enter__(self):
        folder, size, fps, codec = self._arguments
        with self._files as files:
            temporary = files.enter_context(replace_file(folder / "video.mp4"))
            video = VideoWriter(temporary, size, fps, codec)
            self._video = files.enter_context(contextlib.closing(video))
            # Written directly, so that the rows are kept if the analysis is killed.
            table = open(folder / "faces.csv", "w", encoding="utf-8", newline="")  # noqa: SIM115
            self._table = _Table(files.enter_context(table), self._class_names)
            self._files = files.pop_all()
        return self

    def __exit__(self, *error):
        self._extend_timeline(self.end)
        return self._files.__exit__(*error)

    def add(self, number, moment, frame, sightings):
        """Adds a frame.

        Args:
            number: The number of the frame in the source.
            moment: The time of the frame, in seconds.
            frame: uint8 RGB `(height, width, 3)`.
            sightings: A list of `kerasfer.video.following.Sighting`.
        """
        self._extend_timeline(moment)
        for sighting in sightings:
            # The page shows the clearest picture of each person.
            clarity = max(sighting.face.box[2:]) * sighting.face.score**2
            if self.timeline.wants_face(sighting.person, clarity):
                crop = crop_face(frame, sighting.face, _THUMBNAIL, margin=0.4)
                self.timeline.keep_face(sighting.person, clarity, crop)
        self._table.write(number, moment, sightings)
        captions = [self._caption(sighting) for sighting in sightings]
        self._video.write(moment, draw(frame, captions))
        self.num_frames += 1
        self.end = moment + self._interval
        self._shown = (moment, sightings)

    def _extend_timeline(self, moment):
        """Adds the faces of the last frame to the timeline, up to the given time."""
        start, sightings = self._shown or (moment, ())
        for sighting in sightings:
            self.timeline.add(start, moment - start, sighting.person, int(sighting.smooth.argmax()))

    def _caption(self, sighting):
        label = f"{sighting.person}: {self._class_names[int(sighting.smooth.argmax())]}"
        return FacePrediction(sighting.face, label, sighting.smooth, self._class_names)


class _Table:
    """Writes a row for each face of each frame, and flushes the rows every second."""

    def __init__(self, file, class_names):
        self.class_names = class_names
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n")
        self._flushed = time.monotonic()
        box = ("x", "y", "width", "height")
        values = (f"{kind}_{name}" for kind in ("raw", "smooth") for name in class_names)
        self._writer.writerow(("time_seconds", "frame", "person", *box, "label", *values))

    def write(self, number, moment, sightings):
        for sighting in sightings:
            box = (f"{value:.1f}" for value in sighting.face.box)
            label = self.class_names[int(sighting.smooth.argmax())]
            values = (f"{value:.4f}" for value in (*sighting.raw, *sighting.smooth))
            self._writer.writerow((f"{moment:.3f}", number, sighting.person, *box, label, *values))
        if time.monotonic() - self._flushed > 1:
            self._file.flush()
            self._flushed = time.monotonic()
