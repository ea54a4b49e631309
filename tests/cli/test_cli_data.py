import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kerasfer.cli import main
from kerasfer.data import load_dataset


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in an empty folder, without $KERASFER_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERASFER_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(main, ["data", *arguments])


def write_faces(folder, num_samples=70, size=48):
    """Sorts drawn faces into a folder with train, val and test."""
    drawn = load_dataset("synthetic", num_samples=num_samples, size=size)
    parts = {"train": "train", "validation": "val", "test": "test"}
    for index, picture in enumerate(drawn.pictures):
        class_name = drawn.class_names[drawn.targets[index]]
        path = Path(folder, parts[str(drawn.splits[index])], class_name, f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return Path(folder)


# check


def test_check_reports_its_findings(call):
    faces = write_faces("faces")
    copied = next((faces / "train" / "happy").iterdir())
    (faces / "test" / "sad" / "copy.png").write_bytes(copied.read_bytes())
    result = call("check", "faces")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "folder: 71 pictures of 48 x 48 pixels"
    assert lines[1].split() == ["train", "validation", "test"]
    assert "3 happy" in result.stdout and "0 angry" in result.stdout
    assert (
        "exact duplicates  2 pictures have an identical picture: 1 of test in train; 2 have one "
        "with another class, in 1 of 1 groups" in lines
    )
    assert "unreadable        none" in lines
    folder = Path("runs", "check_faces")
    assert {path.name for path in folder.iterdir()} == {
        *("check.json", "contact_sheet.png", "duplicates.csv"),
    }
    assert "test/sad/copy.png" in (folder / "duplicates.csv").read_text()
    assert Image.open(folder / "contact_sheet.png").width > 900


def test_check_as_json(call):
    write_faces("faces")
    result = call("check", "folder", "--set", "path=faces", "--data-dir", ".", "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert findings["num_samples"] == 70
    assert findings == json.loads(Path("runs/check_faces/check.json").read_text())


def test_check_fails_where_pictures_cannot_be_read(call):
    faces = write_faces("faces")
    (faces / "test" / "sad" / "page.png").write_text("<html>")
    result = call("check", "faces", "--output-dir", "elsewhere")
    assert result.exit_code == 1
    assert "unreadable        1: test/sad/page.png" in result.stdout
    assert "Error: 1 of 71 pictures cannot be read; check.json lists them." in result.stderr
    assert Path("elsewhere/check_faces/check.json").is_file()


def test_check_passes_on_the_options_of_the_dataset(call):
    result = call("check", "synthetic", "--set", "data.num_samples=14")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("synthetic: 14 pictures of 64 x 64 pixels")


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("ferplus", "labels", "--set labels: expected an option of the dataset, such as path=my_"),
        ("ferplus", "name=fer2013", "--set name=fer2013: expected an option of the dataset"),
        (
            "ferplus",
            "labels=major",
            'one of majority, argmax8, probability or null. Received: "',
        ),
        ("affectnet", "release=2018", "must be one of 2017, 2021 or null. Received: 2018."),
        (
            "ferplus",
            "label=majority",
            "--set label=majority: unknown key `data.label`. Did you",
        ),
        ("synthetic", "num_samples=[", "--set num_samples=[: the value is not valid YAML"),
        ("synthetic", "labels=majority", "does not take data.labels; it takes num_samples. Remove"),
    ],
)
def test_wrong_options_are_refused(call, name, option, message):
    result = call("check", name, "--set", option)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_data_is_reported_in_one_line(call):
    result = call("check", "rafdb", "--data-dir", "faces")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: RAF-DB was not found. Expected faces/rafdb/EmoLabel")
    assert call("check", "rafbd").exit_code == 2
    assert "Did you mean rafdb?" in call("check", "rafbd").stderr


# prepare


@pytest.fixture
def detector(monkeypatch):
    """A detector that finds a face in all pictures but the dark ones, and counts its calls."""
    from kerasfer import faces

    def detect(picture):
        calls.append(picture.shape)
        if picture.mean() < 5:
            return []
        return [faces.Face((8.0, 8.0, 30.0, 32.0), 0.9, np.full((5, 2), 20.0))]

    def make_detector(name):
        calls.names.append(name)
        return detect

    calls = _Calls()
    monkeypatch.setattr(faces, "make_detector", make_detector)
    return calls


class _Calls(list):
    """The shapes of the pictures that were searched, and the names of the detectors made."""

    def __init__(self):
        self.names = []


def test_prepare_continues_only_with_the_same_detector(call, detector):
    write_faces("faces")
    command = ("prepare", "faces", "--output-dir", "ready", "--size", "32")
    assert call(*command, "--detector", "yunet").exit_code == 0
    assert call(*command, "--detector", "yunet").exit_code == 0
    assert detector.names == ["yunet", "yunet"] and len(detector) == 70
    result = call(*command)
    assert result.exit_code == 1
    assert "ready was begun with detector = yunet. Received: mtcnn." in result.stderr
    assert call(*command, "--detector", "none").exit_code == 2  # Preparing needs a detector.


def test_prepare_writes_a_folder_to_train_on(call, detector):
    faces = write_faces("faces")
    Image.new("RGB", (48, 48)).save(faces / "train" / "sad" / "dark.png")
    result = call("prepare", "faces", "--output-dir", "ready", "--size", "32")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "note              used 71 pictures: train 50, validation 7, test 14",
        "prepared          71 pictures of 32 x 32 pixels",
        "without a face    1; their center was kept",
        "written           ready/: landmarks.csv, without_face.csv, prepared.csv",
        f"train with        --set data.name=folder --set data.path={Path('ready').resolve()}",
    ]
    again = load_dataset("folder", path=str(Path("ready").resolve()))
    assert len(again) == 71
    assert len(detector) == 71
    assert call("prepare", "faces", "--output-dir", "ready", "--size", "32").exit_code == 0
    assert len(detector) == 71  # nothing is done again
    result = call("prepare", "faces", "--output-dir", "ready")
    assert result.exit_code == 1
    assert "Error: ready was begun with size = 32. Received: 224." in result.stderr


def test_prepare_may_skip_pictures_without_a_face(call, detector):
    faces = write_faces("faces")
    Image.new("RGB", (48, 48)).save(faces / "train" / "sad" / "dark.png")
    result = call(
        *("prepare", "folder", "--set", "path=faces", "--data-dir", ".", "--output-dir", "ready"),
        *("--size", "32", "--margin", "0.4", "--no-face", "skip", "--workers", "1"),
    )
    assert result.exit_code == 0, result.output
    assert "without a face    1; they were skipped" in result.stdout
    assert json.loads(Path("ready/prepare.json").read_text())["margin"] == 0.4


def test_prepare_keeps_ckplus_in_its_form_with_the_first_frames(call, detector):
    sequence = Path("in/ckplus/cohn-kanade-images/S005/001")
    sequence.mkdir(parents=True)
    for frame in range(1, 6):
        Image.new("L", (64, 49), 90).save(sequence / f"S005_001_{frame:08}.png")
    labels = Path("in/ckplus/Emotion/S005/001")
    labels.mkdir(parents=True)
    (labels / "S005_001_00000005_emotion.txt").write_text("   3.0000000e+00\n")
    result = call(*("prepare", "ckplus", "--data-dir", "in", "--output-dir", "out", "--size", "32"))
    assert result.exit_code == 0, result.output
    assert "train with        --set data.name=ckplus --data-dir out" in result.stdout
    assert len(load_dataset("ckplus", "out")) == 3
    assert len(load_dataset("ckplus", "out", neutral=True)) == 4


def test_help_needs_no_backend():
    script = (
        "import sys; from click.testing import CliRunner; from kerasfer.cli import main\n"
        "result = CliRunner().invoke(main, ['data', 'prepare', '--help'])\n"
        "assert 'MTCNN' in result.output, result.output\n"
        "assert not {'keras', 'numpy', 'PIL', 'imagehash'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_check_and_prepare_need_no_keras():
    script = (
        "import sys; import kerasfer.data.checks.contact_sheet, kerasfer.faces.prepare\n"
        "assert 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_checks_of_two_folders_do_not_overwrite_each_other(call):
    for name in ("a", "b"):
        write_faces(f"{name}/faces", num_samples=14)
        assert call("check", f"{name}/faces").exit_code == 0
        assert call("check", f"{name}/faces").exit_code == 0  # The same folder again.
    sources = {
        folder.name: json.loads((folder / "check.json").read_text())["source"]
        for folder in Path("runs").iterdir()
    }
    assert sources == {
        "check_faces": str(Path("a/faces").resolve()),
        "check_faces_2": str(Path("b/faces").resolve()),
    }


def test_names_that_are_not_utf8_are_checked_and_prepared(call, detector):
    faces = write_faces("faces")
    first = next((faces / "test").glob("*/*.png"))
    os.rename(first, os.fsencode(first.parent) + b"/caf\xe9.png")
    with open(os.fsencode(first.parent) + b"/b\xe4d.png", "wb") as file:
        file.write(b"no picture")
    result = call("check", "faces")
    assert result.exit_code == 1 and "b\\xe4d.png" in result.stdout, result.output
    assert "b\\xe4d.png cannot be read" in Path("runs/check_faces/check.json").read_text().replace(
        "\\\\", "\\"
    )
    result = call("prepare", "faces", "--output-dir", "ready", "--size", "32")
    assert result.exit_code == 0, result.output
    assert "caf\\xe9.png" in Path("ready/prepared.csv").read_text()
    assert len(load_dataset("folder", path=str(Path("ready").resolve()))) == 70
