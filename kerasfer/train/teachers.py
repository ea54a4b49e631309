"""The teacher of a distillation: loads it, checks that it fits, and answers for batches."""

from pathlib import Path

import keras
from keras import ops

from kerasfer import keras_internals
from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate.duplicates import training_samples
from kerasfer.files import sha256
from kerasfer.models.loading import load_model
from kerasfer.runs.finding import find_run
from kerasfer.runs.folder import RunFolder
from kerasfer.train.distillation import last_maps

# Keys of a recipe's `data` that do not change which pictures are in which split.
_SAME_SPLIT = (
    *("augment", "batch_size", "class_weights", "image_size", "limit"),
    *("on_bad_image", "workers", "landmarks", "validation_fraction"),
)


class Teacher:
    """Answers for batches of pictures with a trained model, which it never changes.

    It is not a Keras object on purpose: a model that holds one neither trains nor saves its
    weights.

    Args:
        model: A trained model of kerasfer, which knows its classes.
        class_names: The student's classes, in its order.
        name: The name of the model in error messages.

    Raises:
        DataError: If the model has other classes.
    """

    def __init__(self, model, class_names, name="the teacher"):
        known = tuple(model.layers[-1].class_names)
        if set(known) != set(class_names):
            raise DataError(
                f"The student learns the classes {', '.join(class_names)}; {name} knows "
                f"{', '.join(known)}. Choose a teacher of the same classes."
            )
        model.trainable = False
        self.model = model
        self.image_size = model.input_shape[1]
        self.supports_jit = all(
            layer.supports_jit for layer in keras_internals.flatten_layers(model)
        )
        self._order = [known.index(name) for name in class_names]
        self._with_maps = None

    def __call__(self, pictures, with_maps=False):
        """Predicts probabilities, and where asked the last feature maps.

        Args:
            pictures: RGB `(batch, height, width, 3)` in [0, 255]. They are resized to the model's
                input size.
            with_maps: Whether to return `last_maps` too.

        Returns:
            A list of one or two tensors, through which no gradient flows. The first one is
            `(batch, num_classes)`.
        """
        size = (self.image_size, self.image_size)
        if tuple(pictures.shape[1:3]) != size:
            pictures = ops.image.resize(pictures, size, antialias=True, data_format="channels_last")
        if with_maps and self._with_maps is None:
            outputs = [self.model.output, last_maps(self.model)]
            self._with_maps = keras.Model(self.model.input, outputs)
        model = self._with_maps if with_maps else self.model
        probabilities, *maps = keras.tree.flatten(model(pictures, training=False))
        probabilities = ops.take(probabilities, ops.array(self._order), axis=-1)
        return [ops.stop_gradient(answer) for answer in (probabilities, *maps)]


def load_teacher(recipe, fold, data_dir=None):
    """Loads the teacher that a recipe names.

    Of a teacher that was trained in folds, the one of the student's fold is used.

    Args:
        recipe: The student's `kerasfer.recipe.Recipe`, with a `distill` section.
        fold: The student's `kerasfer.data.protocols.Fold`.
        data_dir: The folder of the datasets, in which the teacher's training pictures are looked
            for.

    Returns:
        A `Teacher`, and what `environment.json` says of it: `{"path", "sha256", "accuracy"}`. The
        accuracy is that on the student's test split, or None where it is unknown.

    Raises:
        RunError: If there is no trained model.
        DataError: If the model has other classes.
        RecipeError: If it was trained on the student's test pictures.
    """
    given = Path(recipe.distill.teacher).expanduser()
    if not given.exists():
        raise RunError(
            "distill.teacher must be the folder of a trained run or a .keras file. Received: "
            f"{recipe.distill.teacher}, which does not exist. Train it first, or name another one "
            "with --set distill.teacher=…."
        )
    of_fold = RunFolder(given).fold(recipe.data.fold).path
    try:
        found = find_run(of_fold if of_fold.exists() else given)
        model = load_model(found.model)
    except RunError as error:
        raise RunError(f"distill.teacher: {error}") from error
    if found.recipe:
        _check_unseen(recipe, found.recipe, fold, given, data_dir)
    teacher = Teacher(model, fold.train.class_names, str(given))
    facts = {"path": str(given), "sha256": sha256(found.model)}
    return teacher, facts | {"accuracy": _accuracy(found, fold)}


def check_same_teacher(before, now):
    """Checks that a resumed run learns from the teacher that it began with.

    Args:
        before: The dict of `environment.json` of the earlier part.
        now: The same of this process.

    Raises:
        RunError: If it does not.
    """
    before, now = (facts.get("teacher") or {} for facts in (before, now))
    if before.get("sha256") != now.get("sha256"):
        raise RunError(
            f"The teacher {now.get('path')} is not the one that this run began with, since it was "
            "trained again. Restore the earlier one, or remove the run folder to train from the "
            "beginning."
        )


def _check_unseen(recipe, teachers, fold, given, data_dir):
    """Checks that a teacher was not trained on the student's test pictures.

    A teacher of the same split needs no further check. Otherwise the pictures are compared.
    """
    ours, theirs = (_describe_split(each, fold) for each in (recipe, teachers))
    differing = [key for key in ours if ours[key] != theirs.get(key)]
    if not differing:
        return
    try:
        seen = int(exact_duplicates(training_samples(teachers, data_dir), fold.test).sum())
    except (DataError, RecipeError) as error:
        raise RecipeError(
            f"distill.teacher: {given} was trained on other data (the values of "
            f"{', '.join(differing)} differ), which cannot be loaded to check whether it contains "
            f"this run's test pictures: {error} To use the teacher without this check, name its "
            "model file outside of the run folder."
        ) from error
    if seen:
        raise RecipeError(
            f"distill.teacher: {given} was trained on {seen:,} of this run's {len(fold.test):,} "
            f"test pictures, since the values of {', '.join(differing)} differ. Train the teacher "
            "on the same split."
        )


def _describe_split(recipe, fold):
    """Returns what determines the pictures in the test split of a recipe."""
    values = recipe.data.model_dump(exclude=set(_SAME_SPLIT))
    values["protocol"] = recipe.data.protocol or fold.train.protocol
    if values["protocol"] != "subjects":
        values |= {"num_folds": None, "fold": None}
    described = {f"data.{key}": value for key, value in values.items()}
    if values["protocol"] == "official":
        return described  # The official test split does not depend on the seed.
    return {"train.seed": recipe.train.seed, **described}


def _accuracy(found, fold):
    """Returns the teacher's accuracy on the student's test split, or None where it is unknown."""
    if found.folder is None or not found.folder.metrics.exists():
        return None
    metrics = found.folder.read_metrics()
    ours = (fold.test.name, "test", fold.protocol, len(fold.test))
    theirs = tuple(metrics.get(key) for key in ("dataset", "split", "protocol", "num_samples"))
    return metrics.get("accuracy") if ours == theirs else None
