"""Finds the pictures that a model was trained on."""

from kerasfer.data.batches import leave_out_bad_pictures
from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.loading import load_fold
from kerasfer.data.samples import limit
from kerasfer.errors import DataError, RunError


def training_samples(recipe, data_dir=None):
    """Loads the samples that a recipe trains on.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        data_dir: The folder of the datasets; None for `$KERASFER_DATA`, else `data`.

    Returns:
        `Samples`.

    Raises:
        DataError: If the dataset is missing or incomplete.
    """
    data = recipe.data
    fold = load_fold(data, recipe.train.seed, data_dir)
    samples = limit(fold.train, data.limit, recipe.train.seed)
    if data.on_bad_image == "skip":
        samples, _ = leave_out_bad_pictures(samples, data.workers)
    return samples


def find_duplicates(recipe, samples, data_dir=None, required=False):
    """Finds the pictures that a run was trained on, by comparing all pixels.

    Args:
        recipe: The recipe of the run, or None if it is unknown.
        samples: `Samples` that the run's model is evaluated on.
        data_dir: The folder of the datasets.
        required: Whether it is an error that the training pictures are not available.

    Returns:
        bool `(len(samples),)`, or None if the training pictures are not available.

    Raises:
        RunError: If the recipe is required and unknown.
        DataError: If the training pictures are required and missing, or a picture cannot be read.
    """
    if recipe is None:
        if required:
            raise RunError(
                "The training pictures of a model file are unknown. Evaluate the run folder to "
                "find duplicates."
            )
        return None
    try:
        train = training_samples(recipe, data_dir)
    except DataError:
        if required:
            raise
        return None
    return exact_duplicates(train, samples)
