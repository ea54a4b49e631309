"""Follows the faces of a video or a camera and writes down what they express.

    frames → faces → persons → probabilities → smoothed → video, table, timeline

Everything streams: an hour takes the memory of a minute.
"""

import contextlib
import csv
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np

from kerasfer.errors import RecipeError, RunError
from kerasfer.faces import crop_face, make_detector
from kerasfer.files import only_writer, replace_file, write_json
from kerasfer.predict import FacePrediction, Predictor
from kerasfer.predict.drawing import draw
from kerasfer.video.following import Follower
from kerasfer.video.footage import VideoWriter, open_footage
from kerasfer.video.timeline import Timeline, clock, plot_timeline, write_timeline

FILES = ("faces.csv", "video.mp4", "timeline.png", "timeline.html", "summary.json")
MIN_FACE = 40  # pixels; a detector takes most of its time for the smallest faces
_THUMBNAIL = 104  # pixels; shown at half the size
_KEPT = ("person", "first", "last", "seconds", "shares")


def watch(
    run,
    source,
    output_dir=None,
    *,
    faces="mtcnn",
    min_face=MIN_FACE,
    margin=0.0,
    every=1,
    max_fps=None,
    detect_every=1,
    smoothing=0.5,
    remember=3.0,
    seconds=None,
    codec="mp4v",
    progress=None,
):
    """Follows the faces of a video and writes what they express into a folder.

    `video.mp4` shows boxes with the persons' numbers and probabilities; `faces.csv` has a row for
    each face of each frame; `timeline.png` and `timeline.html` a row for each person, over time;
    `summary.json` the result in numbers. Ctrl-C ends it early, with all files complete.

    Args:
        run: As in `kerasfer.predict.Predictor`, or a `Predictor`, whose detector then counts.
        source: A video file, a camera's index (0) or device, or a stream's address. A camera's
            frames are skipped where the work cannot keep up.
        output_dir: A folder without a complete result. What a killed analysis of a file left there
            is overwritten. `None` selects `videos/<name of the file>`.
        faces: As in `Predictor`. `"yunet"` is the fastest detector; `"none"` takes the whole frame
            as one face.
        min_face: Side in pixels of the smallest face that is looked for.
        margin: As in `kerasfer.faces.crop_face`.
        every: 2 leaves out each second frame of a file, and so on.
        max_fps: Most frames a second of video to look at.
        detect_every: 5 looks for faces in each fifth frame, and in between takes them where their
            movement would have brought them.
        smoothing: Time constant in seconds over which probabilities are averaged; 0 for none.
        remember: Seconds after which a person who is not seen is forgotten; who comes back later
            is another one.
        seconds: Where to stop.
        codec: Of the written video, four letters that OpenCV's build knows.
        progress: Function that is called after each frame, with its time, the duration or None,
            and the frames per second so far.

    Returns:
        The dict of `summary.json`. Its `problem` is None, or says in one line why the video ended
        early; its `interrupted` says whether Ctrl-C ended it.

    Raises:
        RunError: The video or the model cannot be opened, or the folder holds a result.
        RecipeError: `every` is told for a camera.

    Example:

    ```python
    watch("runs/quickstart", "lesson.mp4", detect_every=3)["frames_per_second"]
    ```
    """
    for name, value in (("every", every), ("detect_every", detect_every)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {value}.")
    for name, value in (("max_fps", max_fps), ("seconds", seconds)):
        if value is not None and value <= 0:
            raise ValueError(f"`{name}` must be positive. Received: {value}.")
    with open_footage(source) as footage:
        if footage.live and every != 1:
            raise RecipeError(
                f"--every counts the frames of a file; {footage.name} gives them when it likes. "
                "Limit them with --max-fps."
            )
        folder = _choose_folder(output_dir, footage)
        if not isinstance(run, Predictor):
            if isinstance(faces, str) and faces != "none":
                faces = make_detector(faces, min_face=min_face)
            run = Predictor(run, faces=faces, margin=margin)
        options = {"smoothing": smoothing, "remember": remember}
        follow = Follower(run, detect_every=detect_every, **options)
        skipping = {} if footage.live else {"every": every}
        rate = min(footage.fps / every, max_fps or np.inf)
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _locked(folder),
            _stopped_by_signals() as stopped,
            _Recording(folder, footage.size, rate, codec, run.class_names) as recording,
        ):
            begin = time.perf_counter()
            for number, moment, frame in footage.frames(
                max_fps=max_fps, seconds=seconds, stopped=stopped, **skipping
            ):
                recording.add(number, moment, frame, follow(moment, frame))
                if progress:
                    passed = time.perf_counter() - begin
                    progress(moment, footage.duration, recording.num_frames / passed)
            passed = time.perf_counter() - begin
    timeline = recording.timeline
    summary = {
        "source": footage.name,
        "live": footage.live,
        "width": footage.size[0],
        "height": footage.size[1],
        "seconds": round(recording.end, 3),
        "frames": recording.num_frames,
        "skipped_frames": footage.num_skipped,
        "faces": follow.num_faces,
        "num_persons": timeline.num_persons,
        "frames_per_second": {
            "overall": _per_second(recording.num_frames, passed),
            "detector": _per_second(follow.num_searched, follow.searching),
            "model": _per_second(follow.num_faces, follow.classifying),
        },
        "problem": footage.problem,
        "interrupted": stopped(),
        "class_names": list(run.class_names),
        "persons": [{key: _rounded(person[key]) for key in _KEPT} for person in timeline.persons],
        "folder": str(folder),
    }
    plot_timeline(timeline, folder / "timeline.png")
    page = folder / "timeline.html"
    facts = _facts(summary)
    write_timeline(timeline, page, title=footage.name, facts=facts, problem=footage.problem)
    write_json(folder / "summary.json", summary)
    return summary


class _Recording:
    """Writes the video and the table, and fills the timeline, frame by frame."""

    def __init__(self, folder, size, rate, codec, class_names):
        self.timeline = Timeline(class_names)
        self.num_frames = 0
        self.end = 0.0  # seconds
        self._class_names = class_names
        self._interval = 1 / rate
        self._open = (folder, size, rate, codec)
        self._shown = None
        self._files = contextlib.ExitStack()

    def __enter__(self):
        folder, size, rate, codec = self._open
        with self._files as files:
            temporary = files.enter_context(replace_file(folder / "video.mp4"))
            video = VideoWriter(temporary, size, rate, codec)
            self._video = files.enter_context(contextlib.closing(video))
            # Not in one step: whatever happens, the rows until then are of use.
            table = open(folder / "faces.csv", "w", encoding="utf-8", newline="")  # noqa: SIM115
            self._table = _Table(files.enter_context(table), self._class_names)
            self._files = files.pop_all()
        return self

    def __exit__(self, *error):
        self._show_until(self.end)
        return self._files.__exit__(*error)

    def add(self, number, moment, frame, seen):
        """Takes a frame and the list of `Sighting` in it."""
        self._show_until(moment)
        for sighting in seen:
            # The clearest picture of each person, for the page.
            clarity = max(sighting.face.box[2:]) * sighting.face.score**2
            if self.timeline.wants_face(sighting.person, clarity):
                crop = crop_face(frame, sighting.face, _THUMBNAIL, margin=0.4)
                self.timeline.keep_face(sighting.person, clarity, crop)
        self._table.write(number, moment, seen)
        captions = [self._caption(sighting) for sighting in seen]
        self._video.write(moment, draw(frame, captions))
        self.num_frames += 1
        self.end = moment + self._interval
        self._shown = (moment, seen)

    def _show_until(self, moment):
        """Notes in the timeline that the last frame's faces were there until a moment."""
        start, seen = self._shown or (moment, ())
        for sighting in seen:
            self.timeline.add(start, moment - start, sighting.person, int(sighting.smooth.argmax()))

    def _caption(self, sighting):
        label = f"{sighting.person}: {self._class_names[int(sighting.smooth.argmax())]}"
        return FacePrediction(sighting.face, label, sighting.smooth, self._class_names)


class _Table:
    """A row for each face of each frame, on the disk within a second."""

    def __init__(self, file, class_names):
        self.class_names = class_names
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n")
        self._flushed = time.monotonic()
        box = ("x", "y", "width", "height")
        values = (f"{kind}_{name}" for kind in ("raw", "smooth") for name in class_names)
        self._writer.writerow(("time_seconds", "frame", "person", *box, "label", *values))

    def write(self, number, moment, seen):
        for sighting in seen:
            box = (f"{value:.1f}" for value in sighting.face.box)
            label = self.class_names[int(sighting.smooth.argmax())]
            values = (f"{value:.4f}" for value in (*sighting.raw, *sighting.smooth))
            self._writer.writerow((f"{moment:.3f}", number, sighting.person, *box, label, *values))
        if time.monotonic() - self._flushed > 1:
            self._file.flush()
            self._flushed = time.monotonic()


def _choose_folder(output_dir, footage):
    if output_dir is None:
        # Every recording of a camera is another one.
        name = f"{footage.name} {time.strftime('%Y-%m-%d %H-%M-%S')}"
        name = name if footage.live else Path(footage.name).stem
        output_dir = Path("videos") / (re.sub(r"[^\w.-]+", "_", name).strip("_.") or "video")
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"Expected --output-dir to be a folder. Received: {folder}, a file.")
    unfinished = any((folder / name).exists() for name in FILES)
    if (folder / "summary.json").exists():
        raise RunError(
            f"{folder} holds the result of a video already: choose another --output-dir, or "
            "remove it."
        )
    if unfinished and footage.live:
        raise RunError(
            f"{folder} holds an unfinished recording of a camera, whose rows are in faces.csv: "
            "choose another --output-dir."
        )
    return folder


@contextlib.contextmanager
def _locked(folder):
    """Holds a folder for this process, so that only results of killed processes are overwritten."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_writer(folder))
        except RunError as error:
            raise RunError(
                f"Another process is analyzing a video into {folder}. Wait for it to finish, or "
                "choose another --output-dir."
            ) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / "lock").unlink()


@contextlib.contextmanager
def _stopped_by_signals():
    """Yields a function that tells whether Ctrl-C or a termination has asked for the end.

    The frame at hand is then finished and every file closed. A second Ctrl-C does not wait.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Python has signals only there
        return
    before = {}

    def ask(number, _):
        asked.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _facts(summary):
    speed = summary["frames_per_second"]
    facts = {
        "duration": clock(summary["seconds"]),
        "persons": summary["num_persons"],
        "frames looked at": f"{summary['frames']:,}",
        "frames per second": speed["overall"],
    }
    if summary["skipped_frames"]:
        facts["frames skipped to keep up"] = f"{summary['skipped_frames']:,}"
    return facts


def _per_second(number, seconds):
    return round(number / seconds, 2) if number and seconds > 0 else None


def _rounded(value):
    return round(value, 3) if isinstance(value, float) else value
