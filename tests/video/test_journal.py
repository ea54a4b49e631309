"""A killed analysis is continued, with the same result as without the interruption."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_video import BLUE, CLASS_NAMES, RED, find_squares, frame_of, predict_colors, write_video

pytest.importorskip("cv2", reason="needs kerasfer[video]")

from kerasfer.cli.video import video as video_command  # noqa: E402
from kerasfer.errors import RunError  # noqa: E402
from kerasfer.faces import Face  # noqa: E402
from kerasfer.predict.runtimes import Runtime  # noqa: E402
from kerasfer.video import FILES, Detection, Output, Tracking, watch  # noqa: E402
from kerasfer.video.following import Answers  # noqa: E402
from kerasfer.video.journal import Journal  # noqa: E402

MARKS = np.array([[0.3, 0.4], [0.7, 0.41], [0.5, 0.6], [0.3, 0.8], [0.7, 0.8]])
TABLES = ("faces.csv", "timeline.html")


def find_with_landmarks(picture):
    return [Face(one.box, 0.9, 7.1 * MARKS + one.box[:2]) for one in find_squares(picture)]


@pytest.fixture
def video(tmp_path):
    """Two squares pass each other, one of which is hidden for a while."""
    frames = []
    for step in range(40):
        hidden = [] if 12 < step < 20 else [(120 - 3 * step, 20, 30, BLUE)]
        frames.append(frame_of((3 * step, 5, 30, RED), *hidden))
    return write_video(tmp_path / "lesson.mp4", frames, 20)


@pytest.fixture
def analyze(tmp_path, video, monkeypatch):
    """Analyzes the video into a folder, and returns the frames for which the model was called."""
    calls = []

    def make_detector(name, *, min_face):
        return lambda picture: calls.append("detected") or find_with_landmarks(picture)

    monkeypatch.setattr("kerasfer.video.analysis.make_detector", make_detector)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")

    def analyze(
        folder,
        stop_after=None,
        interrupt_after=None,
        tell=None,
        model=model,
        source=video,
        **settings,
    ):
        calls.clear()
        seen = []

        def progress(*_):
            seen.append(0)
            if len(seen) == interrupt_after:
                signal.raise_signal(signal.SIGINT)
            if len(seen) == stop_after:
                raise ZeroDivisionError

        runtime = Runtime("onnx", model, CLASS_NAMES, 16, predict_colors)
        output = Output(tmp_path / folder, progress=progress, tell=tell)
        watch(runtime, source, output, **settings)
        return len(calls)

    return analyze


def stop(analyze, *arguments, **options):
    with pytest.raises(ZeroDivisionError):
        analyze(*arguments, **options)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("frames", [(1,), (13,), (5, 17, 39)])
def test_a_stopped_analysis_is_continued(tmp_path, analyze, every, frames):
    settings = {"detection": Detection(every=every)}
    whole = analyze("undisturbed", **settings)
    lines = []
    for number in frames:
        stop(analyze, "out", stop_after=number, tell=lines.append, **settings)
    left = analyze("out", tell=lines.append, **settings)
    assert left == whole - len(range(0, frames[-1], every))
    assert lines == [
        f"Continuing the analysis in {tmp_path / 'out'}, which was interrupted after {number} "
        "frames."
        for number in frames
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    for name in ("faces.csv", "video.mp4"):
        assert (tmp_path / "out" / name).read_bytes() == (
            tmp_path / "undisturbed" / name
        ).read_bytes()
    summaries = [
        json.loads((tmp_path / folder / "summary.json").read_text()) | {"folder": None}
        for folder in ("out", "undisturbed")
    ]
    speed = summaries[0].pop("frames_per_second")
    assert summaries[1].pop("frames_per_second").keys() == speed.keys()
    assert summaries[0] == summaries[1]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_early_interrupt_keeps_all_frames_of_the_killed_analysis(tmp_path, analyze):
    stop(analyze, "out", stop_after=10)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert analyze("out", interrupt_after=1) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["interrupted"] and summary["frames"] == 10


def test_speed_is_measured_on_new_frames_only(tmp_path, analyze):
    stop(analyze, "out", stop_after=40)
    assert analyze("out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames_per_second"] == {"overall": None, "detector": None, "model": None}


@pytest.mark.parametrize("changed", ["model", "video", "settings"])
def test_a_changed_analysis_starts_over(tmp_path, analyze, video, changed):
    whole = analyze("undisturbed")
    stop(analyze, "out", stop_after=10)
    settings = {}
    if changed == "model":
        (tmp_path / "model.onnx").write_bytes(b"Weights")
    elif changed == "video":
        video.write_bytes(video.read_bytes() + b"\0")
    else:
        settings["tracking"] = Tracking(smoothing=0.1)
    lines = []
    assert analyze("out", tell=lines.append, **settings) == whole
    folder = tmp_path / "out"
    assert lines == [
        f"Starting over: the incomplete analysis in {folder} differs in the {changed}."
    ]
    assert (changed == "settings") == (
        (folder / "faces.csv").read_bytes() != (tmp_path / "undisturbed" / "faces.csv").read_bytes()
    )


def test_a_copy_of_the_video_and_the_model_is_the_same(tmp_path, analyze, video):
    whole = analyze("undisturbed")
    stop(analyze, "out", stop_after=10)
    for path, copy in ((video, "copy.mp4"), (tmp_path / "model.onnx", "copy.onnx")):
        (tmp_path / copy).write_bytes(path.read_bytes())
    left = analyze("out", source=tmp_path / "copy.mp4", model=tmp_path / "copy.onnx")
    assert left == whole - 10


def test_a_function_as_detector_keeps_no_journal(tmp_path, analyze):
    stop(analyze, "out", stop_after=10, detection=Detection(faces=find_squares))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["faces.csv"]


KILLED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import drawn_video
from kerasfer.predict.runtimes import Runtime
from kerasfer.video import Output, analysis, watch

def find_slowly(picture):
    time.sleep(0.02)
    return drawn_video.find_squares(picture)

analysis.make_detector = lambda name, min_face: find_slowly
folder = sys.argv[2]
runtime = Runtime(
    "onnx", f"{folder}/model.onnx", drawn_video.CLASS_NAMES, 16, drawn_video.predict_colors
)
print("ready", flush=True)
watch(runtime, f"{folder}/lesson.mp4", Output(f"{folder}/out", tell=print))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_process_killed_several_times(tmp_path, analyze):
    """SIGKILL at random moments changes neither the rows nor the video."""
    analyze("undisturbed", detection=Detection(faces=find_squares))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    rng, killed = np.random.default_rng(0), 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        journal, begin = tmp_path / "out" / ".journal.jsonl", time.monotonic()
        before = journal.stat().st_size if journal.exists() else 0
        while process.poll() is None and time.monotonic() - begin < 60:
            if journal.exists() and journal.stat().st_size > before + 100:
                break
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed >= 2
    last = subprocess.run(command, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert "Continuing the analysis in " in last.stdout
    for name in ("faces.csv", "video.mp4"):
        assert (tmp_path / "out" / name).read_bytes() == (
            tmp_path / "undisturbed" / name
        ).read_bytes()


# The file


def answers(seed):
    rng = np.random.default_rng(seed)
    faces = [Face(tuple(rng.normal(size=4)), float(rng.random()), rng.normal(size=(5, 2)))]
    return Answers(faces, [rng.random(3, "float32")])


def write_journal(path, count=5):
    with Journal(path, {"a": 1}) as journal:
        for number in range(count):
            journal.add(2 * number, answers(number))


def test_answers_are_restored_exactly(tmp_path):
    write_journal(tmp_path / "j")
    with Journal(tmp_path / "j", {"a": 1}) as journal:
        assert journal.num_frames == 5
        for number in range(5):
            found, expected = journal.recall(2 * number), answers(number)
            (face,), (other,) = found.faces, expected.faces
            assert (face.box, face.score) == (other.box, other.score)
            np.testing.assert_array_equal(face.landmarks, other.landmarks)
            np.testing.assert_array_equal(found.probabilities, expected.probabilities)
            assert found.probabilities[0].dtype == np.float32
        assert journal.recall(10) is None


@pytest.mark.parametrize("damage", ["cut", "zeros", "list", "header", "empty"])
def test_a_damaged_line_ends_the_journal(tmp_path, damage):
    write_journal(tmp_path / "j")
    content = (tmp_path / "j").read_bytes()
    lines = content.splitlines(keepends=True)
    changed, expected = {
        "cut": (content[:-5], 4),
        "zeros": (content[:-5] + bytes(900), 4),
        "list": (b"".join([*lines[:3], b"[1, 2]\n", *lines[3:]]), 2),
        "header": (b"x" + content, 0),
        "empty": (b"", 0),
    }[damage]
    (tmp_path / "j").write_bytes(changed)
    with Journal(tmp_path / "j", {"a": 1}) as journal:
        assert (journal.num_frames, journal.changed) == (expected, [])
        for number in range(expected, 5):
            journal.add(2 * number, answers(number))
    if expected:
        assert (tmp_path / "j").read_bytes() == content


def test_frames_with_other_numbers_are_analyzed_again(tmp_path):
    write_journal(tmp_path / "j")
    with Journal(tmp_path / "j", {"a": 1}) as journal:
        assert journal.recall(0) is not None
        assert journal.recall(1) is None
        assert journal.recall(4) is None
        journal.add(1, answers(1))
    with Journal(tmp_path / "j", {"a": 1}) as journal:
        assert journal.num_frames == 2


# The codec


@pytest.mark.parametrize("codec", ["zzzz", "mp4"])
def test_a_wrong_codec_is_refused_before_the_libraries_are_imported(tmp_path, codec, monkeypatch):
    monkeypatch.setattr("kerasfer.cli.video.prepare_keras", lambda _: pytest.fail("too late"))
    result = CliRunner().invoke(video_command, ["model.onnx", "no.mp4", "--codec", codec])
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: OpenCV cannot write mp4 videos of 352 x 288 pixels with the codec "
        f"'{codec}'. Choose another --codec, such as mp4v.\n",
    )


def test_a_wrong_codec_is_refused_before_the_model_is_loaded(tmp_path, video):
    with pytest.raises(RunError, match="of 160 x 96 pixels with the codec 'zzzz'"):
        watch("no_model.onnx", video, Output(tmp_path / "out", codec="zzzz"))
    assert not (tmp_path / "out").exists()
