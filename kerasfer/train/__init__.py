"""Trains what a recipe describes: fits, evaluates and reports a model in a run folder."""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

import keras

from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.loading import load_folds
from kerasfer.files import check_temporary_folder, write_json
from kerasfer.report import write_folds_report
from kerasfer.runs.checkpoints import finish
from kerasfer.runs.environment import check_backend, check_same_backend, environment
from kerasfer.runs.folder import RunFolder
from kerasfer.runs.opening import check_run, extension, open_folds, open_run, recipe_of_fold
from kerasfer.train.announcing import announce, announce_result
from kerasfer.train.building import build, make_batches
from kerasfer.train.devices import find_devices, parallel, synchronize
from kerasfer.train.results import evaluate_test_split, write_results
from kerasfer.train.stages import fit
from kerasfer.train.teachers import check_same_teacher


def train(recipe, *, data_dir=None, output_dir="runs", resume=False):
    """Trains and evaluates what a recipe describes, in `output_dir/<recipe name>`.

    With several folds each of them is a run of its own, `fold_0` and so on, and the folder above
    them holds their summary.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        data_dir: The folder of the datasets; None for `$KERASFER_DATA`, else `data`.
        output_dir: The folder of the runs.
        resume: Whether to continue an interrupted run. A finished run is trained further where
            `train.epochs` is larger than before, and is otherwise kept. Finished folds are not
            repeated.

    Returns:
        The dict of `metrics.json`, and under `"run"` the path of the run folder.

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
    with _dtype_policy(recipe.train.precision):
        if len(folds) > 1:
            return _train_folds(recipe, folds, run, data_dir, resume)
        return _train_fold(recipe, folds[0], run, data_dir, resume)


def _train_folds(recipe, folds, run, data_dir, resume):
    """Trains the folds that the recipe names. The last one to finish brings the summary."""
    named = open_folds(run, recipe, resume)
    tell = _teller(recipe)
    for number, fold_run in named.items():
        tell(f"Fold {number + 1} of {len(folds)}: {fold_run.path}")
        fold_recipe = recipe_of_fold(recipe, number)
        metrics = _train_fold(fold_recipe, folds[number], fold_run, data_dir, resume)
        keras.utils.clear_session()  # Frees what the backend keeps of the fold's model.
    if not all(run.fold(number).is_finished for number in range(len(folds))):
        return metrics
    report = write_folds_report(run.path)
    if len(named) == 1:
        tell(f"All {len(folds)} folds are finished. Their summary is {report}.")
        return metrics
    return {**run.read_metrics(), "run": str(run.path)}


def _train_fold(recipe, fold, run, data_dir, resume):
    tell = _teller(recipe)
    check_run(run, recipe, resume)
    longer = extension(run, recipe)
    if run.is_finished and not longer:
        finish(run)
        tell(f"{run.path} is finished already.")
        return {**run.read_metrics(), "run": str(run.path)}
    keras.utils.set_random_seed(recipe.train.seed)
    devices = find_devices(recipe)
    # The model comes first: a wrong value shows before pictures are decoded.
    with parallel(devices):
        model, facts = build(recipe, fold, data_dir)
    synchronize(model, devices)
    batches = make_batches(recipe, fold, len(devices))
    duplicates = exact_duplicates(batches.train.samples, batches.test.samples)
    facts = environment(recipe.train.seed) | {"num_devices": len(devices)} | facts
    if run.checkpoints or run.is_finished:
        facts = _continue(run, facts, longer)
    with open_run(run, recipe, resume) as checkpoint:
        write_json(run.environment, facts)
        announce(recipe, run, facts, batches, duplicates, checkpoint, tell)
        with parallel(devices):
            state = fit(model, batches[:2], recipe.train, recipe.optimizer, run, checkpoint)
        facts["seconds"] = round(state.seconds, 1)
        write_json(run.environment, facts)
        started = time.monotonic()
        evaluation, model = evaluate_test_split(run, batches.test, fold, recipe, duplicates)
        announce_result(evaluation.metrics, facts, time.monotonic() - started, tell)
        write_results(run, evaluation, model, recipe.train.monitor)
    return {**evaluation.metrics, "run": str(run.path)}


def _continue(run, facts, longer):
    """Returns what `environment.json` says of a run that other processes have trained before.

    Raises:
        RunError: If the run began with another backend or teacher.
    """
    before = run.read_environment()
    check_same_backend(before, facts)
    check_same_teacher(before, facts)
    kept = {key: before[key] for key in ("started", "extended") if key in before}
    if longer:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        step = {"after_epoch": len(run.read_history()), "time": now, "changes": longer}
        kept["extended"] = [*kept.get("extended", ()), step]
    return facts | kept


def _teller(recipe):
    """Returns what prints a line about the training, unless the recipe asks for silence."""

    def tell(line):
        if recipe.train.verbose:
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
