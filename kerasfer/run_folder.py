"""A run's folder: what it holds, how far it came, and who may write to it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras
import yaml

from kerasfer import __version__
from kerasfer.errors import RunError
from kerasfer.files import replace_file, write_json, write_text
from kerasfer.recipe import dump

# A changed number of threads or bars changes no result; anything else makes another run.
_FREE_KEYS = ("train.verbose", "train.tensorboard", "data.workers")


class RunFolder:
    """The files of one training, and its state between two starts of the program.

    The state file is written last, in one step: whenever the program dies, it names a checkpoint
    that is complete, and what was written after it is written again, with the same content.

    Args:
        path: The folder; made by `open`.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint"
        self.model = self.path / "model.keras"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.history = self.path / "history.csv"
        self.logs = self.path / "logs"

    @property
    def is_finished(self):
        return self.metrics.exists() and not self.checkpoint.exists()

    def open(self, recipe, resume):
        """Prepares the folder for `recipe`; returns the state to go on from, or None.

        Raises:
            RunError: Where going on would overwrite work, or continue another recipe.
        """
        text = dump(recipe)
        recipe_path = self.path / "recipe.yaml"
        if recipe_path.exists():
            self._check_ours(recipe_path.read_text(encoding="utf-8"), text, resume)
        elif self.path.exists() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path} exists and is no run's folder. Choose another --output-dir, or "
                "another name with --set name=…."
            )
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        write_text(recipe_path, text)
        return self._read_state() if resume else None

    def _check_ours(self, before, now, resume):
        if self.is_finished and not resume:
            raise RunError(
                f"{self.path} already holds a finished run. Choose another --output-dir or another "
                "name with --set name=…, or remove the folder to train again."
            )
        if not resume and (self.checkpoint / "state.json").exists():
            raise RunError(
                f"{self.path} holds an interrupted run: add --resume to go on with it, or remove "
                "the folder to begin again."
            )
        changed = _changed_keys(before, now)
        if resume and changed:
            raise RunError(
                f"{self.path} was begun with another recipe; what differs: {', '.join(changed)}. "
                "Resume with the same recipe and --set, or choose another --output-dir."
            )

    def _read_state(self):
        path = self.checkpoint / "state.json"
        if not path.exists():
            return None
        state = json.loads(path.read_text(encoding="utf-8"))
        if not (self.checkpoint / state["weights"]).exists():
            raise RunError(
                f"{self.checkpoint / state['weights']} is missing, so the run cannot go on. Remove "
                f"{self.path} to begin again."
            )
        return state

    def save_state(self, state, model):
        """Keeps the training's state and the model with its optimizer, to go on from here."""
        state = {**state, "weights": f"epoch_{state['epoch']}.weights.h5"}
        with replace_file(self.checkpoint / state["weights"]) as temporary:
            model.save_weights(temporary)
        write_json(self.checkpoint / "state.json", state)
        for old in self.checkpoint.glob("*.weights.h5"):
            if old.name != state["weights"]:
                old.unlink()

    def load_weights(self, model, state, with_optimizer):
        """Takes a compiled model back to a state; its optimizer too, where it is the same one."""
        optimizer = model.optimizer
        if with_optimizer:
            optimizer.build(model.trainable_variables)
        else:
            model.optimizer = None
        model.load_weights(self.checkpoint / state["weights"], skip_mismatch=False)
        model.optimizer = optimizer

    def save_model(self, model):
        """Keeps the model as the run's result, without what only training needs."""
        with replace_file(self.model) as temporary:
            keras.Model(model.inputs, model.outputs, name=model.name).save(temporary)

    def close(self):
        """Marks the run as finished."""
        shutil.rmtree(self.checkpoint)


def environment(seed):
    """Describes where a run takes place: versions, backend, device, revision, time."""
    return {
        "kerasfer": __version__,
        "python": platform.python_version(),
        "keras": keras.version(),
        "backend": keras.backend.backend(),
        "backend_version": sys.modules[keras.backend.backend()].__version__,
        "device": _device(),
        "platform": platform.platform(),
        "seed": seed,
        "git_revision": _git_revision(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _device():
    accelerators = keras.distribution.list_devices()
    kinds = sorted({device.split(":")[0] for device in accelerators if "cpu" not in device.lower()})
    count = len([device for device in accelerators if "cpu" not in device.lower()])
    return f"{count} × {', '.join(kinds)}" if kinds else f"CPU, {os.cpu_count()} cores"


def _git_revision():
    """The revision of the working folder's repository, with a + where files are changed."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() or None


def _changed_keys(before, now):
    def flatten(section, prefix=""):
        for key, value in section.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            elif prefix + key not in _FREE_KEYS:
                yield prefix + key, value

    a, b = (dict(flatten(yaml.safe_load(text))) for text in (before, now))
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
