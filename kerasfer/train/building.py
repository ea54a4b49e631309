"""Builds the model and the batches of a training."""

from typing import NamedTuple

from kerasfer.data.batches import Batches, Training
from kerasfer.data.samples import class_weights, limit
from kerasfer.data.scanning import check_readable
from kerasfer.models import build_model
from kerasfer.models.loading import check_landmarks
from kerasfer.train.distillation import Distilled
from kerasfer.train.processes import count_processes, is_first, process_index
from kerasfer.train.stages import check_warmup
from kerasfer.train.teachers import load_teacher
from kerasfer.train.transfer import is_own, transfer


class TrainingBatches(NamedTuple):
    """The `Batches` of the three splits of a fold. Only the first process has the test split."""

    train: Batches
    validation: Batches
    test: Batches | None


def build(recipe, fold, data_dir=None):
    """Builds the model that a recipe trains.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        fold: The `Fold` to train on.
        data_dir: The folder of the datasets, in which a teacher's training data is looked for.

    Returns:
        The model, and a dict of facts about it for `environment.json`.

    Raises:
        RecipeError: If the recipe's values do not fit together.
        DataError: If the model and the data do not fit together.
    """
    weights = getattr(recipe.model, "weights", None)
    # The weights of another run are copied into a model that is built with random ones.
    from_run = is_own(weights)
    left_out = {"name", "weights"} if from_run else {"name"}
    options = recipe.model.model_dump(exclude=left_out, exclude_none=True)
    names = fold.train.class_names
    model = build_model(recipe.model.name, names, recipe.data.image_size, **options)
    check_landmarks(model, fold.train)
    check_warmup(model, recipe.train)
    facts = {"num_parameters": model.count_params()}
    number = recipe.data.fold
    if from_run:
        facts["weights"] = transfer(model, weights, fold, number, data_dir)
    if recipe.distill:
        teacher, facts["teacher"] = load_teacher(recipe.distill.teacher, fold, number, data_dir)
        model = Distilled(model, teacher, recipe.distill)
    return model, facts


def make_batches(fold, data, seed, evaluation_batch_size, num_devices=1):
    """Makes the batches of a fold, of which each process prepares its part.

    Args:
        fold: `kerasfer.data.protocols.Fold`.
        data: The recipe's `data` section.
        seed: The seed of the order, the augmentation and the subset.
        evaluation_batch_size: The batch size of the validation and test batches.
        num_devices: The number of devices that share each batch during the training.

    Returns:
        `TrainingBatches`.

    Raises:
        DataError: If a test picture cannot be read. Unreadable training and validation pictures
            are reported in the first epoch.
    """
    samples = limit(fold.train, data.limit, seed)
    shared = {"multiple": num_devices, "part": (process_index(), count_processes())}
    training = Training(
        augment=data.augment.model_dump(),
        seed=seed,
        sample_weights=class_weights(samples.labels, data.class_weights),
        **shared,
    )
    validation = Training(shuffle=False, **shared)
    size, reading = data.image_size, {"on_bad_image": data.on_bad_image, "workers": data.workers}
    test = Batches(fold.test, size, evaluation_batch_size, **reading) if is_first() else None
    batches = TrainingBatches(
        Batches(samples, size, data.batch_size, training=training, **reading),
        Batches(fold.validation, size, evaluation_batch_size, training=validation, **reading),
        test,
    )
    if test and data.on_bad_image == "error":
        check_readable(fold.test, data.workers)  # They are not read until the end of the training.
    return batches
