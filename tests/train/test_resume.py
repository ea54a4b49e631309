"""A run that was killed and resumed ends as one that never was: the same numbers, exactly."""

import copy
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="the promise of equal numbers is TensorFlow's on a CPU",
    ),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forks"),
]

SCRIPT = Path(__file__).parents[1] / "interrupted_training.py"
DATA = {
    "name": "synthetic",
    "num_samples": 70,
    "image_size": 16,
    "batch_size": 16,  # three steps an epoch
    "augment": {"flip": True, "shift": 0.1, "mixup": 0.2},
    "class_weights": "balanced",
}
RUNS = {
    # Random crops, dropout, a kernel on a manifold, averages, momentum.
    "spd": {
        "model": {"name": "tiny_spd", "dropout": 0.2},
        "optimizer": {
            "name": "gc_sgd",
            "momentum": 0.9,
            "learning_rate": 0.05,
            "ema": 0.9,
            "weight_decay": 1e-3,
            "clip_norm": 1.0,
            "schedule": {"name": "cosine", "warmup_epochs": 1},
        },
        "train": {"epochs": 3, "monitor": "val_loss"},
    },
    "plain": {
        "model": {"name": "tiny", "dropout": 0.2},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "train": {"epochs": 2},
    },
    "stages": {
        "model": {"name": "tiny", "dropout": 0.2},
        "optimizer": {"name": "gc_adam", "learning_rate": 0.01, "ema": 0.9, "location": "update"},
        "train": {"epochs": 4, "warmup_epochs": 2, "monitor": "val_loss"},
    },
    "float16": {
        "model": {"name": "tiny", "dropout": 0.2},
        "optimizer": {"name": "gc_adamw", "learning_rate": 0.01, "ema": 0.9},
        "train": {"epochs": 2, "precision": "mixed_float16"},
    },
    "early": {
        "model": {"name": "tiny"},
        "optimizer": {
            "name": "rmsprop",
            "learning_rate": 1e-12,
            "schedule": {"name": "step", "every_epochs": 1},
        },
        "train": {"epochs": 9, "early_stopping": 2},
    },
}
MOMENTS = {
    "in an epoch": ("spd", ["step", 5]),
    "between two epochs": ("spd", ["after", "epoch_2.npz", 1]),
    "between epoch and checkpoint": ("plain", ["after", "history.csv", 2]),
    "between best model and history": ("plain", ["after", "model.keras", 1]),
    "before the last checkpoint": ("plain", ["before", "epoch_2.npz", 1]),
    "during the evaluation": ("plain", ["after", "predictions.csv", 1]),
    "before the end": ("plain", ["before", ".partial.checkpoint", 1]),
    "before the last checkpoint is kept": ("plain", ["before", "last_epoch.npz", 1]),
    "after the last checkpoint is kept": ("plain", ["after", "last_epoch.npz", 1]),
    "in the warm-up": ("stages", ["step", 4]),
    "between the stages": ("stages", ["after", "epoch_2.npz", 1]),
    "in the second stage": ("stages", ["step", 10]),
    "with a loss scale": ("float16", ["step", 4]),
    "before it stops early": ("early", ["after", "epoch_2.npz", 1]),
    "after it stopped early": ("early", ["after", "epoch_3.npz", 1]),
}


def recipe(name):
    recipe = {"name": name, "data": DATA, **copy.deepcopy(RUNS[name])}
    recipe["train"] |= {"tensorboard": False}
    return recipe


def job(recipe, output_dir, resume=False, die=None):
    return {"recipe": recipe, "output_dir": str(output_dir), "resume": resume, "die": die}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Runs all of it; returns where, how each job ended, and what was printed."""
    place = tmp_path_factory.mktemp("resume")
    jobs = {name: [job(recipe(name), place / name)] for name in RUNS}
    for moment, (name, die) in MOMENTS.items():
        killed = job(recipe(name), place / moment, die=die)
        jobs[moment] = [killed, job(recipe(name), place / moment, resume=True)]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **os.environ}
    environment |= {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps(list(jobs.values())),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return place, dict(zip(jobs, json.loads(done.stdout), strict=True)), done.stderr


def result(folder):
    with open(folder / "history.csv") as file:
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    return metrics, history, (folder / "predictions.csv").read_text()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed(ended, moment):
    place, codes, errors = ended
    name, _ = MOMENTS[moment]
    assert codes[name] == [0], errors
    assert codes[moment] == [-signal.SIGKILL, 0], errors
    folder = place / moment / name
    assert result(folder) == result(place / name / name)
    names = {path.name for path in folder.iterdir()}
    assert not {name for name in names if name.startswith(".") or name == "checkpoint"}
    assert "last_epoch.npz" in names


def test_the_runs_ended_as_intended(ended):
    place, _, _ = ended
    epochs = {name: len(result(place / name / name)[1]) for name in RUNS}
    assert epochs == {"spd": 3, "plain": 2, "stages": 4, "float16": 2, "early": 3}
