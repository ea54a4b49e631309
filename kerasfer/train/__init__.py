"""Trains and evaluates the model of a recipe, and writes the results into a run folder."""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

import keras

from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.loading import load_folds
from kerasfer.evaluate.scoring import evaluate_batches
from kerasfer.files import check_temporary_folder, write_json
from kerasfer.models.loading import load_model
from kerasfer.report import write_folds_report
from kerasfer.runs.checkpoints import finish
from kerasfer.runs.environment import check_backend, continued, environment
from kerasfer.runs.folder import RunFolder
from kerasfer.runs.opening import check_run, open_folds, open_run, recipe_of_fold
from kerasfer.train.announcing import (
    announce,
    announce_checkpoint,
    announce_data,
    announce_result,
)
from kerasfer.train.building import build, make_batches
from kerasfer.train.devices import find_devices, parallel, synchronize
from kerasfer.train.following import follow
from kerasfer.train.processes import from_first, is_first
from kerasfer.train.results import write_results
from kerasfer.train.stages import fit


def train(recipe, *, data_dir=None, output_dir="runs", resume=False):
    """Trains and evaluates the model of a recipe, in the run folder `output_dir/<recipe name>`.

    If there are several folds, each of them has a run folder, `fold_0` and so on, and the folder
    above them holds their summary.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        data_dir: The folder of the datasets; None for `$KERASFER_DATA`, else `data`.
        output_dir: The folder of the runs.
        resume: Whether to continue an interrupted run. A finished run is trained further if
            `train.epochs` is larger than before, and is otherwise kept. Finished folds are not
            repeated.

    Returns:
        The dict of `metrics.json`, and under `"run"` the path of the run folder. If several
        processes train together, only the first one returns it, and the others return `None`.

    Raises:
        RecipeError: If a value of the recipe is invalid.
        DataError: If the dataset is missing, incomplete or unreadable.
        RunError: If the run folder holds another run, or the training diverges.

    Example:

    ```python
    train(load_recipe("recipes/quickstart.yaml"))["accuracy"]
    ```
    """
    check_backend(recipe.train.backend)
    check_temporary_folder()
    run = RunFolder(Path(output_dir) / recipe.name)
    folds = load_folds(recipe.data, recipe.train.seed, data_dir)
    tell = _teller(recipe.train.verbose)
    with _dtype_policy(recipe.train.precision):
        if not is_first():
            return follow(recipe, folds, run, data_dir)
        if len(folds) == 1:
            return _train_fold(recipe, folds[0], run, data_dir, resume, tell)
        return _train_folds(recipe, folds, run, data_dir, resume, tell)


def _train_folds(recipe, folds, run, data_dir, resume, tell):
    """Trains the folds that the recipe names. The last one to finish writes the summary."""
    opened = open_folds(run, recipe, resume)
    for number, fold_run in opened.items():
        tell(f"Fold {number + 1} of {len(folds)}: {fold_run.path}")
        fold_recipe = recipe_of_fold(recipe, number)
        metrics = _train_fold(fold_recipe, folds[number], fold_run, data_dir, resume, tell)
        keras.utils.clear_session()  # Frees the memory of the model of this fold.
    if not all(run.fold(number).is_finished for number in range(len(folds))):
        return metrics
    report = write_folds_report(run.path)
    if len(opened) == 1:
        tell(f"All {len(folds)} folds are finished. Their summary is {report}.")
        return metrics
    return {**run.read_metrics(), "run": str(run.path)}


def _train_fold(recipe, fold, run, data_dir, resume, tell):
    """Trains and evaluates one model."""
    longer = check_run(run, recipe, resume)
    if from_first(run.is_finished and not longer):
        finish(run)
        tell(f"{run.path} is finished already.")
        return {**run.read_metrics(), "run": str(run.path)}
    keras.utils.set_random_seed(recipe.train.seed)
    devices = find_devices(recipe)
    # The model is built first, so that wrong values are reported before pictures are decoded.
    with parallel(devices):
        model, facts = build(recipe, fold, data_dir)
    synchronize(model, devices)
    size = recipe.evaluate.batch_size
    batches = make_batches(fold, recipe.data, recipe.train.seed, size, len(devices))
    duplicates = exact_duplicates(batches.train.samples, batches.test.samples)
    facts = environment(recipe.train.seed) | {"num_devices": len(devices)} | facts
    if run.checkpoints or run.is_finished:
        facts = continued(run.read_environment(), facts, _extension(run, longer))
    with open_run(run, recipe, resume) as checkpoint:
        from_first(len(checkpoint.history) if checkpoint else 0)
        write_json(run.environment, facts)
        announce(recipe, facts, batches, run.path, tell)
        announce_data(batches, duplicates, tell)
        if checkpoint:
            announce_checkpoint(checkpoint, tell)
        with parallel(devices):
            state = fit(model, batches[:2], recipe.train, recipe.optimizer, run, checkpoint)
        facts["seconds"] = round(state.seconds, 1)
        write_json(run.environment, facts)
        started = time.monotonic()
        best = load_model(run.model, landmarks=True)
        tta = recipe.evaluate.tta
        evaluation = evaluate_batches(best, batches.test, fold, tta=tta, duplicates=duplicates)
        announce_result(evaluation.metrics, facts, time.monotonic() - started, tell)
        write_results(run, evaluation, best, recipe.train.monitor)
    return {**evaluation.metrics, "run": str(run.path)}


def _extension(run, longer):
    """Returns what `environment.json` records of a run that is trained longer than planned."""
    if not longer:
        return None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"after_epoch": len(run.read_history()), "time": now, "changes": longer}


def _teller(verbose):
    """Returns a function that prints a line, or does nothing if `verbose` is 0."""

    def tell(line):
        if verbose:
            print(line, flush=True)

    return tell


@contextlib.contextmanager
def _dtype_policy(name):
    """Sets Keras' global dtype policy within the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
