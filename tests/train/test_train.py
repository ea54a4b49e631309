import csv
import errno
import json
import os

import keras
import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner
from PIL import Image

from kerasfer.cli import main
from kerasfer.errors import RunError
from kerasfer.models import MODELS
from kerasfer.recipe import load_recipe
from kerasfer.train import train

RECIPE = """
data: {name: synthetic, num_samples: 70, image_size: 16, batch_size: 16}
model: {name: tiny}
optimizer: {name: gc_adam, learning_rate: 0.01}
train: {epochs: 2, tensorboard: false}
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Works in an empty folder with tiny.yaml and models that train in no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    tmp_path.joinpath("tiny.yaml").write_text(RECIPE)
    for name in ("tiny", "tiny_spd"):
        monkeypatch.setitem(MODELS, name, getattr(tiny_models, name))
    return tmp_path


def call(*arguments):
    """Runs `kerasfer`; a bug's traceback reaches the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(*settings, resume=False):
    options = [part for setting in settings for part in ("--set", setting)]
    return call("train", "tiny.yaml", *options, *(["--resume"] if resume else []))


def refused(result, code=1):
    """Returns the one line that a refused command ends with."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# A run


def test_a_run(place):
    result = run("train.tensorboard=true")
    assert result.exit_code == 0, result.output
    folder = place / "runs" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion_matrix.png",
        "curves.png",
        "environment.json",
        "heat_maps.png",
        "history.csv",
        "last_epoch.npz",
        "logs",
        "metrics.json",
        "model.keras",
        "predictions.csv",
        "recipe.yaml",
        "report.html",
    ]
    first, *lines = result.stdout.splitlines()
    assert first == "Loading Keras and synthetic"
    assert lines[0].startswith("tiny: tiny, ")
    assert "49 / 7 / 14 pictures of synthetic (train / validation / test)" in lines[0]
    assert lines[1].startswith("epoch 1/2  loss ") and lines[1].endswith(" s left")
    assert lines[2].startswith("epoch 2/2  loss ")
    assert lines[3].startswith("Evaluated 14 test pictures in ")
    assert lines[4].startswith("accuracy      ")
    assert lines[-1] == f"report        {os.path.join('runs', 'tiny', 'report.html')}"
    metrics = read(folder / "metrics.json")
    assert (metrics["dataset"], metrics["split"]) == ("synthetic", "test")
    assert len((folder / "predictions.csv").read_text().splitlines()) == 15
    facts = read(folder / "environment.json")
    assert facts["backend"] == keras.backend.backend() and facts["seconds"] > 0
    assert [path.name.split(".")[0] for path in (folder / "logs").iterdir()] == ["events"]


def test_different_runs_are_distinguished(place, plain):
    assert run().exit_code == 0
    model = (place / "runs/tiny/model.keras").read_bytes()
    assert "already holds a finished run" in refused(run())
    assert "already holds a finished run" in refused(run("train.epochs=3"))
    assert "The values of train.epochs differ." in refused(run("train.epochs=1", resume=True))
    assert "The values of train.seed differ." in refused(run("train.seed=3", resume=True))
    result = run("data.workers=1", "description=mine", resume=True)
    assert result.exit_code == 0 and "is finished already." in result.stdout
    assert (place / "runs/tiny/model.keras").read_bytes() == model


def test_resume_without_a_checkpoint_begins(place, plain):
    result = run("train.epochs=1", "train.verbose=0", resume=True)
    assert result.exit_code == 0
    assert (place / "runs/tiny/metrics.json").exists()


def test_a_folder_of_something_else(place):
    notes = place / "runs" / "tiny" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    assert "exists and is not a run folder" in refused(run())
    assert "exists and is not a run folder" in refused(run(resume=True))
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]


def test_the_output_folder_is_a_file(place):
    place.joinpath("runs").write_text("mine")
    assert "Cannot create the folder" in refused(run())


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_emulated_half_precision_is_reported(plain, monkeypatch, precision):
    monkeypatch.setattr("kerasfer.train.announcing.emulates_half_precision", lambda: True)
    result = run(f"train.precision={precision}", "train.epochs=1")
    told = "This CPU only emulates mixed_bfloat16. With --set train.precision=float32 "
    assert (told in result.stdout) == (precision != "float32")


def test_precision_is_put_back(plain):
    before = keras.config.dtype_policy().name
    assert run("train.precision=mixed_bfloat16", "train.epochs=1").exit_code == 0
    assert keras.config.dtype_policy().name == before


def test_everything_at_once(place, plain):
    """Weights, smoothing, mixup, clipping, averages, schedules and float16 train together."""
    result = run(
        *("data.class_weights=balanced", "data.augment.mixup=0.2", "train.label_smoothing=0.1"),
        *("optimizer.clip_norm=1.0", "optimizer.ema=0.9", "optimizer.schedule.name=cosine"),
        *("train.precision=mixed_float16", "model.name=tiny_spd", "model.dropout=0.2"),
        *("data.augment.flip=true", "evaluate.tta=ten_crop", "train.monitor=val_loss"),
    )
    assert result.exit_code == 0, result.output


# Folds

FOLDS = ("data.protocol=subjects", "data.num_folds=3", "train.epochs=1")


def test_folds_together(place):
    result = run(*FOLDS)
    assert result.exit_code == 0, result.output
    folder = place / "runs" / "tiny"
    summary = read(folder / "metrics.json")
    assert summary["num_folds"] == 3 and summary["num_samples"] == 70
    assert {"fold_0", "fold_1", "fold_2", "report.html"} <= {p.name for p in folder.iterdir()}
    assert "; 3 folds: " in result.stdout
    assert "holds finished folds (fold_0, fold_1, fold_2). Add --resume" in refused(run(*FOLDS))
    # Another protocol in the same place would mix two experiments.
    assert "holds the folds of another run" in refused(run())
    assert "The values of data.num_folds differ" in refused(run(*FOLDS, "data.num_folds=4"))
    # A fold that was lost is made good, the others are not repeated.
    (folder / "fold_1" / "metrics.json").unlink()
    result = run(*FOLDS, resume=True)
    assert result.exit_code == 0
    assert result.stdout.count("is finished already.") == 2
    assert read(folder / "metrics.json") == summary
    # The fold to evaluate must be named.
    message = refused(call("evaluate", folder))
    assert "in each of its folds (fold_0, fold_1, fold_2). Name one of them" in message
    assert call("evaluate", folder / "fold_2").exit_code == 0


def test_folds_one_by_one(place, plain):
    folder = place / "runs" / "tiny"
    for number in (1, 2):
        result = run(*FOLDS, f"data.fold={number}")
        assert result.exit_code == 0, result.output
        assert not (folder / "metrics.json").exists()
        assert read(folder / f"fold_{number}/metrics.json")["num_samples"] < 30
    result = run(*FOLDS, "data.fold=0")
    assert "All 3 folds are finished" in result.stdout
    assert read(folder / "metrics.json")["num_folds"] == 3
    assert result.stdout.splitlines()[-1].endswith(os.path.join("fold_0", "report.html"))


def test_a_run_is_not_made_a_folder_of_folds(place, plain):
    assert run("train.epochs=1").exit_code == 0
    message = refused(run(*FOLDS))
    assert "started with another recipe. The values of data.protocol, data.num_folds" in message


def test_a_fold_of_a_protocol_without_folds():
    assert "data.fold requires data.protocol=subjects" in refused(run("data.fold=1"), code=2)
    assert "must be below" in refused(run(*FOLDS, "data.fold=3"), code=2)


# Bad input


def test_missing_data(place):
    message = refused(run("data.name=fer2013", "data.num_samples=null"))
    assert "fer2013" in message
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    "setting, message",
    [
        ("model.name=tinny", "Did you mean tiny"),
        ("model.crops=2", "the model tiny does not take model.crops"),
    ],
)
def test_a_slip_in_the_model_shows_before_the_data_is_read(setting, message, place):
    # The dataset is missing too, which is found later.
    result = run("data.name=fer2013", "data.num_samples=null", setting)
    assert message in refused(result, code=2)
    assert not (place / "runs").exists()


def test_a_value_that_no_network_can_have(place):
    message = refused(run("model.name=tiny_spd", "model.bimap_units=999"), code=2)
    assert "`units` must not exceed the input size" in message
    assert not (place / "runs").exists()


def test_warming_up_a_model_that_has_no_extractor(place):
    message = refused(run("model.name=covpool", "train.warmup_epochs=1"), code=2)
    assert "covpool has no separate feature extractor" in message
    assert not (place / "runs").exists()


@pytest.mark.parametrize("model", ["tiny", "tiny_spd"])
def test_diverging(model):
    settings = ["optimizer.name=sgd", "optimizer.momentum=0.9", "train.epochs=8"]
    recipe = load_recipe("tiny.yaml", [*settings, f"model.name={model}"])
    # A recipe does not accept such a rate. It makes the training diverge.
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(RunError, match="The training diverged: .*Lower optimizer.learning_rate"):
        train(recipe.model_copy(update={"optimizer": optimizer}))


@pytest.fixture
def pictures(place):
    """A folder with six faces a class, one of which is cut off in the middle."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        for name in ("happy", "sad"):
            folder = place / "faces" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / f"{number}.jpg")
    broken = place / "faces" / "train" / "sad" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    return ("data.name=folder", f"data.path={place / 'faces'}", "data.num_samples=null")


def test_a_broken_picture(pictures):
    message = refused(run(*pictures))
    assert os.path.join("train", "sad", "3.jpg") in message


def test_a_broken_picture_is_left_out(pictures, plain):
    result = run(*pictures, "data.on_bad_image=skip", "train.epochs=1")
    assert result.exit_code == 0, result.output
    assert "on 11 / 4 / 4 pictures" in result.stdout
    assert "Skipped 1 unreadable pictures: " in result.stdout
    assert "3.jpg" in result.stdout


def test_a_full_disk_keeps_the_last_good_epoch(place, monkeypatch, plain):
    """The third checkpoint does not fit. The run continues when there is space again."""
    saved = []
    savez = np.savez

    def full(file, **values):
        saved.append(file.name)
        if len(saved) == 3:
            file.write(b"as much as fits")
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(file, **values)

    monkeypatch.setattr(np, "savez", full)
    message = refused(run("train.epochs=3"))
    assert "No space left on device" in message and "epoch_3.npz" in message
    checkpoint = place / "runs/tiny/checkpoint"
    assert sorted(p.name for p in checkpoint.glob("*.*")) == ["epoch_1.npz", "epoch_2.npz"]
    assert "holds an interrupted run. Add --resume" in refused(run("train.epochs=3"))
    result = run("train.epochs=3", resume=True)
    assert result.exit_code == 0 and "Resuming after epoch 2." in result.stdout
    with open(place / "runs/tiny/history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_an_interrupt_is_one_line(plain, monkeypatch):
    def interrupt(self, batch, logs=None):
        if self.state.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kerasfer.train.callbacks.Record.on_train_batch_end", interrupt)
        result = run()
    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted: run the same command with --resume")
    assert run(resume=True).exit_code == 0


def test_from_python(place, plain):
    metrics = train(load_recipe("tiny.yaml", ["train.epochs=1"]), output_dir=place / "out")
    assert metrics["run"] == str(place / "out" / "tiny")
    assert 0 <= metrics["accuracy"] <= 1
