"""A run's folder: what it holds, how far it came, and who may write to it."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasfer.errors import RunError
from kerasfer.files import only_writer, replace_file, write_json, write_text
from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.differences import differences


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
        self.state = self.checkpoint / "state.json"
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.history = self.path / "history.csv"
        self.logs = self.path / "logs"
        self.model = self.path / "model.keras"
        self.metrics = self.path / "metrics.json"

    @property
    def is_finished(self):
        return self.metrics.exists() and not self.checkpoint.exists()

    def check(self, recipe, resume):
        """Raises a RunError where training `recipe` here would overwrite work or mix two runs."""
        if _is_fresh(self.path):
            return
        if next(self.path.glob("fold_*/recipe.yaml"), None):
            raise RunError(
                f"{self.path} holds the folds of another run. Choose another --output-dir, or "
                "another name with --set name=…."
            )
        if self.is_finished and not resume:
            raise RunError(
                f"{self.path} already holds a finished run. Choose another --output-dir or another "
                "name with --set name=…, or remove the folder to train again."
            )
        if self.state.exists() and not resume:
            raise RunError(
                f"{self.path} holds an interrupted run: add --resume to go on with it, or remove "
                "the folder to begin again."
            )
        if resume:
            _check_same(self.path, recipe)

    @contextlib.contextmanager
    def open(self, recipe, resume):
        """Holds the folder for this program; yields the state to go on from, or None.

        Raises:
            RunError: As `check`; or where another program trains here, or the state is damaged.
        """
        self.check(recipe, resume)
        _make_folder(self.checkpoint)
        with only_writer(self.checkpoint):
            state = self._read_state() if resume else None
            write_text(self.recipe, dump(recipe))
            yield state

    def _read_state(self):
        if not self.state.exists():
            return None
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            weights = self._weights(state)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.state} is damaged, so the run cannot go on. Remove {self.path} to begin "
                "again."
            ) from error
        if not weights.exists():
            raise RunError(
                f"{weights} is missing, so the run cannot go on. Remove {self.path} to begin again."
            )
        return state

    def _weights(self, state):
        return self.checkpoint / f"epoch_{state['epoch']}.npz"

    def save_state(self, state, model):
        """Keeps the training's state and the model with its optimizer, to go on from here."""
        weights = self._weights(state)
        # Not Keras' HDF5 files: h5py reports a full disk late, or not at all.
        with replace_file(weights) as temporary, temporary.open("wb") as file:
            np.savez(file, **_values("model", model), **_values("optimizer", model.optimizer))
        write_json(self.state, state)
        for old in self.checkpoint.glob("epoch_*.npz"):
            if old != weights:
                old.unlink()

    def load_weights(self, model, state, with_optimizer):
        """Takes a model back to a state; its built optimizer too, where it is the same one."""
        with np.load(self._weights(state)) as values:
            _assign("model", model, values)
            if with_optimizer:
                _assign("optimizer", model.optimizer, values)

    def save_model(self, model):
        """Keeps the model as the run's result, without what only training needs."""
        with replace_file(self.model) as temporary:
            # The first output is the model's; others are there to be trained on.
            keras.Model(model.input, model.outputs[0], name=model.name).save(temporary)

    def close(self):
        """Marks the run as finished, in one step, and removes what only resuming needs."""
        removed = self.path / ".partial.checkpoint"
        shutil.rmtree(removed, ignore_errors=True)
        if self.checkpoint.exists():
            os.replace(self.checkpoint, removed)
            shutil.rmtree(removed, ignore_errors=True)


def open_folds(path, recipe, resume):
    """Prepares the folder above the runs `fold_0`, `fold_1`, … of one recipe.

    It holds the recipe that all of them share, so that they may be trained together or one by one.

    Args:
        path: The folder.
        recipe: `kerasfer.recipe.Recipe`.
        resume: Whether finished and interrupted folds are gone on with.

    Returns:
        The folds' `RunFolder`s by number, of those that the recipe names, all of which may be
        trained: a refusal comes before the first hour, not after it.

    Raises:
        RunError: Where going on would overwrite work or mix two runs.
    """
    path = Path(path)
    whole = recipe_of_fold(recipe, None)
    if not _is_fresh(path):
        _check_same(path, whole)
    numbers = range(recipe.data.num_folds) if recipe.data.fold is None else [recipe.data.fold]
    runs = {number: RunFolder(path / f"fold_{number}") for number in numbers}
    finished = [run.path.name for run in runs.values() if run.is_finished]
    if len(runs) > 1 and finished and not resume:
        raise RunError(
            f"{path} already holds finished folds ({', '.join(finished)}): add --resume to keep "
            "them and train the others, or choose another --output-dir."
        )
    for number, run in runs.items():
        run.check(recipe_of_fold(recipe, number), resume)
    _make_folder(path)
    write_text(path / "recipe.yaml", dump(whole))
    return runs


def recipe_of_fold(recipe, number):
    """Returns a recipe that names one fold, or with `None` all of them."""
    data = recipe.data.model_copy(update={"fold": number})
    return recipe.model_copy(update={"data": data})


def _is_fresh(path):
    """Whether nothing is in a folder yet; refuses one with something else than a run."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, and the run needs a folder of that name. Move it away.")
    if not path.exists() or not any(map(_is_content, path.iterdir())):
        return True
    if not (path / "recipe.yaml").exists():
        raise RunError(
            f"{path} exists and is no run's folder. Choose another --output-dir, or another name "
            "with --set name=…."
        )
    return False


def _is_content(path):
    # What a run leaves that was killed at its very beginning is nothing to keep.
    if path.name == "checkpoint" and path.is_dir():
        return any(entry.name != "lock" for entry in path.iterdir())
    return path.name != ".partial.recipe.yaml"


def _check_same(path, recipe):
    changed = sorted(differences(load_recipe(path / "recipe.yaml"), recipe))
    if changed:
        raise RunError(
            f"{path} was begun with another recipe; what differs: {', '.join(changed)}. Go on with "
            "the same recipe and --set, or choose another --output-dir, or another name with "
            "--set name=…."
        )


def _make_folder(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot make the folder {path}: {error.strerror}. Choose another --output-dir."
        ) from error


def _values(owner, layer_or_optimizer):
    """Names the values of all variables, which the same recipe makes in the same order."""
    values = map(ops.convert_to_numpy, layer_or_optimizer.variables)
    return {f"{owner}_{number}": value for number, value in enumerate(values)}


def _assign(owner, layer_or_optimizer, values):
    variables = layer_or_optimizer.variables
    found = [values[name] for name in values.files if name.startswith(f"{owner}_")]
    if [value.shape for value in found] != [tuple(variable.shape) for variable in variables]:
        raise RunError(
            f"The checkpoint's {owner} has {len(found)} variables, and not the shapes of the "
            f"{len(variables)} that are trained now: it was written by another version. Finish "
            "the run with that one, or remove its folder to begin again."
        )
    for variable, value in zip(variables, found, strict=True):
        variable.assign(value)
