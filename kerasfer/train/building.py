"""Builds what a training needs from a recipe: the model and the batches."""

from typing import NamedTuple

import numpy as np

from kerasfer.data.batches import Batches, Training
from kerasfer.data.samples import class_weights, limit
from kerasfer.data.scanning import scan
from kerasfer.models import build_model
from kerasfer.models.loading import check_landmarks
from kerasfer.train.devices import validation_multiple
from kerasfer.train.distillation import Distilled
from kerasfer.train.stages import check_warmup
from kerasfer.train.teachers import load_teacher
from kerasfer.train.transfer import is_own, transfer


class TrainingBatches(NamedTuple):
    """The `Batches` of the three parts of a fold."""

    train: Batches
    validation: Batches
    test: Batches


def build(recipe, fold, data_dir=None):
    """Builds the model that a recipe trains.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        fold: The `Fold` to train on.
        data_dir: The folder of the datasets, in which a teacher's training data is looked for.

    Returns:
        The model, and what `environment.json` says of it.

    Raises:
        RecipeError: If the recipe's values do not fit together.
        DataError: If the model and the data do not fit together.
    """
    # The weights of another run are copied into a model that is built with random ones.
    begins = is_own(getattr(recipe.model, "weights", None))
    left_out = {"name", "weights"} if begins else {"name"}
    options = recipe.model.model_dump(exclude=left_out, exclude_none=True)
    names = fold.train.class_names
    model = build_model(recipe.model.name, names, recipe.data.image_size, **options)
    check_warmup(model, recipe.train)
    check_landmarks(model, fold.train)
    facts = {"num_parameters": model.count_params()}
    if begins:
        facts["weights"] = transfer(model, recipe, fold, data_dir)
    if recipe.distill:
        teacher, facts["teacher"] = load_teacher(recipe, fold, data_dir)
        model = Distilled(model, teacher, recipe.distill)
    return model, facts


def make_batches(recipe, fold, num_devices=1):
    """Returns the `TrainingBatches` of a fold.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        fold: The `Fold`.
        num_devices: The number of devices that share each batch of the training.

    Raises:
        DataError: If a test picture cannot be read. An unreadable training or validation picture
            shows in the first epoch.
    """
    data, seed = recipe.data, recipe.train.seed
    samples = limit(fold.train, data.limit, seed)
    shared = {"on_bad_image": data.on_bad_image, "workers": data.workers}
    train = Batches(
        samples,
        data.image_size,
        data.batch_size,
        training=Training(
            augment=data.augment.model_dump(),
            seed=seed,
            sample_weights=class_weights(samples.labels, data.class_weights),
            multiple=num_devices,
        ),
        **shared,
    )
    size = recipe.evaluate.batch_size
    validation = Batches(
        fold.validation,
        data.image_size,
        size,
        training=Training(shuffle=False, multiple=validation_multiple(num_devices)),
        **shared,
    )
    test = Batches(fold.test, data.image_size, size, **shared)
    batches = TrainingBatches(train, validation, test)
    if data.on_bad_image == "error":
        _check_readable(fold.test, data.workers)
    return batches


def _check_readable(samples, workers):
    """Decodes pictures that are not needed before the end of a training of hours."""
    if not isinstance(samples.pictures, np.ndarray):
        for error in scan(samples, lambda picture: None, workers=workers):
            if error is not None:
                raise error
