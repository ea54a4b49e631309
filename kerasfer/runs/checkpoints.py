"""Writes and loads checkpoints, each a file with the weights, the optimizer and the history.

A checkpoint is written atomically, and the two newest are kept, so at least one of them is complete
if the program is killed. Files that are newer than the checkpoint are written again with the same
content.
"""

import contextlib
import json
import os
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from keras import ops

from kerasfer.errors import RunError
from kerasfer.files import read_json, replace_file

KEPT = 2
# Errors that `zipfile` and NumPy raise for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
)


@dataclass(frozen=True)
class TrainingState:
    """The progress of a training.

    Args:
        monitor: The column of the history that selects the best epoch, `"val_accuracy"` or
            `"val_loss"`.
        history: A row, dict of floats, for each finished epoch.
    """

    monitor: str
    history: tuple = ()

    @property
    def epoch(self):
        """The number of finished epochs."""
        return len(self.history)

    @property
    def best_epoch(self):
        """The number of the best epoch, counted from 1, or None before the first."""
        if not self.history:
            return None
        choose = min if self.monitor.endswith("loss") else max
        return choose(self.history, key=lambda row: row[self.monitor])["epoch"]

    @property
    def seconds(self):
        """The duration of the finished epochs, in seconds."""
        return sum(row["seconds"] for row in self.history)

    def after(self, row):
        """Returns the state after one more epoch."""
        return TrainingState(self.monitor, (*self.history, row))


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Args:
        path: The file.
        history: The rows of the epochs before it.
        damaged: Paths of newer checkpoints that cannot be read.
    """

    path: Path
    history: tuple
    damaged: tuple = ()

    def restore(self, model, with_optimizer):
        """Sets a model, and optionally its built optimizer, to the values of the checkpoint.

        Raises:
            RunError: If the variables of the model or optimizer have other shapes.
        """
        with np.load(self.path) as values:
            _assign("model", model, values)
            if with_optimizer:
                _assign("optimizer", model.optimizer, values)


def checkpoint_path(run, epoch):
    """Returns the path of the checkpoint after an epoch, counted from 1."""
    return run.checkpoint / f"epoch_{epoch}.npz"


def save_checkpoint(run, history, model):
    """Writes a checkpoint of a model and its optimizer, and removes all but the newest two.

    Args:
        run: `kerasfer.runs.folder.RunFolder`, open.
        history: The rows of the finished epochs.
        model: The compiled `keras.Model`.
    """
    # The format is not Keras' HDF5, because h5py reports a full disk late or not at all.
    path = checkpoint_path(run, len(history))
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            history=np.array(json.dumps(list(history))),
            **_values("model", model),
            **_values("optimizer", model.optimizer),
        )
    newer_than_this = [other for other in run.checkpoints if _number(other) > len(history)]
    for old in [*newer_than_this, *_older(run, len(history))[KEPT - 1 :]]:
        old.unlink()


def load_checkpoint(run):
    """Finds the newest complete checkpoint of a run.

    Every byte is verified. A damaged checkpoint is skipped in favor of the older one.

    Args:
        run: `kerasfer.runs.folder.RunFolder`.

    Returns:
        A `Checkpoint`, or None if no epoch was finished.

    Raises:
        RunError: If there are checkpoints and all of them are damaged.
    """
    damaged = []
    for path in run.checkpoints:
        try:
            return replace(read_checkpoint(path), damaged=tuple(damaged))
        except (*_DAMAGE, RunError):
            damaged.append(path)
    if damaged:
        raise RunError(
            f"The run cannot be resumed, since {' and '.join(map(str, damaged))} "
            f"{'is' if len(damaged) == 1 else 'are'} damaged. Remove {run.path} to train from the "
            "beginning."
        )
    return None


def read_checkpoint(path):
    """Reads one checkpoint, of which every byte is verified.

    Args:
        path: A file that `save_checkpoint` wrote.

    Raises:
        RunError, OSError or another error of `zipfile` or NumPy: If it is damaged.
    """
    return Checkpoint(path, _read_history(path))


def finish(run):
    """Marks a run as finished, in one step, and keeps only its last checkpoint.

    For a finished run it completes an earlier call that was interrupted.
    """
    removed = run.path / ".partial.checkpoint"
    if removed.is_symlink():
        removed.unlink()
    _keep_last(run, removed)
    if run.checkpoint.exists():
        for old in run.checkpoints[1:]:
            old.unlink()
        os.replace(run.checkpoint, removed)
        _keep_last(run, removed)


def _keep_last(run, removed):
    for last in removed.glob("epoch_*.npz"):  # There is at most one.
        with contextlib.suppress(
            FileNotFoundError
        ):  # Another process may complete it at the same time.
            os.replace(last, run.last_epoch)
    shutil.rmtree(removed, ignore_errors=True)


def reopen(run):
    """Returns a finished run to the state before `finish`, so that it can be trained further.

    Raises:
        RunError: If the run has no checkpoint of its last epoch, or it is damaged.
    """
    if not run.last_epoch.exists():
        raise RunError(
            f"{run.path} cannot be trained further, since it has no {run.last_epoch.name}: it was "
            "removed, or the run was finished by an earlier version. Start a new run from its "
            f"weights with --set model.weights={run.path} and --set name=…."
        )
    try:
        epochs = len(_read_history(run.last_epoch))
    except _DAMAGE as error:
        raise RunError(f"{run.last_epoch} is damaged, so the run cannot be trained further.") from (
            error
        )
    os.replace(run.last_epoch, checkpoint_path(run, epochs))


def _number(path):
    return int(path.stem.removeprefix("epoch_"))


def _older(run, epoch):
    return [path for path in run.checkpoints if _number(path) < epoch]


def _read_history(path):
    """Verifies a checkpoint and returns its history."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile(path)
    with np.load(path) as values:
        if "history" in values:
            return tuple(json.loads(str(values["history"])))
    # Earlier versions wrote the history of the newest checkpoint into a file next to it.
    state = read_json(path.with_name("state.json"))
    if state["epoch"] != _number(path):
        raise KeyError(path)
    return tuple(state["history"])


def _values(owner, layer_or_optimizer):
    """Names the values of all variables, which the same recipe creates in the same order."""
    values = map(ops.convert_to_numpy, layer_or_optimizer.variables)
    return {f"{owner}_{number}": value for number, value in enumerate(values)}


def _assign(owner, layer_or_optimizer, values):
    variables = layer_or_optimizer.variables
    found = [values[name] for name in values.files if name.startswith(f"{owner}_")]
    if [value.shape for value in found] != [tuple(variable.shape) for variable in variables]:
        raise RunError(
            f"The checkpoint's {owner} has {len(found)} variables, which do not have the shapes of "
            f"the {len(variables)} that are trained now. It was written by another version: finish "
            "the run with that version, or remove its folder to train from the beginning."
        )
    for variable, value in zip(variables, found, strict=True):
        variable.assign(value)
