"""Runs that are trained further, on other backends, on damaged checkpoints or on odd file names."""

import json
import os
import signal
import sys
import tempfile

import keras
import numpy as np
import pytest
import tiny_models
from PIL import Image

from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.models import MODELS
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.runs.predictions import read_predictions
from kerasfer.train import train
from kerasfer.train.callbacks import Record

DATA = {"name": "synthetic", "num_samples": 70, "image_size": 16, "batch_size": 16}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, plain):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "tiny", tiny_models.tiny)
    return tmp_path


def recipe(data=None, **settings):
    return Recipe.model_validate(
        {
            "name": "tiny",
            "data": data or DATA,
            "model": {"name": "tiny"},
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "train": {"epochs": 2, "tensorboard": False, "verbose": 2, **settings},
        }
    )


def rows(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.read_history()]


def interrupt(monkeypatch, epoch, **settings):
    """Trains until a number of epochs is finished."""

    def stop(self, batch, logs=None):
        if self.state.epoch == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Record, "on_train_batch_end", stop)
        train(recipe(**settings))
    return RunFolder("runs/tiny")


# Training further


def test_a_finished_run_is_trained_further(place):
    """Two epochs and then two more are the same as four, at a constant rate."""
    train(recipe(epochs=4), output_dir="whole")
    train(recipe())
    train(recipe(epochs=4), resume=True)
    run, whole = RunFolder("runs/tiny"), RunFolder("whole/tiny")
    assert len(rows(run)) == 4 and run.is_finished
    assert run.load_recipe().train.epochs == 4
    for row, expected in zip(rows(run), rows(whole), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
    (step,) = run.read_environment()["extended"]
    assert step["after_epoch"] == 2 and step["changes"] == {"train.epochs": [2, 4]}
    assert run.read_environment()["seconds"] > 0


def test_a_run_that_was_extended_can_be_interrupted(monkeypatch):
    train(recipe(epochs=1))
    before = RunFolder("runs/tiny").read_environment()["started"]

    def stop(self, batch, logs=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Record, "on_train_batch_end", stop)
        train(recipe(epochs=2), resume=True)
    run = RunFolder("runs/tiny")
    assert not run.is_finished
    train(recipe(epochs=2), resume=True)
    assert run.is_finished and len(rows(run)) == 2
    assert run.read_environment()["started"] == before
    assert len(run.read_environment()["extended"]) == 1


def test_a_run_without_its_last_checkpoint(capsys):
    train(recipe(epochs=1))
    run = RunFolder("runs/tiny")
    run.last_epoch.unlink()
    with pytest.raises(RunError, match="cannot be trained further"):
        train(recipe(), resume=True)
    assert run.is_finished
    train(recipe(epochs=1), resume=True)
    assert "is finished already" in capsys.readouterr().out


def test_the_description_may_change(monkeypatch):
    interrupt(monkeypatch, 1)
    changed = recipe().model_copy(update={"description": "Better words."})
    assert 0 <= train(changed, resume=True)["accuracy"] <= 1


# Backends


def test_the_backend_of_the_recipe_is_honored(place):
    other = "jax" if keras.backend.backend() != "jax" else "torch"
    with pytest.raises(RecipeError, match=f"train.backend is {other}, but Keras was imported with"):
        train(recipe(backend=other))
    assert not (place / "runs").exists()
    assert train(recipe(backend=keras.backend.backend(), epochs=1))["num_samples"] == 14


def test_a_run_is_not_resumed_on_another_backend(monkeypatch):
    run = interrupt(monkeypatch, 1)
    facts = run.read_environment() | {"backend": "other"}
    run.environment.write_text(json.dumps(facts))
    with pytest.raises(RunError, match="The run began with the backend other, and this process"):
        train(recipe(), resume=True)
    assert run.read_environment() == facts


# Damaged files


def test_a_damaged_checkpoint_costs_an_epoch(monkeypatch, capsys):
    train(recipe(epochs=4), output_dir="whole")
    run = interrupt(monkeypatch, 3, epochs=4)
    assert [path.name for path in run.checkpoints] == ["epoch_3.npz", "epoch_2.npz"]
    content = run.checkpoints[0].read_bytes()
    run.checkpoints[0].write_bytes(content[: len(content) // 2])
    train(recipe(epochs=4), resume=True)
    printed = capsys.readouterr().out
    assert "epoch_3.npz is damaged. The one before it is used." in printed
    assert "Resuming after epoch 2." in printed
    for row, expected in zip(rows(run), rows(RunFolder("whole/tiny")), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["environment.json", "metrics.json", "recipe.yaml"])
def test_a_damaged_file_of_a_run_is_one_line(name):
    train(recipe(epochs=1))
    run = RunFolder("runs/tiny")
    (run.path / name).write_text("{")
    with pytest.raises((RunError, RecipeError), match=name.replace(".", r"\.")) as caught:
        train(recipe(epochs=1 + (name == "environment.json")), resume=True)
    assert "\n" not in str(caught.value)


# Pictures


def plant(folder, count, seed):
    rng = np.random.default_rng(seed)
    for name in ("happy", "sad"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 255, (16, 16, 3), dtype="uint8")
            Image.fromarray(picture).save(folder / name / f"{number}.png")


@pytest.fixture
def faces(place):
    for seed, (part, count) in enumerate({"train": 6, "val": 2, "test": 3}.items()):
        plant(place / "faces" / part, count, seed)
    return {"name": "folder", "path": str(place / "faces"), "image_size": 16, "batch_size": 4}


@pytest.mark.skipif(sys.platform != "linux", reason="Other systems refuse such names.")
def test_a_file_name_that_is_not_utf8(faces, place, monkeypatch):
    for path in (place / "faces" / "test").glob("*/*.png"):
        try:
            os.rename(path, os.fsencode(path).replace(b".png", b"caf\xe9.png"))
        except OSError:
            pytest.skip("The file system refuses such names.")
    monkeypatch.undo()  # With all figures and the report.
    monkeypatch.chdir(place)
    monkeypatch.setitem(MODELS, "tiny", tiny_models.tiny)
    train(recipe(faces, epochs=1))
    run = RunFolder("runs/tiny")
    assert run.is_finished
    predictions = read_predictions(run.predictions)
    assert len([name for name in predictions.ids if "caf" in name]) == 6
    # The report shows the pictures that are misclassified.
    wrong = (predictions.probabilities.argmax(1) != predictions.targets).any()
    assert ("caf" in run.report.read_text(encoding="utf-8")) == wrong


def test_an_unreadable_test_picture_shows_before_the_training(faces, place):
    place.joinpath("faces", "test", "sad", "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="0.png"):
        train(recipe(faces))
    assert not RunFolder("runs/tiny").history.exists()


def test_duplicates_in_folders_are_found(faces, place, capsys):
    pictures = place / "faces"
    pictures.joinpath("test", "sad", "0.png").write_bytes(
        pictures.joinpath("train", "sad", "3.png").read_bytes()
    )
    metrics = train(recipe(faces, epochs=1))
    assert metrics["num_samples"] == 6
    assert metrics["without_duplicates"]["num_samples"] == 5
    assert "1 of 6 test pictures are in the training set too." in capsys.readouterr().out


def test_a_teacher_that_was_trained_on_the_test_pictures(faces, place):
    """Its folder is another one, and its split is official, too."""
    copy = place / "copy"
    plant(copy / "train", 3, seed=2)  # The pictures of faces/test.
    plant(copy / "val", 2, seed=8)
    plant(copy / "test", 3, seed=9)
    train(recipe(faces | {"path": str(copy)}, epochs=1), output_dir="teachers")
    student = recipe(faces, epochs=1).model_dump() | {"distill": {"teacher": "teachers/tiny"}}
    with pytest.raises(RecipeError, match="trained on 6 of this run's 6 test pictures. Name a"):
        train(Recipe.model_validate(student))
    # Another folder with other pictures is accepted.
    for part in ("train", "test"):
        for path in sorted((copy / part).glob("*/*.png")):
            path.unlink()
            path.parent.rmdir() if not any(path.parent.iterdir()) else None
    plant(copy / "train", 3, seed=10)
    plant(copy / "test", 3, seed=11)
    assert train(Recipe.model_validate(student))["num_samples"] == 6


# Interrupts and surroundings


def test_a_swallowed_interrupt_still_ends_the_training(monkeypatch):
    def swallow(self, epoch, logs=None):
        if epoch == 1:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                sys.stderr.write("Exception ignored")

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Record, "on_epoch_begin", swallow)
        train(recipe(epochs=3))
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(rows(RunFolder("runs/tiny"))) == 1
    assert train(recipe(epochs=3), resume=True)["num_samples"] == 14


def test_no_writable_temporary_folder(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(place / "nowhere")])
    with pytest.raises(RunError, match="Set the environment variable TMPDIR to a writable folder"):
        train(recipe())
    assert not (place / "runs").exists()


# Silence


def test_a_silent_training_prints_nothing(capsys):
    for resume in (False, True):
        train(recipe(verbose=0, epochs=1), resume=resume)
    captured = capsys.readouterr()
    assert captured.out == "" and "epoch" not in captured.err
