"""Distillation: a small model learns from the predictions of a trained one, its teacher.

The probabilities of the teacher also show which other classes a face resembles. The loss of a
picture is

    (1 − w) · CE(label, p) + w · T² · KL(q_T ‖ p_T) + v · ‖s(F) − s(G)‖²

with the student's probabilities p, the teacher's q, both softened by the temperature T, which is
softmax(log p / T), and a summary s of the last feature maps F and G that has length 1. Class
weights apply to the whole loss. Validation uses the labels alone.

The teacher receives each batch exactly as the student does, augmented and mixed. With precomputed
predictions for the unchanged pictures, students learn worse (Beyer et al., Knowledge Distillation:
A Good Teacher is Patient and Consistent, CVPR 2022). Label smoothing applies to the label term. In
the teacher's own training it is harmful, since it erases the information in the probabilities of
the wrong classes (Müller et al., When Does Label Smoothing Help?, NeurIPS 2019).

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, for the first two terms.
"""

import keras
import numpy as np
from keras import ops

from kerasfer import linalg
from kerasfer.errors import RecipeError

# Keeps logarithms finite. Smaller float32 probabilities carry no information.
_TINY = 1e-30


class Distilled(keras.Model):
    """Trains a student with a loss that contains the predictions of a teacher.

    The model has the layers, variables, first output and metrics of the student, so it is frozen,
    averaged, checkpointed and resumed like the student. The teacher is not part of the model. The
    model must be compiled with a `keras.losses.Loss`.

    Args:
        student: A functional `keras.Model` that ends in probabilities.
        teacher: A `kerasfer.train.teachers.Teacher` of the same classes.
        settings: The recipe's `distill` section, `kerasfer.recipe.schema.Distill`.

    Example:

    ```python
    model = Distilled(student, Teacher(trained, names), Distill(teacher="runs/trained"))
    model.compile("adam", keras.losses.CategoricalCrossentropy())
    model.fit(batches)  # Trains `student`.
    ```
    """

    def __init__(self, student, teacher, settings):
        maps = [last_maps(student)] if settings.feature_weight else []
        super().__init__(student.input, [student.output, *maps], name=student.name)
        self.teacher = teacher
        self.settings = settings
        # Keras checks only the layers of this model for whether XLA may compile a step.
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
        # The loss so far has the label term with weight 1, and the losses of layers.
        labels = self.loss(y, probabilities, sample_weight)
        loss = loss + settings.weight * (softened - labels)
        for own, other in zip(maps, taught_maps, strict=True):
            distance = compare_maps(own, other, settings.features, ops.shape(x)[0])
            loss = loss + settings.feature_weight * _mean(distance, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probabilities = keras.tree.flatten(y_pred)[0]
        return super().compute_metrics(x, y, probabilities, sample_weight)


# The terms of the loss --------------------------------------------------------------------------


def softened_divergence(target, probabilities, temperature):
    """Computes the divergence of softened probabilities from softened targets, KL(q_T ‖ p_T).

    The softmax of logits at temperature T equals the softmax of log probabilities divided by T, so
    probabilities suffice.

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
    """Compares the feature maps of two networks, which may have different numbers of channels.

    Both maps are averaged to the coarser resolution. Their summary, of length 1, is

    - `"covariance"`: the covariance of the positions over the channels, wh × wh: which parts of a
      face vary together. Its angle is measured in the flat space. The matrix logarithm would
      emphasize the smallest eigenvalues, which in the teacher are noise.
    - `"attention"`: the mean square of the channels at each position.

    Args:
        own, other: Feature maps `(regions · num_pictures, height, width, channels)`. The first
            region of each picture is compared.
        features: `"covariance"` or `"attention"`.
        num_pictures: The batch size.

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
    """Finds the feature maps that the head of a model receives.

    Args:
        model: A functional `keras.Model`.

    Returns:
        The symbolic tensor `(batch, height, width, channels)` that is the input of the last layer
        whose input has more than one position. Several inputs are concatenated along the channels.

    Raises:
        RecipeError: If there are no feature maps.
    """
    for layer in reversed(model.layers):
        # The input of a nested model belongs to its own graph.
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
        f"distill.feature_weight compares feature maps, but {model.name} has none. Set it to 0."
    )


def _covariance(rows):
    places = rows.shape[1]
    return ops.reshape(linalg.covariance(rows), (-1, places * places))


def _attention(rows):
    return ops.mean(ops.square(rows), axis=-1)


SUMMARIES = {"covariance": _covariance, "attention": _attention}


def _at_places(maps, places, num_pictures):
    """Returns the first region of each picture as `(num_pictures, places, channels)`."""
    height, width, channels = maps.shape[1:]
    maps = ops.reshape(linalg.as_float(maps), (num_pictures, -1, height, width, channels))[:, 0]
    if [height, width] != places:
        down, across = (_averaging(*sizes) for sizes in zip((height, width), places, strict=True))
        maps = ops.einsum("yh,bhwc,xw->byxc", down, maps, across)
    return ops.reshape(maps, (-1, places[0] * places[1], channels))


def _averaging(size, places):
    """Returns the matrix `(places, size)` that averages equal parts of a line of `size` values."""
    edges = np.arange(places + 1) * size / places
    begin = np.maximum(edges[:-1, None], np.arange(size))
    end = np.minimum(edges[1:, None], np.arange(size) + 1)
    return (np.maximum(end - begin, 0) * places / size).astype("float32")


def _mean(values, sample_weight):
    """Computes the mean as Keras' losses do: divided by the batch size, not by the weights."""
    if sample_weight is not None:
        values = values * ops.cast(sample_weight, values.dtype)
    return ops.mean(values)
