import csv
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_video import (
    BLUE,
    CLASS_NAMES,
    GREEN,
    RED,
    color_predictor,
    find_squares,
    frame_of,
    read_video,
    write_video,
)

cv2 = pytest.importorskip("cv2", reason="needs kerasfer[video]")

from kerasfer.cli.video import video as video_command  # noqa: E402
from kerasfer.errors import RecipeError, RunError  # noqa: E402
from kerasfer.video import FILES, Detection, Frames, Output, Tracking, watch  # noqa: E402


def crossing(seconds=3.0, fps=20.0):
    """Red and blue pass each other; green comes for the second half."""
    for step in range(round(seconds * fps)):
        share = step / (seconds * fps)
        x = round(120 * share)
        late = [(60, 60, 30, GREEN)] if share >= 0.5 else []
        yield frame_of((x, 5, 30, RED), (120 - x, 20, 30, BLUE), *late)


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "film.mp4", crossing(), fps=20.0)


def rows_of(folder):
    with open(folder / "faces.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_film_of_three_faces(tmp_path, film):
    seen = []
    out = tmp_path / "out"
    summary = watch(
        color_predictor(), film, Output(out, progress=lambda *values: seen.append(values))
    )
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert summary == json.loads((out / "summary.json").read_text())
    assert (summary["frames"], summary["num_persons"], summary["problem"]) == (60, 3, None)
    assert summary["seconds"] == pytest.approx(3.0)
    assert not summary["live"] and not summary["interrupted"] and summary["skipped_frames"] == 0
    speed = summary["frames_per_second"]
    assert min(speed["detector"], speed["model"]) > speed["overall"] / 2 > 0
    assert [max(p["shares"], key=p["shares"].get) for p in summary["persons"]] == [
        "happy",
        "angry",
        "sad",
    ]
    assert summary["persons"][2]["first"] == pytest.approx(1.5, abs=0.1)
    assert len(seen) == 60 and seen[-1][:2] == pytest.approx((2.95, 3.0))

    rows = rows_of(out)
    assert list(rows[0]) == [
        *("time_seconds", "frame", "person", "x", "y", "width", "height", "label"),
        *(f"raw_{name}" for name in CLASS_NAMES),
        *(f"smooth_{name}" for name in CLASS_NAMES),
    ]
    labels = {(row["person"], row["label"]) for row in rows}
    assert labels == {("1", "happy"), ("2", "angry"), ("3", "sad")}
    assert len(rows) == 60 + 60 + 29  # green needs a second box to count
    for row in rows:
        assert float(row["time_seconds"]) == pytest.approx(int(row["frame"]) / 20)
        for kind in ("raw", "smooth"):
            total = sum(float(row[f"{kind}_{name}"]) for name in CLASS_NAMES)
            assert total == pytest.approx(1, abs=1e-3)

    frames, fps = read_video(out / "video.mp4")
    assert (len(frames), fps, frames[0].shape) == (60, 20.0, (96, 160, 3))
    before = read_video(film)[0]
    assert np.abs(frames[30].astype(int) - before[30]).max() > 100  # boxes are drawn


def test_every_max_fps_seconds_and_rare_detections(tmp_path, film):
    calls = []
    predictor = color_predictor()
    find, predictor.detect = predictor.detect, lambda picture: calls.append(0) or find(picture)
    summary = watch(
        predictor,
        film,
        Output(tmp_path / "a"),
        frames=Frames(every=2, seconds=2),
        detection=Detection(every=5),
    )
    assert (summary["frames"], len(calls)) == (20, 4)
    frames, fps = read_video(tmp_path / "a" / "video.mp4")
    assert (len(frames), fps) == (20, 10.0)
    summary = watch(predictor, film, Output(tmp_path / "b"), frames=Frames(max_fps=5))
    assert (summary["frames"], summary["seconds"]) == (15, 3.0)
    assert read_video(tmp_path / "b" / "video.mp4")[1] == 5.0


def test_smoothing_does_not_depend_on_the_frame_rate(tmp_path):
    # A face that is red for a second, then green.
    values = []
    for fps in (10, 40):
        frames = [frame_of((50, 20, 40, RED if i < fps else GREEN)) for i in range(2 * fps)]
        film = write_video(tmp_path / f"{fps}.mp4", frames, fps)
        watch(
            color_predictor(), film, Output(tmp_path / str(fps)), tracking=Tracking(smoothing=0.4)
        )
        at = [row for row in rows_of(tmp_path / str(fps)) if row["time_seconds"] == "1.300"]
        values.append(float(at[0]["smooth_sad"]))
        assert float(at[0]["raw_sad"]) > 0.75
    # The old value is assumed to last until the next frame, for half a frame on average.
    assert values[0] == pytest.approx(values[1], abs=0.08)
    assert 0.35 < values[1] < 0.7


def test_no_face_at_all(tmp_path):
    film = write_video(tmp_path / "film.mp4", [frame_of()] * 10)
    summary = watch(color_predictor(), film, Output(tmp_path / "out"))
    assert (summary["num_persons"], summary["persons"], summary["faces"]) == (0, [], 0)
    assert rows_of(tmp_path / "out") == []
    assert summary["frames_per_second"]["model"] is None


def test_a_film_of_one_frame(tmp_path):
    film = write_video(tmp_path / "film.mp4", crossing(0.05))
    summary = watch(color_predictor(), film, Output(tmp_path / "out"))
    assert (summary["frames"], summary["num_persons"]) == (1, 2)


def test_a_truncated_film_is_analyzed_up_to_its_end(tmp_path):
    noise = np.random.default_rng(0).integers(0, 60, (96, 160, 3), dtype="uint8")
    frames = [np.maximum(frame, np.roll(noise, i, 0)) for i, frame in enumerate(crossing(6))]
    film = write_video(tmp_path / "film.mkv", frames, 20)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    summary = watch(color_predictor(), film, Output(tmp_path / "out"))
    assert summary["problem"].startswith("film.mkv is damaged or truncated: ")
    assert 30 < summary["frames"] < 90
    assert len(read_video(tmp_path / "out" / "video.mp4")[0]) == summary["frames"]
    assert int(rows_of(tmp_path / "out")[-1]["frame"]) == summary["frames"] - 1
    assert "film.mkv is damaged" in (tmp_path / "out" / "timeline.html").read_text()


def test_a_result_is_never_overwritten(tmp_path, film, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = watch(color_predictor(), film, frames=Frames(seconds=0.2))
    assert summary["folder"] == os.path.join("videos", "film")
    before = (tmp_path / "videos" / "film" / "faces.csv").read_bytes()
    with pytest.raises(RunError) as raised:
        watch(color_predictor(), film)
    assert str(raised.value) == (
        f"{os.path.join('videos', 'film')} already contains the result of a video. Choose "
        "another --output-dir, or remove the folder."
    )
    assert (tmp_path / "videos" / "film" / "faces.csv").read_bytes() == before
    with pytest.raises(
        RunError, match="Expected --output-dir to be a folder. Received: .*film.mp4"
    ):
        watch(color_predictor(), film, Output(film))


def test_files_of_a_killed_analysis_are_overwritten(tmp_path, film):
    out = tmp_path / "out"
    out.mkdir()
    (out / "faces.csv").write_text("time_seconds,frame\n0.0,0\n")
    (out / ".partial.video.mp4").write_bytes(b"half a video")
    watch(color_predictor(), film, Output(out), frames=Frames(seconds=0.2))
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert len(rows_of(out)) == 8


def test_a_folder_in_use_is_refused(tmp_path, film):
    refused = []

    def progress(*_):
        if not refused:
            with pytest.raises(RunError) as error:
                watch(color_predictor(), film, Output(tmp_path / "out"))
            refused.append(str(error.value))

    watch(
        color_predictor(),
        film,
        Output(tmp_path / "out", progress=progress),
        frames=Frames(seconds=0.2),
    )
    assert refused[0].startswith("Another process is analyzing a video into ")
    assert len(rows_of(tmp_path / "out")) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_complete_files(tmp_path, film, sent):
    def progress(moment, *_):
        if moment == pytest.approx(0.5):
            os.kill(os.getpid(), sent)

    before = signal.getsignal(sent)
    summary = watch(color_predictor(), film, Output(tmp_path / "out", progress=progress))
    assert summary["interrupted"] and summary["problem"] is None
    assert 11 <= summary["frames"] <= 12
    assert len(read_video(tmp_path / "out" / "video.mp4")[0]) == summary["frames"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert signal.getsignal(sent) is before


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_second_ctrl_c_does_not_wait(tmp_path, film):
    def progress(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    # A shell's background jobs ignore Ctrl-C, and these tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            watch(color_predictor(), film, Output(tmp_path / "out", progress=progress))
    finally:
        signal.signal(signal.SIGINT, before)
    # The rows are kept, but not the incomplete video.
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["faces.csv"]


def test_it_works_outside_of_the_main_thread(tmp_path, film):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(
            watch(color_predictor(), film, Output(tmp_path / "out"), frames=Frames(seconds=0.2))
        )
    )
    thread.start()
    thread.join()
    assert results[0]["frames"] == 4


class FakeCamera:
    """A camera of 100 frames a second, with a red face that does not move."""

    def __init__(self, source):
        self.frame = np.ascontiguousarray(frame_of((50, 20, 40, RED))[..., ::-1])

    def read(self):
        time.sleep(0.01)
        return True, self.frame.copy()

    def set(self, *_):
        return True

    def get(self, what):
        return 100.0

    def release(self):
        pass


def test_a_camera_skips_frames_and_its_video_keeps_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda s: FakeCamera(s) if s == 0 else real(s))
    slow = color_predictor()
    find, slow.detect = slow.detect, lambda picture: time.sleep(0.1) or find(picture)
    summary = watch(slow, 0, frames=Frames(seconds=1.0))
    assert summary["live"] and summary["source"] == "camera 0"
    assert 4 <= summary["frames"] <= 10
    assert summary["skipped_frames"] > 40
    assert summary["folder"].startswith(os.path.join("videos", "camera_0_20"))
    frames, fps = read_video(os.path.join(summary["folder"], "video.mp4"))
    assert fps == 15.0
    assert len(frames) / fps == pytest.approx(1.0, abs=0.25)
    with pytest.raises(RecipeError, match=r"\(--every\) must be 1 .* Received: 2, for camera 0\."):
        watch(slow, 0, frames=Frames(every=2))


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (Frames, {"every": 0}, "`Frames.every` must be at least 1. Received: 0."),
        (Frames, {"max_fps": 0}, "`Frames.max_fps` must be positive. Received: 0."),
        (Frames, {"seconds": -2}, "`Frames.seconds` must be positive. Received: -2."),
        (Detection, {"every": -1}, "`Detection.every` must be at least 1. Received: -1."),
        (Tracking, {"smoothing": -1}, "`Tracking.smoothing` must not be negative. Received: -1."),
        (Tracking, {"remember": -1}, "`Tracking.remember` must not be negative. Received: -1."),
    ],
)
def test_wrong_settings_are_named(settings, options, message):
    with pytest.raises(ValueError, match=message):
        settings(**options)


# The command


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A model file with random weights."""
    import keras
    import tiny_models

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("run") / "tiny.keras"
    tiny_models.tiny(("happy", "sad", "angry"), 16).save(path)
    return path


def call(*arguments):
    return CliRunner().invoke(video_command, [str(argument) for argument in arguments])


def test_the_command_from_a_model_file_to_a_timeline(tmp_path, tiny_run, film):
    result = call(tiny_run, film, "--faces", "none", "--output-dir", tmp_path / "out", "--every", 3)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["video", "0:03,", "20", "frames", "analyzed"]
    assert lines[1].startswith("per second    ") and "model only" in lines[1]
    assert lines[2].split() == ["persons", "1"]
    assert lines[3].startswith("  person 1    0:03")
    assert lines[-1] == f"results       {tmp_path / 'out'}"
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 20 and rows[0]["width"] == "160.0"
    # The same as the prediction of the model for the whole frame.
    from kerasfer.predict import Predictor

    with_model = Predictor(tiny_run, faces="none")
    raw = with_model.classify([read_video(film)[0][0]])[0]
    np.testing.assert_allclose(
        [float(rows[0][f"raw_{name}"]) for name in CLASS_NAMES], raw, atol=1e-3
    )


@pytest.mark.parametrize("detector", ["mtcnn", "yunet"])
def test_the_detector_and_the_smallest_face_are_passed_on(tmp_path, film, monkeypatch, detector):
    made = []

    def make_detector(name, *, min_face):
        made.append((name, min_face))
        return find_squares

    monkeypatch.setattr("kerasfer.video.analysis.make_detector", make_detector)
    runtime = color_predictor().runtime
    summary = watch(
        runtime, film, Output(tmp_path / "out"), detection=Detection(detector, min_face=25)
    )
    assert made == [(detector, 25)]
    assert summary["num_persons"] == 3


def test_the_command_passes_every_option_to_the_analysis(monkeypatch):
    received = {}

    def watch(run, source, output, **settings):
        received.update(settings, run=run, source=source, output=output)
        raise RunError("Stop here.")

    monkeypatch.setattr("kerasfer.video.watch", watch)
    # OpenCV supports the codec on some machines only.
    monkeypatch.setattr("kerasfer.video.writing.check_codec", lambda codec: None)
    options = (
        "--output-dir out --detector yunet --min-face 25 --margin 0.2 --every 2 --max-fps 5 "
        "--detect-every 3 --smoothing 0.1 --remember 4 --seconds 7 --codec avc1"
    )
    result = call("some.keras", "film.mp4", *options.split())
    assert (result.exit_code, result.stderr) == (1, "Error: Stop here.\n")
    output = received.pop("output")
    assert (output.folder, output.codec) == ("out", "avc1")
    assert received == {
        "run": "some.keras",
        "source": "film.mp4",
        "frames": Frames(every=2, max_fps=5, seconds=7),
        "detection": Detection("yunet", min_face=25, margin=0.2, every=3),
        "tracking": Tracking(smoothing=0.1, remember=4),
    }


def test_the_command_ends_a_broken_video_with_one_line(tmp_path, tiny_run):
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype="uint8")
    film = write_video(tmp_path / "cut.avi", noise, codec="MJPG")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    result = call(tiny_run, film, "--faces", "none", "--output-dir", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: cut.avi is damaged or truncated: ")
    assert result.stderr.endswith("The results up to that point are complete.\n")
    assert len(rows_of(tmp_path / "out")) > 30


def test_the_command_refuses_other_files_before_it_loads_a_model(tmp_path):
    (tmp_path / "a.mp4").write_text("Dear diary")
    result = call("no_run.keras", tmp_path / "a.mp4")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "a.mp4 cannot be read as a video" in result.stderr


def test_the_command_says_when_it_was_interrupted(tmp_path, film, monkeypatch, tiny_run):
    from kerasfer import video

    real = video.watch

    def interrupted(run, source, output, **settings):
        def stop(*values):
            os.kill(os.getpid(), signal.SIGINT)

        return real(run, source, replace(output, progress=stop), **settings)

    monkeypatch.setattr(video, "watch", interrupted)
    result = call(tiny_run, film, "--faces", "none", "--output-dir", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted: the results up to that point are complete.\n"
    assert "1 frames analyzed" in result.stdout
