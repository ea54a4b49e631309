"""Analyzes a video or a camera: detects the faces, follows the persons and writes the results.

    frames → faces → persons → probabilities → smoothed probabilities → video, table, timeline

Frames are processed one at a time, so memory use does not grow with the length of the video.
"""

import contextlib
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np

from kerasfer.errors import RecipeError, RunError
from kerasfer.faces import make_detector
from kerasfer.files import only_writer, write_json
from kerasfer.predict import Predictor
from kerasfer.video.following import Follower
from kerasfer.video.footage import open_footage
from kerasfer.video.journal import Journal, describe_analysis
from kerasfer.video.recording import Recording
from kerasfer.video.settings import Detection, Frames, Output, Tracking
from kerasfer.video.timeline import clock, plot_timeline, write_timeline
from kerasfer.video.writing import check_codec

FILES = ("faces.csv", "video.mp4", "timeline.png", "timeline.html", "summary.json")
JOURNAL = ".journal.jsonl"
_KEPT = ("person", "first", "last", "seconds", "shares")


def watch(
    run,
    source,
    output=Output(),  # noqa: B008 - the settings are immutable
    *,
    frames=Frames(),  # noqa: B008
    detection=Detection(),  # noqa: B008
    tracking=Tracking(),  # noqa: B008
):
    """Analyzes the facial expressions in a video and writes the results into a folder.

    `video.mp4` shows the boxes with the numbers of the persons and their probabilities.
    `faces.csv` has one row for each face in each frame. `timeline.png` and `timeline.html` show
    one row over time for each person. `summary.json` contains the returned dict. Ctrl-C stops the
    analysis after the current frame, and all files are complete.

    If the process is killed while it analyzes a video file, the same call continues the analysis:
    the detector and the model are not called again for the frames that it had finished. If the
    video, the model or a setting has changed, it starts over. A `Predictor` or a function as
    detector cannot be compared, so such an analysis always starts over.

    Args:
        run: As in `kerasfer.predict.Predictor`, or a `Predictor`.
        source: The path of a video file, the index or device of a camera, or the URL of a stream.
            Frames of a camera or a stream are skipped if the analysis is too slow for them.
        output: The folder of the results, the codec and functions that report, an `Output`.
        frames: Which frames are analyzed, a `Frames`.
        detection: How faces are detected, a `Detection`.
        tracking: How persons are followed, a `Tracking`.

    Returns:
        The dict of `summary.json`. Its `problem` is `None`, or one line that states why the video
        ended early. Its `interrupted` states whether a signal stopped the analysis.

    Raises:
        RunError: If the video or the model cannot be opened, the codec is unsupported, or the
            folder contains a result.
        RecipeError: If `frames.every` is greater than 1 for a camera or a stream.

    Example:

    ```python
    from kerasfer.video import Detection, Output, watch

    summary = watch("runs/quickstart", "lesson.mp4", Output("out"), detection=Detection(every=3))
    summary["frames_per_second"]
    ```
    """
    with open_footage(source) as footage:
        if footage.live and frames.every != 1:
            raise RecipeError(
                "`every` (--every) must be 1 for a camera or a stream. Received: "
                f"{frames.every}, for {footage.name}. Use `max_fps` (--max-fps) instead."
            )
        folder = _choose_folder(output.folder, footage)
        check_codec(output.codec, footage.size)
        predictor = run if isinstance(run, Predictor) else _load_predictor(run, detection)
        key = None
        if not footage.live and predictor is not run:
            key = describe_analysis(source, predictor.runtime, frames, detection, tracking)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), Journal(folder / JOURNAL, key) as journal:
            _tell_of_journal(journal, folder, output)
            summary = _analyze(
                footage, predictor, folder, journal, output, frames, detection, tracking
            )
            journal.remove()
    return summary


def _analyze(footage, predictor, folder, journal, output, frames, detection, tracking):
    """Analyzes the frames, writes all files and returns the summary."""
    follow = Follower(
        predictor,
        detect_every=detection.every,
        smoothing=tracking.smoothing,
        remember=tracking.remember,
    )
    limits = {"max_fps": frames.max_fps, "seconds": frames.seconds}
    if not footage.live:
        limits["every"] = frames.every
    fps = min(footage.fps / frames.every, frames.max_fps or np.inf)
    with (
        _stopped_by_signals() as stopped,
        Recording(folder, footage.size, fps, output.codec, predictor.class_names) as recording,
    ):
        begin, num_known = time.perf_counter(), 0
        limits["stopped"] = lambda: stopped() and not journal.has_answers
        for number, moment, frame in footage.frames(**limits):
            known = journal.recall(number)
            sightings = follow(moment, frame, known)
            if known is None:
                journal.add(number, follow.answers)
            else:
                begin, num_known = time.perf_counter(), num_known + 1
            recording.add(number, moment, frame, sightings)
            if output.progress:
                passed = time.perf_counter() - begin
                rate = (recording.num_frames - num_known) / passed
                output.progress(moment, footage.duration, rate)
        passed = time.perf_counter() - begin
    summary = {
        **_summarize(footage, follow, recording, num_known, passed),
        "interrupted": stopped(),
        "class_names": list(predictor.class_names),
        "folder": str(folder),
    }
    timeline = recording.timeline
    plot_timeline(timeline, folder / "timeline.png")
    page = folder / "timeline.html"
    facts = _facts(summary)
    write_timeline(timeline, page, title=footage.name, facts=facts, problem=footage.problem)
    write_json(folder / "summary.json", summary)
    return summary


def _tell_of_journal(journal, folder, output):
    """Reports whether a killed analysis is continued or discarded."""
    if not output.tell:
        return
    if journal.num_frames:
        output.tell(
            f"Continuing the analysis in {folder}, which was interrupted after "
            f"{journal.num_frames:,} frames."
        )
    elif journal.changed:
        output.tell(
            f"Starting over: the incomplete analysis in {folder} differs in the "
            f"{' and the '.join(journal.changed)}."
        )


def _load_predictor(run, detection):
    faces = detection.faces
    if isinstance(faces, str) and faces != "none":
        faces = make_detector(faces, min_face=detection.min_face)
    return Predictor(run, faces=faces, margin=detection.margin)


def _summarize(footage, follow, recording, num_known, passed):
    """Returns the measurements.

    Args:
        footage: The video or the camera.
        follow: The `Follower`.
        recording: The `Recording`.
        num_known: The number of frames from the journal of a killed analysis.
        passed: The time for the other frames, in seconds.
    """
    timeline = recording.timeline
    return {
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
            "overall": _per_second(recording.num_frames - num_known, passed),
            "detector": _per_second(follow.num_searched, follow.searching),
            "model": _per_second(follow.num_classified, follow.classifying),
        },
        "problem": footage.problem,
        "persons": [{key: _rounded(person[key]) for key in _KEPT} for person in timeline.persons],
    }


def _choose_folder(folder, footage):
    if folder is None:
        # Each recording of a camera gets a separate folder.
        name = f"{footage.name} {time.strftime('%Y-%m-%d %H-%M-%S')}"
        name = name if footage.live else Path(footage.name).stem
        folder = Path("videos") / (re.sub(r"[^\w.-]+", "_", name).strip("_.") or "video")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"Expected --output-dir to be a folder. Received: {folder}, a file.")
    unfinished = any((folder / name).exists() for name in FILES)
    if (folder / "summary.json").exists():
        raise RunError(
            f"{folder} already contains the result of a video. Choose another --output-dir, or "
            "remove the folder."
        )
    if unfinished and footage.live:
        raise RunError(
            f"{folder} contains an incomplete recording of a camera, whose rows are in faces.csv. "
            "Choose another --output-dir."
        )
    return folder


@contextlib.contextmanager
def _locked(folder):
    """Locks a folder for this process, so that no running analysis is overwritten."""
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
    """Yields a function that returns whether SIGINT or SIGTERM was received.

    The first signal lets the current frame finish and the files be closed. A second signal is
    handled as before.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set  # Python handles signals in the main thread only.
        return
    before = {}

    def stop(number, _):
        received.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield received.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _facts(summary):
    speed = summary["frames_per_second"]
    facts = {
        "Duration": clock(summary["seconds"]),
        "Persons": summary["num_persons"],
        "Analyzed frames": f"{summary['frames']:,}",
        "Frames per second": speed["overall"],
    }
    if summary["skipped_frames"]:
        facts["Skipped frames"] = f"{summary['skipped_frames']:,}"
    return facts


def _per_second(number, seconds):
    return round(number / seconds, 2) if number and seconds > 0 else None


def _rounded(value):
    return round(value, 3) if isinstance(value, float) else value
