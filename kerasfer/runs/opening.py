"""Checks whether a run folder can be used for a training, and locks it during the training."""

import contextlib
from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.files import only_writer, write_text
from kerasfer.recipe import dump
from kerasfer.recipe.differences import differences, extension

_ELSEWHERE = "Choose another --output-dir, or another name with --set name=…"


def check_run(run, recipe, resume):
    """Checks that training a recipe in a run folder neither overwrites work nor mixes two runs.

    Args:
        run: `RunFolder`.
        recipe: `kerasfer.recipe.Recipe`.
        resume: Whether to resume an interrupted run, and to keep a finished run or train it
            further.

    Returns:
        The old and the new value of each key that extends the training of the run, such as
        `{"train.epochs": (30, 60)}`. Empty for a new run.

    Raises:
        RunError: If the training would overwrite work or mix two runs.
    """
    if is_new(run):
        return {}
    if run.folds:
        raise RunError(f"{run.path} holds the folds of another run. {_ELSEWHERE}.")
    if run.is_finished and not resume:
        raise RunError(
            f"{run.path} already holds a finished run. {_ELSEWHERE}; add --resume and a larger "
            "train.epochs to train it further; or remove the folder to train from the beginning."
        )
    if run.checkpoints and not resume:
        raise RunError(
            f"{run.path} holds an interrupted run. Add --resume to continue it, or remove the "
            "folder to train from the beginning."
        )
    return _check_same(run, recipe) if resume else {}


@contextlib.contextmanager
def open_run(run, recipe, resume):
    """Locks a run folder for this process, and marks the run as finished when the block succeeds.

    Args:
        run: `RunFolder`.
        recipe: `kerasfer.recipe.Recipe`.
        resume: As for `check_run`.

    Yields:
        The `kerasfer.runs.checkpoints.Checkpoint` to resume from, or None to train from the
        beginning.

    Raises:
        RunError: As for `check_run`; if another process trains in the folder; or if the
            checkpoints are damaged.
    """
    from kerasfer.runs.checkpoints import finish, load_checkpoint, reopen  # These import Keras.

    check_run(run, recipe, resume)
    make_folder(run.checkpoint)
    with only_writer(run.checkpoint):
        # Another process may have finished the run since the first check.
        longer = check_run(run, recipe, resume)
        if run.is_finished:
            if not longer:
                raise RunError(f"Another process has finished {run.path} in the meantime.")
            reopen(run)
        checkpoint = load_checkpoint(run) if resume else None
        write_text(run.recipe, dump(recipe))
        yield checkpoint
        finish(run)


def open_folds(run, recipe, resume):
    """Prepares the folder above the runs `fold_0`, `fold_1`, … of one recipe.

    The folder holds their common recipe, so that they can be trained together or one by one.

    Args:
        run: `RunFolder` above the folds.
        recipe: `kerasfer.recipe.Recipe`.
        resume: As for `check_run`.

    Returns:
        A dict from numbers to the `RunFolder`s of the folds that the recipe names. All of them are
        checked before the first one is trained.

    Raises:
        RunError: As for `check_run`.
    """
    whole = recipe_of_fold(recipe, None)
    if not is_new(run):
        _check_same(run, whole)
    numbers = range(recipe.data.num_folds) if recipe.data.fold is None else [recipe.data.fold]
    folds = {number: run.fold(number) for number in numbers}
    finished = [fold.path.name for fold in folds.values() if fold.is_finished]
    if len(folds) > 1 and finished and not resume:
        raise RunError(
            f"{run.path} already holds finished folds ({', '.join(finished)}). Add --resume to "
            "keep them and train the others, or choose another --output-dir."
        )
    for number, fold in folds.items():
        check_run(fold, recipe_of_fold(recipe, number), resume)
    make_folder(run.path)
    write_text(run.recipe, dump(whole))
    return folds


def recipe_of_fold(recipe, number):
    """Returns a recipe that names one fold, or with `None` all of them."""
    data = recipe.data.model_copy(update={"fold": number})
    return recipe.model_copy(update={"data": data})


def is_new(run):
    """Returns whether a run folder is missing or empty.

    Raises:
        RunError: If it is a file, or holds something other than a run.
    """
    path = run.path
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, but the run needs a folder of that name. Move it away.")
    if not path.exists() or not any(_is_content(run, entry) for entry in path.iterdir()):
        return True
    if not run.exists:
        raise RunError(f"{path} exists and is not a run folder. {_ELSEWHERE}.")
    return False


def make_folder(path):
    """Creates a folder and those above it.

    Raises:
        RunError: If the operating system refuses.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot create the folder {path}: {error.strerror}. Choose another --output-dir."
        ) from error


def _is_content(run, path):
    # A run that was killed before its first checkpoint contains nothing to keep.
    if path == run.checkpoint and path.is_dir():
        return any(entry.name != "lock" for entry in path.iterdir())
    return path.name != f".partial.{run.recipe.name}"


def _check_same(run, recipe):
    """Checks that a recipe is that of a run, or extends it; returns the extension."""
    before = run.load_recipe()
    changed, longer = differences(before, recipe), extension(before, recipe)
    if changed and set(changed) != set(longer):
        raise RunError(
            f"{run.path} was started with another recipe. The values of {', '.join(changed)} "
            "differ. Resume it with the same recipe and --set (only train.epochs and "
            f"train.early_stopping may be raised), or start another run. {_ELSEWHERE}."
        )
    return longer
