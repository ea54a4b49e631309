"""Trains in another process than the first one, which writes the run folder."""

import keras

from kerasfer.runs.checkpoints import checkpoint_path, read_checkpoint
from kerasfer.runs.opening import recipe_of_fold
from kerasfer.train.building import build, make_batches
from kerasfer.train.devices import find_devices, parallel
from kerasfer.train.processes import from_first
from kerasfer.train.stages import fit


def follow(recipe, folds, run, data_dir):
    """Takes part in the training of a recipe, in the same steps as the first process.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        folds: List of `kerasfer.data.protocols.Fold`, as in the first process.
        run: The `kerasfer.runs.folder.RunFolder`, which is only read.
        data_dir: As for `kerasfer.train.train`.

    Raises:
        RecipeError, DataError, RunError: As for `kerasfer.train.train`.
    """
    if len(folds) == 1:
        _follow_fold(recipe, folds[0], run, data_dir)
        return
    numbers = range(len(folds)) if recipe.data.fold is None else [recipe.data.fold]
    for number in numbers:
        fold_recipe = recipe_of_fold(recipe, number)
        _follow_fold(fold_recipe, folds[number], run.fold(number), data_dir)
        keras.utils.clear_session()


def _follow_fold(recipe, fold, run, data_dir):
    is_finished = from_first(0)
    if is_finished:
        return
    keras.utils.set_random_seed(recipe.train.seed)
    devices = find_devices(recipe)
    with parallel(devices):
        model, _ = build(recipe, fold, data_dir)
    size = recipe.evaluate.batch_size
    batches = make_batches(fold, recipe.data, recipe.train.seed, size, len(devices))
    epochs = from_first(0)
    checkpoint = read_checkpoint(checkpoint_path(run, epochs)) if epochs else None
    with parallel(devices):
        fit(model, batches[:2], recipe.train, recipe.optimizer, run, checkpoint)
