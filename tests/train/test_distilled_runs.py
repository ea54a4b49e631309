"""Runs that learn from a teacher: what they leave, how they resume, what they refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tiny_models
from test_resume import result

from kerasfer.data import load_dataset
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate import evaluate
from kerasfer.models import MODELS
from kerasfer.models.loading import load_model
from kerasfer.recipe import load_recipe
from kerasfer.recipe.schema import Recipe
from kerasfer.text import percent
from kerasfer.train import train
from kerasfer.train.callbacks import Record

SCRIPT = Path(__file__).parents[1] / "interrupted_training.py"
DATA = {"name": "synthetic", "num_samples": 70, "image_size": 16, "batch_size": 16}
TRAIN = {"tensorboard": False, "verbose": 2}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Works in an empty folder, with models that train in no time."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "tiny_spd"):
        monkeypatch.setitem(MODELS, name, getattr(tiny_models, name))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a teacher of another kind and size."""
    recipe = {
        "name": "teacher",
        "data": DATA | {"image_size": 24},
        "model": {"name": "tiny_spd"},
        "train": TRAIN | {"epochs": 1},
    }
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(MODELS, "tiny_spd", tiny_models.tiny_spd)
        train(Recipe.model_validate(recipe), output_dir=place)
    return place / "teacher"


@pytest.fixture
def teacher(finished, place):
    """The folder of that run, to be used up."""
    shutil.copytree(finished, place / "runs" / "teacher")
    return place / "runs" / "teacher"


def student(distill=None, train=None, **sections):
    # The augmentation, the averages and the weights of classes are all to come through.
    return {
        "name": "student",
        "data": DATA | {"augment": {"flip": True, "mixup": 0.2}, "class_weights": "balanced"},
        "model": {"name": "tiny", "dropout": 0.2},
        "optimizer": {"name": "gc_sgd", "learning_rate": 0.05, "momentum": 0.9, "ema": 0.9},
        "train": TRAIN | {"epochs": 2, "monitor": "val_loss"} | (train or {}),
        "distill": {"teacher": "runs/teacher", "feature_weight": 0.5} | (distill or {}),
        **sections,
    }


def trained(*arguments, resume=False, **sections):
    return train(Recipe.model_validate(student(*arguments, **sections)), resume=resume)


def test_a_run_is_the_students_alone(teacher, place, capsys):
    seen = []

    def look(self, batch, logs=None):
        seen.append({variable.path for variable in self.model.variables})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Record, "on_train_batch_end", look, raising=False)
        metrics = trained()
    accuracy = json.loads((teacher / "metrics.json").read_text())["accuracy"]
    kept = f"the student keeps {percent(metrics['accuracy'] / accuracy, 1)} of it."
    assert kept in capsys.readouterr().out

    folder = place / "runs" / "student"
    environment = json.loads((folder / "environment.json").read_text())
    plain = tiny_models.tiny(("a",) * 7, 16)
    assert environment["num_parameters"] == plain.count_params()
    assert environment["teacher"]["path"] == "runs/teacher"
    assert environment["teacher"]["accuracy"] == accuracy
    assert "runs/teacher, " in (folder / "report.html").read_text()
    assert "of which the student keeps" in (folder / "report.html").read_text()
    assert load_recipe(folder / "recipe.yaml").distill.feature_weight == 0.5

    # Neither the checkpoints nor the model know the teacher.
    ours = {path for path in seen[0] if "seed_generator" not in path}
    assert ours == {variable.path for variable in plain.variables}
    shutil.rmtree(teacher)
    model = load_model(folder / "model.keras")
    assert len(model.outputs) == 1
    assert {v.path for v in model.variables if "seed_generator" not in v.path} == ours
    assert evaluate("runs/student")["accuracy"] == metrics["accuracy"]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow" or not hasattr(os, "fork"),
    reason="the promise of equal numbers is TensorFlow's on a CPU, and the killed runs are forks",
)
def test_killed_and_resumed(teacher, place):
    recipe = student({"teacher": str(teacher)})
    whole, begun, resumed = (
        {"recipe": recipe, "output_dir": str(place / folder), "resume": resume, "die": die}
        for folder, resume, die in (
            ("whole", False, None),
            ("parts", False, ["step", 5]),  # in the second epoch
            ("parts", True, None),
        )
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **os.environ}
    done = subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps([[whole], [begun, resumed]]),
        capture_output=True,
        text=True,
        env=environment | {"KERAS_BACKEND": "tensorflow"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0], [-signal.SIGKILL, 0]], done.stderr
    expected = result(place / "whole" / "student")
    assert len(expected[1]) == 2
    assert result(place / "parts" / "student") == expected


def test_a_resumed_run_keeps_its_teacher(teacher):
    def interrupt(self, batch, logs=None):
        if self.state.epoch == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Record, "on_train_batch_end", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            trained()
    model = load_model(teacher / "model.keras")
    model.save(teacher / "other.keras")
    (teacher / "other.keras").replace(teacher / "model.keras")
    with pytest.raises(RunError, match="The teacher runs/teacher is not the one that this run beg"):
        trained(resume=True)


def test_the_classifier_may_be_warmed_up(teacher, plain):
    assert 0 <= trained(train={"warmup_epochs": 1})["accuracy"] <= 1
    with pytest.raises(RecipeError, match="slim_spd has no separate feature extractor. Set"):
        trained(train={"warmup_epochs": 1}, name="slim", model={"name": "slim_spd", "width": 9})


# Refusals


def test_no_teacher(place):
    with pytest.raises(RunError, match="distill.teacher must be .* runs/teacher, which does not"):
        trained()
    (place / "runs" / "teacher").mkdir(parents=True)
    with pytest.raises(RunError, match=r"distill.teacher: Expected a run folder with recipe.yaml"):
        trained()
    assert not (place / "runs" / "student").exists()
    place.joinpath("runs", "teacher", "text.keras").write_text("nothing")
    with pytest.raises(RunError, match="distill.teacher: .*text.keras cannot be loaded as a Keras"):
        trained({"teacher": "runs/teacher/text.keras"})


def test_a_teacher_of_other_classes(place):
    tiny_models.tiny(("happy", "sad"), 16).save("pair.keras")
    with pytest.raises(DataError, match="The student has .*; pair.keras has happy, sad. Choose"):
        trained({"teacher": "pair.keras"})


def test_a_teacher_of_another_draw(teacher):
    """Drawn at random, its training pictures may be this run's test pictures."""
    assert load_dataset("synthetic", num_samples=70).protocol == "official"
    recipe = json.loads(json.dumps(student(name="framed")))
    recipe["data"]["protocol"] = "frames"
    with pytest.raises(RecipeError, match="was trained on 10 of this run's 12 test pict"):
        train(Recipe.model_validate(recipe))


def test_a_model_file_has_no_known_accuracy(teacher, place):
    shutil.copy(teacher / "model.keras", place / "alone.keras")
    trained({"teacher": "alone.keras"}, {"epochs": 1})
    environment = json.loads((place / "runs/student/environment.json").read_text())
    assert environment["teacher"]["accuracy"] is None
    report = (place / "runs/student/report.html").read_text()
    assert "alone.keras" in report and "the student keeps" not in report
