"""The gradient's norm at one layer over a training, as in figure 7 of the SPD-Attention paper.

Only the optimizer sees the gradients on every backend: it keeps the norms of an epoch's steps among
its own variables, and a callback writes them out when the epoch ends.
"""

import csv

import keras
import numpy as np
from keras import ops

from kerasfer.errors import RecipeError, RunError
from kerasfer.files import replace_file

FILE_NAME = "gradient_norm.csv"
_COLUMNS = ["step", "epoch", "norm"]


class RecordsNorms:
    """Lets an optimizer keep the norm of some variables' gradient at each step of an epoch.

    A mixin that stands before a Keras optimizer. The norm is that of all these gradients together,
    before any of them is clipped or centralized.
    """

    def record(self, indices, steps):
        """Says what to keep.

        Args:
            indices: Places of the variables among the model's trainable ones.
            steps: Steps in an epoch.
        """
        self.recorded_indices = list(indices)
        self.recorded_steps = steps

    def build(self, variables):
        super().build(variables)
        self.norms = self.add_variable(
            shape=(self.recorded_steps,), dtype="float32", name="gradient_norms"
        )

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        super().apply(grads, trainable_variables)
        recorded = [grads[index] for index in self.recorded_indices if grads[index] is not None]
        squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in recorded]
        norm = ops.sqrt(sum(squares, start=ops.zeros(())))
        # The counter has moved on already. JAX wants tensors, not variables, in `where`.
        place = ops.cast(ops.convert_to_tensor(self.iterations), "int32") - 1
        here = ops.arange(self.recorded_steps, dtype="int32") == place % self.recorded_steps
        self.norms.assign(ops.where(here, norm, ops.convert_to_tensor(self.norms)))


def recording(optimizer_class):
    """Returns a class of optimizer that is like another and records norms."""
    return type(f"Recording{optimizer_class.__name__}", (RecordsNorms, optimizer_class), {})


def weights_of(model, layer_name):
    """Finds a layer's weights in a model.

    Args:
        model: A `keras.Model`.
        layer_name: The name of a layer, at any depth.

    Returns:
        Their places in `model.trainable_variables`.

    Raises:
        RecipeError: Where the model has no such layer with weights.
    """
    layers = {layer.name: layer for layer in model._flatten_layers(include_self=False)}
    wanted = {id(v) for v in layers[layer_name].weights} if layer_name in layers else set()
    if not wanted:
        known = ", ".join(
            layer.name
            for layer in model.layers
            if layer.weights and not isinstance(layer, keras.Model)
        )
        raise RecipeError(
            "train.log_gradient_norm must be the name of a layer with weights, such as "
            f"{known}. Received: {layer_name!r}."
        )
    return [i for i, variable in enumerate(model.trainable_variables) if id(variable) in wanted]


class KeepGradientNorms(keras.callbacks.Callback):
    """Writes the recorded norms into `gradient_norm.csv` after each epoch, a row a step.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder):
        super().__init__()
        self.path = folder / FILE_NAME

    def on_epoch_end(self, epoch, logs=None):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        norms = ops.convert_to_numpy(optimizer.norms)
        # What an epoch wrote that was interrupted before its end is written again.
        before = read_gradient_norms(self.path)[: epoch * len(norms)] if epoch else []
        with (
            replace_file(self.path) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for step, norm in enumerate([*before, *norms], start=1):
                writer.writerow([step, (step - 1) // len(norms) + 1, f"{norm:.6g}"])


def read_gradient_norms(path):
    """Reads `gradient_norm.csv` as float64 `(steps,)`.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return np.array([float(row["norm"]) for row in csv.DictReader(file)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"Expected {path} with a gradient's norm a step, but it cannot be read: {error}. Train "
            "with train.log_gradient_norm set to the name of a layer."
        ) from error
