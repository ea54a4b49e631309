"""Optimizers with gradient centralization, and a learning-rate schedule with a linear warm-up.

They are separate from the training code, so that saved models load without it.
"""

import math
import warnings

import keras
from keras import ops

from kerasfer.keras_internals import flatten_layers, live_layers, position_in_optimizer
from kerasfer.layers.bimap import Stiefel

__all__ = [
    "GCAdam",
    "GCAdamW",
    "GCRMSprop",
    "GCSGD",
    "GradientCentralization",
    "centralization_axes",
]


class GradientCentralization:
    """Subtracts the mean over all axes but the output axis from the gradient of each kernel.

    The gradient g becomes g − mean(g), which constrains the weights of each output unit to a
    hyperplane. Training becomes smoother and generalizes better. The class is a mixin that comes
    before a Keras optimizer.

    The gradient is centralized after Keras' clipping and before momentum and moments. Decoupled
    weight decay (`weight_decay`) is not centralized. L2 regularizers are part of the gradient.

    **Axes.** An optimizer receives variables, not layers, and a depthwise kernel has the same shape
    and name as an ordinary one. When the optimizer is built, it therefore looks for the Keras layer
    that each variable belongs to, among all layers of the process, and uses the axes that
    `centralization_axes` describes. This holds for nested, shared, cloned and loaded models. All
    other variables are not centralized: biases, embeddings, recurrent cells, custom layers. The
    same is true of kernels on the Stiefel manifold, and of kernels whose mean would be taken over a
    single element, such as `Dense(1)` on one feature: their centralized gradient would be zero, and
    they would never change. A warning is given if no variable belongs to a layer with a kernel.

    Args:
        axes: Dict from variable paths to axes of the mean, to centralize other kernels or axes than
            those of Keras' layers. Only the listed variables are then centralized. A path also
            matches with leading names missing or added (`a/kernel` and `sequential/a/kernel`),
            since saving and loading a model can change those. A warning names the paths that match
            no variable.
        conv_only: Whether to exclude kernels of rank 2 and 3 (dense, attention).
        location: `"gradient"`, on the raw gradient, or `"update"`, on the step that the optimizer
            computes from it, as the authors recommend for Adam.

    Source: Yong et al., Gradient Centralization, ECCV 2020, equation (1); Lyu et al. 2024,
    equation (8). Other implementations override `get_gradients`, which Keras 3 never calls.
    """

    def __init__(self, *args, axes=None, conv_only=False, location="gradient", **kwargs):
        super().__init__(*args, **kwargs)
        if location not in ("gradient", "update"):
            raise ValueError(
                f"`location` must be 'gradient' or 'update'. Received: location={location!r}."
            )
        self.axes = None if axes is None else {path: tuple(a) for path, a in axes.items()}
        self.conv_only = conv_only
        self.location = location

    def build(self, variables):
        if not self.built:
            name = type(self).__name__
            if self.axes is None:
                axes = _axes_of_layers(variables, name)
            else:
                axes = _axes_by_path(variables, self.axes, name)
            pairs = zip(variables, axes, strict=True)
            self._mean_axes = tuple(self._unless_left_alone(v, over) for v, over in pairs)
        super().build(variables)

    def _unless_left_alone(self, variable, axes):
        """Returns the axes, or `None` for a variable whose gradient is not centralized."""
        rank = len(variable.shape)
        if not axes or rank < 2 or (self.conv_only and rank < 4):
            return None
        # The backends' own variables have no constraint.
        if isinstance(getattr(variable, "constraint", None), Stiefel):
            return None
        return axes if math.prod(variable.shape[axis] for axis in axes) > 1 else None

    def update_step(self, gradient, variable, learning_rate):
        if self.location == "gradient":
            gradient = self._centralize(gradient, variable)
        super().update_step(gradient, variable, learning_rate)

    # Keras' optimizers update a variable by one of these two methods. They also update momentums
    # and moments by them, which have no position among the trained variables.

    def assign_add(self, variable, value):
        if self.location == "update":
            value = self._centralize(value, variable)
        super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        if self.location == "update":
            value = self._centralize(value, variable)
        super().assign_sub(variable, value)

    def _centralize(self, value, variable):
        position = position_in_optimizer(self, variable)
        axes = None if position is None else self._mean_axes[position]
        return value - ops.mean(value, axis=axes, keepdims=True) if axes else value

    def get_config(self):
        axes = None if self.axes is None else {path: list(a) for path, a in self.axes.items()}
        return {
            **super().get_config(),
            "axes": axes,
            "conv_only": self.conv_only,
            "location": self.location,
        }


@keras.saving.register_keras_serializable(package="kerasfer")
class GCSGD(GradientCentralization, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile(GCSGD(0.1, momentum=0.9), "mse")
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCAdam(GradientCentralization, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile(GCAdam(1e-4, location="update"), "mse")
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCAdamW(GradientCentralization, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile(GCAdamW(1e-4, weight_decay=1e-2), "mse")
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCRMSprop(GradientCentralization, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile(GCRMSprop(1e-3), "mse")
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate linearly before another schedule begins.

    Args:
        schedule: A `LearningRateSchedule`, or a float for a constant rate. Its step 0 is the end
            of the warm-up.
        warmup_steps: Number of steps, at least 1. Step 0 trains at 1 / warmup_steps of the rate
            with which `schedule` begins.

    Example:
        >>> schedule = LinearWarmup(0.1, warmup_steps=1000)
        >>> round(float(schedule(499)), 6)
        0.05
    """

    def __init__(self, schedule, warmup_steps):
        super().__init__()
        if warmup_steps < 1:
            raise ValueError(
                f"`warmup_steps` must be at least 1. Received: warmup_steps={warmup_steps}."
            )
        self.schedule = schedule
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = self._rate(ops.maximum(step - self.warmup_steps, 0.0))
        return ops.minimum((step + 1) / self.warmup_steps, 1.0) * after

    def _rate(self, step):
        return self.schedule(step) if callable(self.schedule) else self.schedule

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {"schedule": schedule, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config):
        schedule = config["schedule"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(schedule, config["warmup_steps"])


def centralization_axes(model):
    """Lists the axes over which the gradient of each kernel of a model is centralized.

    The optimizers of this module find these axes automatically. Pass a modified dict as their
    `axes` argument to exclude layers or to add the kernels of custom layers.

    Dense and convolution kernels (..., in, out): all axes but the last. Transposed convolutions
    (..., out, in): all but the last too, as the authors' code does for PyTorch's (in, out, ...).
    Depthwise kernels (..., in, multiplier): the spatial axes, since each channel is a separate
    unit. Query, key and value projections (in, heads, dim): axis 0; an attention's output
    projection (heads, dim, out): axes 0 and 1. Anything else is not listed: embeddings,
    normalizations, recurrent cells, low-rank adapters, `BiMap`.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        A dict from variable paths to axes, including those of frozen kernels.

    Raises:
        ValueError: If the model is not built, or if kernels of two layers of different kinds have
            the same path.

    Example:
        >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="scores")]
        >>> centralization_axes(keras.Sequential(layers, name="model"))
        {'model/scores/kernel': (0,)}

    Source: Yong et al., ECCV 2020; the depthwise rule follows from their definition of a unit.
    """
    if not model.built:
        raise ValueError(
            "The model must be built, so that its kernels exist. Received: an unbuilt model named "
            f"{model.name!r}. Call it on a batch, or use `model.build(input_shape)`."
        )
    axes = {}
    for layer in flatten_layers(model):
        for variable, over in _layer_axes(layer):
            if axes.setdefault(variable.path, over) != over:
                raise ValueError(
                    "The kernels of two layers of different kinds must not have the same path. "
                    f"Received: two kernels at {variable.path!r}. Rename one of the layers, or "
                    "omit `axes`, so that the optimizer does not need the paths."
                )
    return axes


def _axes_of_layers(variables, optimizer_name):
    """Finds the axes of each variable by its layer."""
    axes = {id(v): over for layer in live_layers() for v, over in _layer_axes(layer)}
    found = [axes.get(id(variable)) for variable in variables]
    if not any(found) and any(len(variable.shape) > 1 for variable in variables):
        warnings.warn(
            f"{optimizer_name} centralizes no gradient, because none of its variables is the "
            "kernel of a Keras layer. Pass the axes of the means: axes={variable path: axes}.",
            stacklevel=4,
        )
    return found


def _axes_by_path(variables, axes, optimizer_name):
    """Finds the axes of each variable by its path."""
    kernels = [pair for layer in live_layers() for pair in _layer_axes(layer)]
    by_layer = {id(kernel): over for kernel, over in kernels}
    paths = [_path(variable) for variable in variables]
    moved = [path for path in axes if path not in paths]
    found, used = [], set(paths)
    for variable, path in zip(variables, paths, strict=True):
        matches = [path] if path in axes else [each for each in moved if _is_same(path, each)]
        used.update(matches)
        over = {axes[match] for match in matches}
        if len(over) > 1:  # Several layers have this path, so the kind decides.
            over &= {by_layer.get(id(variable))}
            if not over:
                raise ValueError(
                    "The paths in `axes` must distinguish the variables. Received: "
                    f"{' and '.join(matches)} with different axes, for a variable at {path}."
                )
        rank = len(variable.shape)
        if any(not 0 <= axis < rank for each in over for axis in each):
            raise ValueError(
                f"The axes of {path} must be between 0 and {rank - 1}. Received: {over.pop()}."
            )
        found.append(over.pop() if over else None)
    used |= {kernel.path for kernel, _ in kernels if not kernel.trainable}
    if unknown := [path for path in axes if path not in used]:
        warnings.warn(
            f"{optimizer_name} trains no variable with these paths, which `axes` lists: "
            f"{', '.join(unknown)}. Leave out `axes` to find the kernels by their layers.",
            stacklevel=4,
        )
    return found


def _path(variable):
    """Returns the path of a variable, or the name of a variable of the backend."""
    return variable.path if isinstance(variable, keras.Variable) else variable.name.split(":")[0]


def _is_same(path, other):
    """Returns whether two paths differ in leading names only."""
    return f"/{path}".endswith(f"/{other}") or f"/{other}".endswith(f"/{path}")


def _layer_axes(layer):
    """Lists the kernels of one layer, without its sublayers, with the axes of their means."""
    layers = keras.layers
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        kept = {"depthwise_kernel": 2, "pointwise_kernel": 1}
    elif isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        kept = {"kernel": 2}
    elif isinstance(layer, (layers.EinsumDense, layers.Dense, *_CONVOLUTIONS)):
        kept = {"kernel": 1}
    else:
        return []
    # By name, since with a low-rank adapter the attribute `kernel` is a sum and not a variable.
    kernels = [v for v in layer.weights if v.name in kept] if layer.built else []
    if isinstance(layer, layers.EinsumDense):
        # (in, heads, dim) has two output axes, (heads, dim, out) has one. The equation says which.
        names, outputs = layer.equation.split(",")[1].split("->")
        summed = tuple(i for i, name in enumerate(names) if name not in outputs)
        return [(kernel, summed) for kernel in kernels]
    return [(kernel, tuple(range(len(kernel.shape) - kept[kernel.name]))) for kernel in kernels]


_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
