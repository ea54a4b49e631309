import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.datasets import ckplus
from kerasfer.data.picture_files import PictureFiles
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import RecipeError, RunError
from kerasfer.faces import Face, crop_face
from kerasfer.faces.prepare import POINTS, Crop, choose_face, landmarks_in_crop, prepare
from kerasfer.files import only_writer

EYES = [[20.0, 24.0], [40.0, 20.0], [31.0, 34.0], [24.0, 44.0], [42.0, 40.0]]


def detect(picture):
    """Finds a tilted face, unless the picture's first pixel is black; a white one has two faces."""
    first = int(picture[0, 0].max())
    if first == 0:
        return []
    face = Face((12.0, 10.0, 40.0, 44.0), 0.9, np.array(EYES))
    return [Face((0.0, 0.0, 6.0, 6.0), 0.8, np.array(EYES) / 9), face] if first == 255 else [face]


@pytest.fixture
def samples():
    """70 drawn faces of 64 px; the first picture of test has no face, the second has two."""
    drawn = load_dataset("synthetic", num_samples=70, size=64)
    pictures = drawn.pictures.copy()
    pictures[:, 0, 0] = 100
    first, second = np.flatnonzero(drawn.splits == "test")[:2]
    pictures[first, 0, 0] = 0
    pictures[second, 0, 0] = 255
    return replace(drawn, pictures=pictures)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tree_is_a_folder_dataset(samples, tmp_path):
    numbers = prepare(samples, tmp_path / "out", detect, Crop(size=32))
    assert numbers == {
        **{"prepared": 70, "several_faces": 1, "without_face": 1, "unreadable": 0, "kept": True},
    }
    again = load_dataset("folder", tmp_path, path="out")
    assert again.class_names == tuple(sorted(samples.class_names))
    for split in ("train", "validation", "test"):
        assert (again.splits == split).sum() == (samples.splits == split).sum()
    assert again.picture(0).shape == (32, 32, 3)
    index = list(again.ids).index("train/angry/synthetic_0_0.jpg")
    face = detect(samples.pictures[0])[0]
    expected = crop_face(samples.pictures[0], face, 32, margin=0.2).astype(int)
    assert np.abs(again.picture(index) - expected).mean() < 6  # JPEG


def test_landmarks_are_in_pixels_of_the_prepared_pictures(samples, tmp_path):
    prepare(samples, tmp_path / "out", detect, Crop(size=100, margin=0.5))
    found = rows(tmp_path / "out" / "landmarks.csv")
    assert list(found[0]) == ["picture", *(f"{point}_{axis}" for point in POINTS for axis in "xy")]
    assert len(found) == 69
    ids = set(load_dataset("folder", tmp_path, path="out").ids)
    assert {row["picture"] for row in found} <= ids
    row = found[0]
    assert float(row["left_eye_y"]) == pytest.approx(float(row["right_eye_y"]), abs=0.02)
    assert float(row["left_eye_x"]) < float(row["nose_x"]) < float(row["right_eye_x"])


@pytest.mark.parametrize("tilt", [-0.7, 0.0, 0.4])
def test_landmarks_move_as_the_picture_does(tilt):
    """A dot painted at each landmark is at the computed place of the crop."""
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    points = (np.array([[-14, -8], [14, -8], [0, 2], [-10, 14], [10, 14]]) @ turn) + (60, 50)
    face = Face((36.0, 24.0, 48.0, 50.0), 1.0, points)
    for number, point in enumerate(points):
        y, x = np.mgrid[:110, :120] + 0.5  # of pixel centers
        dot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 8)
        picture = np.repeat((255 * dot[..., None]).astype("uint8"), 3, axis=-1)
        crop = crop_face(picture, face, 90, margin=0.2)[..., 0].astype(float)
        y, x = np.mgrid[:90, :90] + 0.5
        center = np.array([(crop * x).sum(), (crop * y).sum()]) / crop.sum()
        np.testing.assert_allclose(landmarks_in_crop(face, 90, 0.2)[number], center, atol=0.5)


def test_pictures_without_a_face_are_listed_and_kept(samples, tmp_path):
    prepare(samples, tmp_path / "out", detect, Crop(size=32))
    (row,) = rows(tmp_path / "out" / "without_face.csv")
    index = np.flatnonzero(samples.splits == "test")[0]
    assert row["id"] == samples.ids[index] and row["problem"] == "no face"
    kept = np.asarray(Image.open(tmp_path / "out" / row["picture"])).astype(int)
    whole = np.asarray(Image.fromarray(samples.pictures[index]).resize((32, 32), 2)).astype(int)
    assert np.abs(kept - whole).mean() < 6


def test_pictures_without_a_face_may_be_skipped(samples, tmp_path):
    numbers = prepare(samples, tmp_path / "out", detect, Crop(size=32, no_face="skip"))
    assert numbers["prepared"] == 69 and not numbers["kept"]
    (row,) = rows(tmp_path / "out" / "without_face.csv")
    assert row["picture"] == ""
    assert len(load_dataset("folder", tmp_path, path="out")) == 69


def test_the_middle_of_a_wide_picture_is_kept(samples, tmp_path):
    wide = np.zeros((70, 64, 96, 3), "uint8")
    wide[:, :, 16:80] = 200
    prepare(replace(samples, pictures=wide).take([0]), tmp_path / "out", detect, Crop(size=32))
    picture = np.asarray(Image.open(tmp_path / "out/train/angry/synthetic_0_0.jpg"))
    assert picture.min() > 190


def test_gray_files_and_unreadable_ones(samples, tmp_path, tree):
    tree("a.png", "b.jpg", "c.png", root=tmp_path / "in")
    (tmp_path / "in" / "b.jpg").write_text("<html>")
    files = PictureFiles(tmp_path / "in", ["a.png", "b.jpg", "c.png"])
    few = replace(samples.take([0, 1, 2]), pictures=files)
    numbers = prepare(few, tmp_path / "out", detect, Crop(size=32))
    assert (numbers["prepared"], numbers["unreadable"]) == (2, 1)
    (row,) = rows(tmp_path / "out" / "without_face.csv")
    assert "b.jpg cannot be read" in row["problem"] and row["picture"] == ""


def test_names_that_would_meet_are_kept_apart(tmp_path):
    ids = ["a/face.jpg", "a/face.png", "a/FACE.jpg", "a/...", "fer2013.csv:17", "a/x:2.png"]
    samples = Samples(
        name="drawn",
        class_names=("happy", "sad"),
        pictures=np.full((6, 64, 64, 3), 90, "uint8"),
        labels=one_hot([0] * 6, 2),
        ids=ids,
        splits=np.array(["train"] * 6),
    )
    prepare(samples, tmp_path / "out", detect, Crop(size=16))
    names = sorted(path.name for path in (tmp_path / "out/train/happy").iterdir())
    assert names == [
        *("FACE_3.jpg", "face.jpg", "face_2.jpg", "fer2013.csv_17.jpg", "picture.jpg", "x_2.jpg"),
    ]


# Going on


def test_an_interrupted_preparation_goes_on(samples, tmp_path):
    seen = []

    def interrupted(picture):
        seen.append(1)
        if len(seen) == 30:
            raise KeyboardInterrupt
        return detect(picture)

    with pytest.raises(KeyboardInterrupt):
        prepare(samples, tmp_path / "out", interrupted, Crop(size=32))
    assert 20 <= len(rows(tmp_path / "out" / "prepared.csv")) < 30
    journal = tmp_path / "out" / "prepared.csv"
    journal.write_bytes(journal.read_bytes() + b"synthetic:0:69,train/x")  # torn by a kill
    done = len(rows(journal)) - 1
    seen.clear()
    numbers_done = []
    again = prepare(
        samples, tmp_path / "out", _counting(seen), Crop(size=32), progress=numbers_done.append
    )
    assert len(seen) == 70 - done
    assert numbers_done == list(range(done + 1, 71))
    assert again["prepared"] == 70
    straight = prepare(samples, tmp_path / "straight", detect, Crop(size=32))
    assert again == straight
    for name in ("landmarks.csv", "without_face.csv", "prepared.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    seen.clear()
    prepare(samples, tmp_path / "out", _counting(seen), Crop(size=32))
    assert seen == []


def _counting(seen):
    def counting(picture):
        seen.append(1)
        return detect(picture)

    return counting


def test_kill_minus_nine_costs_nothing_that_is_done(tmp_path):
    script = tmp_path / "prepare_slowly.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            sys.path.insert(0, sys.argv[2])
            from test_prepare import detect
            from kerasfer.data import load_dataset
            from kerasfer.faces.prepare import Crop, prepare

            def slowly(picture):
                time.sleep(0.02)
                return detect(picture)

            samples = load_dataset("synthetic", num_samples=70, size=64)
            prepare(samples, sys.argv[1], slowly, Crop(size=32))
            """
        )
    )
    out, here = tmp_path / "out", Path(__file__).parent
    command = [sys.executable, str(script), str(out), str(here)]
    environment = os.environ | {"PYTHONPATH": str(here.parents[1])}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while not (out / "prepared.csv").is_file() or len(rows(out / "prepared.csv")) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("*/*/synthetic*.jpg")))
    assert 10 <= done < 70
    seen = []
    samples = load_dataset("synthetic", num_samples=70, size=64)
    assert prepare(samples, out, _counting(seen), Crop(size=32))["prepared"] == 70
    assert 70 - done <= len(seen) <= 70 - done + 1  # one may be written and not yet in the journal
    assert not list(out.glob("*/*/.partial*"))


def test_other_settings_or_another_folder_are_refused(samples, tmp_path):
    few = samples.take([0, 1])
    prepare(few, tmp_path / "out", detect, Crop(size=32))
    with pytest.raises(
        RunError, match="out was begun with size = 32. Received: 48. Choose another"
    ):
        prepare(few, tmp_path / "out", detect, Crop(size=48))
    with pytest.raises(RunError, match="begun with source = .*. Received: elsewhere. Choose"):
        prepare(replace(few, source="elsewhere"), tmp_path / "out", detect, Crop(size=32))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(RunError, match="mine holds something other than prepared pictures"):
        prepare(few, tmp_path / "mine", detect)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file holds something other"):
        prepare(few, tmp_path / "file", detect)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "prepare.json").write_text("[1")
    with pytest.raises(RunError, match="prepare.json is damaged: "):
        prepare(few, tmp_path / "new", detect)
    message = "is writing prepared pictures to .*out. Wait"
    with only_writer(tmp_path / "out"), pytest.raises(RunError, match=message):
        prepare(few, tmp_path / "out", detect, Crop(size=32))
    with pytest.raises(RecipeError, match="no_face must be one of keep, skip. Received: 'drop'"):
        prepare(few, tmp_path / "new", detect, Crop(no_face="drop"))


def test_the_settings_are_written(samples, tmp_path):
    prepare(samples.take([0]), tmp_path / "out", detect, Crop(size=32))
    assert json.loads((tmp_path / "out" / "prepare.json").read_text()) == {
        "dataset": "synthetic",
        "pictures": 1,
        "size": 32,
        "margin": 0.2,
        "no_face": "keep",
        "detector": "mtcnn",
        "source": samples.source,
    }


# Which face


def test_the_large_face_near_the_middle_is_taken():
    small, large = Face((90, 90, 20, 20)), Face((60, 50, 80, 100))
    assert choose_face([small, large], (200, 200)) is large
    at_the_rim = Face((150, 0, 50, 50))
    middle = Face((80, 80, 40, 40))
    assert choose_face([at_the_rim, middle], (200, 200)) is middle
    outside = Face((400, 400, 900, 900))
    assert choose_face([outside, small], (200, 200)) is small


# CK+


def official(tmp_path, tree):
    for sequence, num_frames, code in (("S005/001", 5, 3), ("S010/002", 4, 7)):
        name = sequence.replace("/", "_")
        tree(
            *(f"{sequence}/{name}_{frame:08}.png" for frame in range(1, num_frames + 1)),
            root=tmp_path / "in" / "ckplus" / "cohn-kanade-images",
        )
        labels = tmp_path / "in" / "ckplus" / "Emotion" / sequence
        labels.mkdir(parents=True)
        (labels / f"{name}_{num_frames:08}_emotion.txt").write_text(f"   {code:.7e}\n")
    return tmp_path / "in"


@pytest.mark.parametrize("neutral", [False, True])
def test_ckplus_keeps_its_form_and_its_persons(tmp_path, tree, neutral):
    data_dir = official(tmp_path, tree)
    samples = ckplus.load(data_dir, neutral=True)
    numbers = prepare(samples, tmp_path / "out", detect, Crop(size=32))
    assert numbers["prepared"] == 8
    before, after = (ckplus.load(place, neutral=neutral) for place in (data_dir, tmp_path / "out"))
    assert list(after.ids) == list(before.ids)
    assert list(after.subjects) == list(before.subjects)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.picture(0).shape == (32, 32, 3)
    landmarks = {row["picture"] for row in rows(tmp_path / "out" / "landmarks.csv")}
    assert landmarks == set(samples.ids)
    with pytest.raises(RecipeError, match="copy of ckplus needs all its pictures"):
        prepare(samples, tmp_path / "new", detect, Crop(no_face="skip"))


def test_the_derived_ckplus_keeps_its_form_too(tmp_path, tree):
    names = [f"CK+48/{name}/S{i:03}_004_00000017.png" for i, name in enumerate(ckplus.CLASS_NAMES)]
    data_dir = tree(*names, root=tmp_path / "in")
    samples = ckplus.load(data_dir)
    prepare(samples, tmp_path / "out", detect, Crop(size=32, no_face="skip"))
    after = ckplus.load(tmp_path / "out")
    assert list(after.ids) == list(samples.ids)


# With the real detector


@pytest.mark.skipif(find_spec("mtcnn") is None, reason="needs kerasfer[faces]")
def test_mtcnn_prepares_drawn_faces(tmp_path):
    from kerasfer.faces import make_detector

    drawn = load_dataset("synthetic", num_samples=3, size=128)
    numbers = prepare(drawn, tmp_path / "out", make_detector(min_face=50), Crop(size=96), workers=2)
    assert (numbers["prepared"], numbers["without_face"]) == (3, 0)
    for row in rows(tmp_path / "out" / "landmarks.csv"):
        assert 15 < float(row["left_eye_x"]) < float(row["right_eye_x"]) < 80
        assert float(row["left_eye_y"]) == pytest.approx(float(row["right_eye_y"]), abs=0.02)
        assert float(row["left_eye_y"]) < float(row["nose_y"]) < float(row["mouth_left_y"])
