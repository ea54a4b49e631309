import os
import struct
import threading
import time

import numpy as np
import pytest
from drawn_video import RED, frame_of, read_video, write_video

cv2 = pytest.importorskip("cv2", reason="needs kerasfer[video]")

from kerasfer.errors import RunError  # noqa: E402
from kerasfer.video import footage  # noqa: E402
from kerasfer.video.footage import open_footage  # noqa: E402
from kerasfer.video.writing import VideoWriter  # noqa: E402

BITS = 2 ** np.arange(8)


def counting(number):
    """A frame with stripes that encode its number in binary digits."""
    stripes = np.where(number & BITS, 200, 50).repeat(8)
    return np.broadcast_to(stripes[None, :, None], (48, 64, 3)).astype("uint8")


def number_in(frame):
    stripes = frame[:, :, 0].reshape(48, 8, 8).mean(axis=(0, 2))
    return int(BITS[stripes > 125].sum())


def read_all(path, **options):
    with open_footage(path) as file:
        return [(n, round(t, 4), number_in(f)) for n, t, f in file.frames(**options)], file


# Files


@pytest.mark.parametrize("fps", [25.0, 29.97, 7.5, 0.5, 120.0])
def test_every_frame_of_a_file_comes_with_its_time(tmp_path, fps):
    path = write_video(tmp_path / "a.mp4", map(counting, range(12)), fps)
    frames, file = read_all(path)
    assert [f[0] for f in frames] == [f[2] for f in frames] == list(range(12))
    np.testing.assert_allclose([f[1] for f in frames], np.arange(12) / fps, atol=1e-3)
    assert file.fps == pytest.approx(fps)
    assert file.duration == pytest.approx(12 / fps, rel=1e-3)
    assert file.size == (64, 48)
    assert file.problem is None


def test_colors_come_as_rgb(tmp_path):
    path = write_video(tmp_path / "red.mp4", [frame_of((0, 0, 160, RED))] * 3)
    with open_footage(path) as file:
        red, green, blue = next(file.frames())[2].mean(axis=(0, 1))
    assert red > 100 > max(green, blue)


def test_every_third_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", map(counting, range(10)))
    frames, _ = read_all(path, every=3)
    assert frames == [(0, 0.0, 0), (3, 0.12, 3), (6, 0.24, 6), (9, 0.36, 9)]


def test_no_more_frames_than_max_fps(tmp_path):
    path = write_video(tmp_path / "a.mp4", map(counting, range(50)), 25)
    frames, _ = read_all(path, max_fps=10)
    assert len(frames) == 20
    assert all(n == seen for n, _, seen in frames)
    assert np.diff([t for _, t, _ in frames]).max() < 0.121
    assert len(read_all(path, max_fps=100)[0]) == 50


def test_reading_stops_on_request(tmp_path):
    path = write_video(tmp_path / "a.mp4", map(counting, range(50)))
    frames, file = read_all(path, seconds=0.5)
    assert len(frames) == 13 and frames[-1][1] < 0.5
    assert file.problem is None
    asked = iter([False] * 3 + [True])
    assert len(read_all(path, stopped=lambda: next(asked))[0]) == 3


@pytest.mark.parametrize("told", [0.0, -1.0, float("nan"), 90000.0])
def test_an_implausible_frame_rate_is_replaced(tmp_path, monkeypatch, told):
    path = write_video(tmp_path / "a.mp4", map(counting, range(5)), 10)
    fake_capture(monkeypatch, fps=told)
    frames, file = read_all(path)
    assert file.fps == 25.0
    np.testing.assert_allclose([f[1] for f in frames], np.arange(5) / 10)  # the file's times


def test_missing_times_are_derived_from_the_frame_rate(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", map(counting, range(4)), 10)
    fake_capture(monkeypatch, stamps=[0, 0, 0, 0])
    assert [f[1] for f in read_all(path)[0]] == [0.0, 0.1, 0.2, 0.3]


def test_uneven_times_are_kept_and_never_decrease(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", map(counting, range(5)), 10)
    fake_capture(monkeypatch, stamps=[40, 60, 540, 50, 1040])  # the first is where it begins
    assert [f[1] for f in read_all(path)[0]] == [0.0, 0.02, 0.5, 0.6, 1.0]


def fake_capture(monkeypatch, fps=None, stamps=None):
    """Makes OpenCV report another frame rate, or other times in milliseconds."""
    real = cv2.VideoCapture

    class Capture:
        def __init__(self, *arguments):
            self.capture = real(*arguments)
            self.grabbed = -1

        def grab(self):
            self.grabbed += 1
            return self.capture.grab()

        def read(self):
            self.grabbed += 1
            return self.capture.read()

        def get(self, what):
            if what == cv2.CAP_PROP_FPS and fps is not None:
                return fps
            if what == cv2.CAP_PROP_POS_MSEC and stamps is not None:
                return stamps[self.grabbed]
            return self.capture.get(what)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)


def test_the_rotation_of_a_phone_is_applied(tmp_path):
    path = write_video(tmp_path / "a.mp4", [frame_of((0, 0, 30, RED), size=(160, 96))] * 3)
    content = bytearray(path.read_bytes())
    matrix = content.find(b"tkhd") + 44  # of the track's header: a quarter turn clockwise
    assert struct.unpack_from(">9i", content, matrix)[0] == 1 << 16
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    with open_footage(path) as file:
        frame = next(file.frames())[2]
    assert file.size == (96, 160)
    assert frame.shape == (160, 96, 3)
    assert frame[:30, -30:, 0].mean() > 180 > 120 > frame[:30, :30, 0].mean()


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "MJPG"), (".mkv", "mp4v")])
def test_a_truncated_file_gives_its_frames_and_one_line(tmp_path, suffix, codec):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (100, 48, 64, 3), dtype="uint8")
    path = write_video(tmp_path / f"cut{suffix}", noise, codec=codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with open_footage(path) as file:
        count = sum(1 for _ in file.frames())
    assert 30 < count < 60
    assert file.problem == (
        f"cut{suffix} is damaged or truncated: only {count / 25:.1f} of 4.0 seconds could be read. "
        "Copy or convert it again."
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"Dear diary,\n" * 400, b"\x00\x01\x02" * 2000, None],
    ids=["empty", "text", "noise", "truncated mp4"],
)
def test_other_files_are_refused_in_one_line(tmp_path, capfd, content):
    path = tmp_path / "a.txt"  # FFmpeg would decode a .txt as a film
    if content is None:
        path = write_video(tmp_path / "a.mp4", map(counting, range(20)))
        content = path.read_bytes()[:-200]
    path.write_bytes(content)
    with pytest.raises(RunError) as raised:
        open_footage(path)
    assert str(raised.value) == (
        f"{path} cannot be read as a video: it is not a video, it is damaged, or OpenCV does not "
        "support its format. Convert it to mp4, or copy it again."
    )


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    with pytest.raises(RunError, match="Received: .*nowhere.mp4, which does not exist."):
        open_footage(tmp_path / "nowhere.mp4")
    with pytest.raises(RunError, match="Expected a video file or .* which is a folder."):
        open_footage(tmp_path)


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(RunError, match=r'needs OpenCV. Run pip install "kerasfer\[video\]".'):
        open_footage(tmp_path / "a.mp4")


# Cameras


class FakeCamera:
    """Returns a new frame every `interval` seconds, up to `count` frames."""

    interval, count, hangs = 0.01, 10**9, False

    def __init__(self, source):
        self.source = source
        self.number = 0
        self.released = False
        FakeCamera.last = self

    def read(self):
        if self.number >= self.count:
            if self.hangs:
                time.sleep(0.5)
            return False, None
        time.sleep(self.interval)
        self.number += 1
        return True, counting(self.number % 256)

    def set(self, *_):
        return True

    def get(self, what):
        return 30.0

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    """Makes OpenCV's cameras fake ones with the given attributes."""

    def make(**attributes):
        kind = type("Fake", (FakeCamera,), attributes)
        monkeypatch.setattr(cv2, "VideoCapture", kind)

    return make


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [("0", 0, "camera 0"), (1, 1, "camera 1"), ("/dev/video3",) * 3, ("rtsp://a/b",) * 3],
)
def test_cameras_are_distinguished_from_files(camera, source, target, name):
    camera()
    with open_footage(source) as live:
        assert live.live and live.name == name and live.duration is None
        assert FakeCamera.last.source == target
    assert FakeCamera.last.released


def test_a_slow_consumer_skips_frames_and_receives_the_newest(camera):
    camera(interval=0.01)
    with open_footage(0) as live:
        seen = []
        for number, moment, frame in live.frames(seconds=0.6):
            assert (FakeCamera.last.number - number_in(frame)) % 256 <= 3
            seen.append((number, moment))
            time.sleep(0.1)
    numbers, moments = zip(*seen, strict=True)
    assert 3 <= len(seen) <= 7
    assert live.num_skipped == numbers[-1] + 1 - len(seen) > 10
    assert (np.diff(moments) > 0.05).all()
    assert live.problem is None
    assert FakeCamera.last.released


def test_a_fast_consumer_receives_each_frame_once(camera):
    camera(interval=0.02)
    with open_footage(0) as live:
        numbers = [number for number, _, _ in live.frames(seconds=0.3)]
    assert len(numbers) == len(set(numbers)) > 3


def test_max_fps_of_a_camera(camera):
    camera(interval=0.005)
    with open_footage(0) as live:
        assert 4 <= len(list(live.frames(max_fps=10, seconds=0.6))) <= 7


def test_a_camera_that_is_unplugged_ends_in_one_line(camera):
    camera(count=5)
    with open_footage(0) as live:
        assert 1 <= len(list(live.frames())) <= 5
    assert live.problem == "camera 0 stopped returning frames. Check its connection."


def test_waiting_for_a_camera_that_hangs_has_a_time_limit(camera, monkeypatch):
    monkeypatch.setattr(footage, "TIMEOUT", 0.3)
    blocked = threading.Event()
    camera()

    def hang(self):
        if self.number:
            blocked.wait(5)
        self.number += 1
        return True, counting(0)

    monkeypatch.setattr(cv2.VideoCapture, "read", hang)
    start = time.monotonic()
    with open_footage(0) as live:
        assert list(live.frames()) == []
    assert time.monotonic() - start < 3
    assert live.problem.startswith("camera 0 stopped")
    assert not FakeCamera.last.released  # it is being read
    blocked.set()


def test_a_camera_stops_on_request(camera):
    camera()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with open_footage(0) as live:
        list(live.frames(stopped=stop.is_set))
    assert live.problem is None


@pytest.mark.skipif(os.path.exists("/dev/video9"), reason="this machine has a tenth camera")
@pytest.mark.parametrize(("source", "name"), [("9", "camera 9"), ("/dev/video9", "/dev/video9")])
def test_a_missing_camera_is_reported_in_one_line(capfd, source, name):
    with pytest.raises(RunError) as raised:
        open_footage(source)
    assert str(raised.value) == (
        f"{name} returns no frames. Expected the index of a camera (0, 1, …), a device "
        "(/dev/video0) or the URL of a stream. Check that the camera is connected and that no "
        "other program uses it."
    )


# Writing


def write(path, moments, fps, **options):
    writer = VideoWriter(path, (64, 48), fps, **options)
    for number, moment in enumerate(moments):
        writer.write(moment, counting(number))
    writer.close()
    frames, rate = read_video(path)
    return [number_in(frame) for frame in frames], rate


def test_even_frames_are_written_as_they_come(tmp_path):
    numbers, fps = write(tmp_path / "a.mp4", np.arange(20) / 29.97, 30000 / 1001)
    assert numbers == list(range(20))
    assert fps == pytest.approx(29.97)


def test_gaps_are_filled_and_coinciding_frames_are_skipped(tmp_path):
    numbers, _ = write(tmp_path / "a.mp4", [0, 0.1, 0.4, 0.41, 0.5], 10)
    assert numbers == [0, 1, 1, 1, 2, 4]


@pytest.mark.parametrize("fps", [0.1, 7.123456789, 119.88, 240.0])
def test_odd_frame_rates_can_be_written(tmp_path, fps):
    moments = np.arange(6) / fps
    numbers, rate = write(tmp_path / "a.mp4", moments, fps)
    assert (len(numbers) - 1) / rate == pytest.approx(5 / fps, abs=1.01 / rate)
    assert numbers[0] == 0 and numbers[-1] == 5


def test_odd_sides_can_be_written(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", (65, 49), 10)
    writer.write(0, np.zeros((49, 65, 3), "uint8"))
    writer.close()
    assert read_video(tmp_path / "a.mp4")[0][0].shape == (48, 64, 3)


@pytest.mark.parametrize("codec", ["zzzz", "mp4", "äöüß"])
def test_an_unknown_codec_is_named(tmp_path, capfd, codec):
    with pytest.raises(
        RunError, match=f"cannot write a video of 64 x 48 pixels with the codec '{codec}'"
    ):
        VideoWriter(tmp_path / "a.mp4", (64, 48), 10, codec)


def test_an_incompletely_written_video_is_an_error(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 10)
    writer.write(0, counting(0))
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(RunError, match="The video could not be written to .* Free some disk space"):
        writer.close()
