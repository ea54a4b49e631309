"""Loads the trained models that a training builds on: a teacher, or the source of its weights."""

from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate.duplicates import training_samples
from kerasfer.models.loading import load_model
from kerasfer.runs.finding import find_run
from kerasfer.runs.folder import RunFolder


def load_trained(key, path, fold, number=None, data_dir=None, *, landmarks=False):
    """Loads a trained model, and checks that it was not trained on the test pictures of a fold.

    Args:
        key: The key of the recipe that names the model, for error messages.
        path: A run folder or a `.keras` file. In a run of several folds, the model of the same fold
            is used.
        fold: The `kerasfer.data.protocols.Fold` that is trained on.
        number: The number of the fold, or None.
        data_dir: The folder of the datasets, in which the training pictures of the model are looked
            for.
        landmarks: Whether the model may need landmarks.

    Returns:
        The `kerasfer.runs.finding.FoundRun` and the model.

    Raises:
        RunError: If there is no trained model.
        RecipeError: If the model was trained on test pictures of the fold, or if its training
            pictures cannot be loaded. A model file without a run is not checked.
    """
    of_fold = RunFolder(path).fold(number).path
    try:
        found = find_run(of_fold if of_fold.exists() else path)
        model = load_model(found.model, landmarks=landmarks)
    except RunError as error:
        raise RunError(f"{key}: {error}") from error
    if found.recipe:
        _check_unseen(key, path, found.recipe, fold, data_dir)
    return found, model


def _check_unseen(key, path, recipe, fold, data_dir):
    """Checks that a model was not trained on test pictures that are not in this training split."""
    try:
        seen = exact_duplicates(training_samples(recipe, data_dir), fold.test)
    except (DataError, RecipeError) as error:
        raise RecipeError(
            f"{key}: the training data of {path} cannot be loaded to check whether it contains "
            f"this run's test pictures: {error} To use the model without this check, name the "
            "model file outside of the run folder."
        ) from error
    count = int((seen & ~exact_duplicates(fold.train, fold.test)).sum())
    if count:
        raise RecipeError(
            f"{key}: {path} was trained on {count:,} of this run's {len(fold.test):,} test "
            "pictures. Name a model that was trained on the same split."
        )
