"""Records the gradient norm of one layer in each step, as in figure 7 of SPD-Attention.

Only the optimizer sees the gradients on every backend. It keeps the norms among its own variables,
and a callback collects them after each step and writes them when the epoch ends.
"""

import csv
import io
import math

import keras
import numpy as np
from keras import ops

from kerasfer import keras_internals
from kerasfer.errors import RecipeError, RunError
from kerasfer.files import write_text

_COLUMNS = ["step", "epoch", "norm"]


class RecordsNorms:
    """Makes an optimizer record the norm of the gradient of some variables.

    A mixin for a Keras optimizer. The norm is that of all these gradients together, before any of
    them is clipped or centralized.
    """

    def record(self, indices, steps):
        """Selects the variables.

        Args:
            indices: Indices of the variables among the model's trainable ones.
            steps: The number of steps whose norms are kept.
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
        # The counter has advanced already. JAX needs tensors, not variables, in `where`.
        last = ops.cast(ops.convert_to_tensor(self.iterations), "int32") - 1
        here = ops.arange(self.recorded_steps, dtype="int32") == last % self.recorded_steps
        self.norms.assign(ops.where(here, norm, ops.convert_to_tensor(self.norms)))

    def last_norm(self):
        """Returns the norm of the last step that was applied, as a float."""
        last = int(ops.convert_to_numpy(self.iterations)) - 1
        return float(ops.convert_to_numpy(self.norms)[last % self.recorded_steps])


def recording(optimizer_class):
    """Returns a subclass of an optimizer that records norms."""
    return type(f"Recording{optimizer_class.__name__}", (RecordsNorms, optimizer_class), {})


def weights_of(model, layer_name):
    """Finds the weights of a layer in a model.

    Args:
        model: A `keras.Model`.
        layer_name: The name of a layer, at any depth. If several layers have this name, as in a
            model with two feature extractors, the weights of all of them are found.

    Returns:
        Their indices in `model.trainable_variables`.

    Raises:
        RecipeError: If the model has no such layer with weights.
    """
    wanted = {
        id(variable)
        for layer in keras_internals.flatten_layers(model, include_self=False)
        if layer.name == layer_name
        for variable in layer.weights
    }
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
    """Writes the recorded norms into `gradient_norm.csv` after each epoch, a row for each step.

    A step that mixed_float16 skipped, since its gradients were not finite, has an empty norm.

    Args:
        path: The CSV file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self.norms = []
        self.applied = self._count_applied()

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # JAX updates the variables at the end of an epoch only.
        applied = self._count_applied()
        self.norms.append(self._optimizer.last_norm() if applied > self.applied else math.nan)
        self.applied = applied

    def on_epoch_end(self, epoch, logs=None):
        # The rows of an epoch that was interrupted are written again.
        before = read_gradient_norms(self.path)[: epoch * len(self.norms)] if epoch else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for step, norm in enumerate([*before, *self.norms], start=1):
            value = "" if math.isnan(norm) else f"{norm:.6g}"
            writer.writerow([step, (step - 1) // len(self.norms) + 1, value])
        write_text(self.path, text.getvalue())

    @property
    def _optimizer(self):
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _count_applied(self):
        return int(ops.convert_to_numpy(self._optimizer.iterations))


def read_gradient_norms(path):
    """Reads `gradient_norm.csv` as float64 `(steps,)`, NaN for skipped steps.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return np.array([float(row["norm"] or "nan") for row in csv.DictReader(file)])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"Cannot read {path}, which must hold the norm of a gradient for each step: {error}. "
            "Train with train.log_gradient_norm set to the name of a layer."
        ) from error
