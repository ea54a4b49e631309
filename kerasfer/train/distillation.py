"""Distillation: a small model learns from what a trained one, its teacher, sees in the pictures.

A label says what a face shows; the teacher's probabilities also say what it resembles. The loss of
a picture is

    (1 − w) · CE(label, p) + w · T² · KL(q_T ‖ p_T) + v · ‖s(F) − s(G)‖²

with the student's probabilities p, the teacher's q, both softened by the temperature T, which is
softmax(log p / T), and a summary s of the last feature maps F and G that is of length 1. Weights of
classes and the like weigh the whole of it. Validation is by the labels alone.

The teacher sees each batch just as the student does, augmented and mixed: with its answers to the
unchanged pictures, kept from before, students learn worse (Beyer et al., Knowledge Distillation: A
Good Teacher is Patient and Consistent, CVPR 2022). Label smoothing concerns the label term; in the
teacher's own training it harms, since it erases what the wrong answers tell (Müller et al., When
Does Label Smoothing Help?, NeurIPS 2019).

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, for the first two terms.
"""

import hashlib
import json
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasfer import linalg
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.models.loading import load_model
from kerasfer.runs.finding import find_run

# Below it a float32 probability says no more than that it is tiny, and its logarithm is finite.
_TINY = 1e-30


class Distilled(keras.Model):
    """Trains a student in its own weights, with a teacher's term in the loss.

    It is the student's own graph: layers, variables, first output and metrics are the student's, so
    that it is frozen, averaged, checkpointed and resumed as the student would be. The teacher is no
    part of it. Compile it with a `keras.losses.Loss`.

    Args:
        student: A functional `keras.Model` that ends in probabilities.
        teacher: A `Teacher` of the same classes.
        settings: The recipe's `distill` section, `kerasfer.recipe.schema.Distill`.

    Example:
        >>> model = Distilled(student, Teacher(trained, names), Distill(teacher="runs/trained"))
        >>> model.compile("adam", keras.losses.CategoricalCrossentropy())
        >>> model.fit(batches)  # then `student` is trained
    """

    def __init__(self, student, teacher, settings):
        maps = [last_maps(student)] if settings.feature_weight else []
        super().__init__(student.input, [student.output, *maps], name=student.name)
        self.teacher = teacher
        self.settings = settings
        # Keras asks the layers of this model whether XLA may compile a step, not the teacher's.
        self.supports_jit = teacher.supports_jit

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        probabilities, *maps = keras.tree.flatten(y_pred)
        loss = super().compute_loss(x, y, probabilities, sample_weight, training)
        if not training:
            return loss
        settings = self.settings
        taught, *taught_maps = self.teacher(x, with_maps=bool(maps))
        softened = softened_divergence(taught, probabilities, settings.temperature)
        softened = settings.temperature**2 * _mean(softened, sample_weight)
        # The loss so far counts the labels in full, with what layers add of their own.
        labels = self.loss(y, probabilities, sample_weight)
        loss = loss + settings.weight * (softened - labels)
        for own, other in zip(maps, taught_maps, strict=True):
            distance = compare_maps(own, other, settings.features, ops.shape(x)[0])
            loss = loss + settings.feature_weight * _mean(distance, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probabilities = keras.tree.flatten(y_pred)[0]
        return super().compute_metrics(x, y, probabilities, sample_weight)


class Teacher:
    """Answers for batches of pictures with a trained model, which it never changes.

    It is no Keras object on purpose: what holds one neither trains nor saves its weights.

    Args:
        model: A trained model of kerasfer, which knows its classes.
        class_names: The student's classes, in its order.
        name: What errors call the model.

    Raises:
        DataError: Where the model's classes are others.
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
        self.supports_jit = all(layer.supports_jit for layer in model._flatten_layers())
        self._order = [known.index(name) for name in class_names]
        self._with_maps = None

    def __call__(self, pictures, with_maps=False):
        """Returns probabilities `(batch, num_classes)`, and with maps its last ones.

        Args:
            pictures: RGB `(batch, height, width, 3)` in [0, 255], resized to what the model takes.
            with_maps: Whether to return `last_maps` too.

        Returns:
            A list of one or two tensors, through which no gradient flows.
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


def load_teacher(recipe, fold):
    """Loads the teacher that a recipe names.

    Of a teacher trained in folds, the one of the student's fold is taken.

    Args:
        recipe: `kerasfer.recipe.Recipe` with a `distill` section.
        fold: The student's `kerasfer.data.protocols.Fold`.

    Returns:
        A `Teacher`, and what `environment.json` says of it: `{"path", "sha256", "accuracy"}`, the
        accuracy on the student's test split, or `None` where it is not known.

    Raises:
        RunError: Where there is no trained model.
        DataError: Where its classes are others.
        RecipeError: Where it may have been trained on the student's test pictures.
    """
    given = Path(recipe.distill.teacher).expanduser()
    if not given.exists():
        raise RunError(
            "distill.teacher must be a trained run's folder or a .keras file. Received: "
            f"{recipe.distill.teacher}, which does not exist: train it first, or name another with "
            "--set distill.teacher=…."
        )
    of_fold = given / f"fold_{recipe.data.fold}"
    try:
        path, before = find_run(of_fold if of_fold.exists() else given)
        model = load_model(path)
    except RunError as error:
        raise RunError(f"distill.teacher: {error}") from error
    _check_unseen(recipe, fold, before, given)
    teacher = Teacher(model, fold.train.class_names, str(given))
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    accuracy = _accuracy(path.with_name("metrics.json"), fold) if before else None
    return teacher, {"path": str(given), "sha256": digest, "accuracy": accuracy}


def check_same_teacher(before, now):
    """Raises a RunError where a run that is resumed would learn from another teacher.

    Args:
        before, now: Contents of `environment.json`.
    """
    before, now = (place.get("teacher") or {} for place in (before, now))
    if before.get("sha256") != now.get("sha256"):
        raise RunError(
            f"The teacher {now.get('path')} is not the one that this run began with: it was "
            "trained anew. Bring the old one back, or remove the run's folder to begin again."
        )


def _check_unseen(recipe, fold, before, given):
    # The official test split is one for all; others are drawn, and the teacher has to share them.
    if before is None or before.data.name != recipe.data.name or fold.protocol == "official":
        return

    def drawn(recipe):
        data = recipe.data
        protocol = data.protocol or fold.train.protocol
        return {
            "data.protocol": protocol,
            "data.num_folds": data.num_folds if protocol == "subjects" else None,
            "data.fold": data.fold,
            "data.num_samples": data.num_samples,
            "data.path": data.path,
            "train.seed": recipe.train.seed,
        }

    ours, theirs = drawn(recipe), drawn(before)
    differing = [key for key, value in ours.items() if value != theirs[key]]
    if differing:
        raise RecipeError(
            f"distill.teacher: {given} was trained on another split of {recipe.data.name}, so that "
            f"it may know this run's test pictures; what differs: {', '.join(differing)}. Train "
            "the teacher on the same split."
        )


def _accuracy(path, fold):
    if not path.exists():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    ours = (fold.test.name, "test", fold.protocol, len(fold.test))
    theirs = tuple(metrics.get(key) for key in ("dataset", "split", "protocol", "num_samples"))
    return metrics.get("accuracy") if ours == theirs else None


# The terms of the loss --------------------------------------------------------------------------


def softened_divergence(target, probabilities, temperature):
    """Measures how far softened probabilities are from softened targets: KL(q_T ‖ p_T).

    A softmax of logits at temperature T is the softmax of the logarithms of its values at 1,
    divided by T; so probabilities suffice.

    Args:
        target: The teacher's probabilities `(batch, num_classes)`.
        probabilities: The student's, of the same shape.
        temperature: T, positive.

    Returns:
        Tensor `(batch,)`, not negative.

    Source: Hinton et al. 2015, equation (1).
    """
    target, probabilities = (
        ops.log_softmax(ops.log(ops.maximum(linalg.as_float(values), _TINY)) / temperature)
        for values in (target, probabilities)
    )
    return ops.sum(ops.exp(target) * (target - probabilities), axis=-1)


def compare_maps(own, other, features, num_pictures):
    """Measures how differently two networks see the same pictures, whatever channels they have.

    Both maps are brought to the coarser one's places, by averages. Their summary, of length 1, is

    - `"covariance"`: the places' covariance over the channels, wh × wh: which parts of a face vary
      together. Its angle is taken in the flat space: the logarithm would weigh most what varies
      least, which in the teacher is noise.
    - `"attention"`: the mean square of the channels at each place.

    Args:
        own, other: Feature maps `(regions · num_pictures, height, width, channels)`; of a picture's
            regions, the first counts.
        features: `"covariance"` or `"attention"`.
        num_pictures: Size of the batch.

    Returns:
        Tensor `(num_pictures,)` in [0, 2], 2 − 2 cos of the angle between the summaries.

    Source: Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017, equation (2),
    for the form and `"attention"`.
    """
    if features not in SUMMARIES:
        raise ValueError(f"`features` must be one of {tuple(SUMMARIES)}. Received: {features!r}.")
    places = [min(sizes) for sizes in zip(own.shape[1:3], other.shape[1:3], strict=True)]
    own, other = (
        linalg.l2_normalize(SUMMARIES[features](_at_places(maps, places, num_pictures)))
        for maps in (own, other)
    )
    return ops.sum(ops.square(own - other), axis=-1)


def last_maps(model):
    """Finds the feature maps that a model's head reads.

    Args:
        model: A functional `keras.Model`.

    Returns:
        The symbolic tensor `(batch, height, width, channels)` that the last layer of feature maps
        with more than one place takes; where it takes several, their channels together.

    Raises:
        RecipeError: Where there is none.
    """
    for layer in reversed(model.layers):
        # A nested model's input is that of its own graph.
        if isinstance(layer, keras.Model | keras.layers.InputLayer):
            continue
        maps = [
            tensor
            for tensor in keras.tree.flatten(layer.input)
            if len(tensor.shape) == 4 and tensor.shape[1] * tensor.shape[2] > 1
        ]
        if maps:
            return maps[0] if len(maps) == 1 else ops.concatenate(maps, axis=-1)
    raise RecipeError(
        f"distill.feature_weight compares feature maps, and {model.name} has none. Set it to 0."
    )


def _covariance(rows):
    places = rows.shape[1]
    return ops.reshape(linalg.covariance(rows), (-1, places * places))


def _attention(rows):
    return ops.mean(ops.square(rows), axis=-1)


SUMMARIES = {"covariance": _covariance, "attention": _attention}


def _at_places(maps, places, num_pictures):
    """Lays maps out as `(num_pictures, places, channels)`, the first region of each picture."""
    height, width, channels = maps.shape[1:]
    maps = ops.reshape(linalg.as_float(maps), (num_pictures, -1, height, width, channels))[:, 0]
    if [height, width] != places:
        down, across = (_averaging(*sizes) for sizes in zip((height, width), places, strict=True))
        maps = ops.einsum("yh,bhwc,xw->byxc", down, maps, across)
    return ops.reshape(maps, (-1, places[0] * places[1], channels))


def _averaging(size, places):
    """The matrix `(places, size)` that averages equal shares of a line of `size` values."""
    edges = np.arange(places + 1) * size / places
    begin = np.maximum(edges[:-1, None], np.arange(size))
    end = np.minimum(edges[1:, None], np.arange(size) + 1)
    return (np.maximum(end - begin, 0) * places / size).astype("float32")


def _mean(values, sample_weight):
    """The mean over a batch as Keras' losses take it: divided by its size, not by the weights."""
    if sample_weight is not None:
        values = values * ops.cast(sample_weight, values.dtype)
    return ops.mean(values)
