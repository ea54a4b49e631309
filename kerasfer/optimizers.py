"""Optimizers with gradient centralization: each kernel's gradient has mean zero per output unit."""

import keras
from keras import ops

from kerasfer.layers.bimap import Stiefel


class GradientCentralization:
    """Subtracts from each kernel's gradient its mean over all axes but the output's.

    g ← g − mean(g), which constrains the weights of each output unit to a hyperplane: training is
    smoother and generalises better. Mix it in before a Keras optimizer.

    The gradient is centralized after Keras' clipping and before momentum and moments. Decoupled
    weight decay (`weight_decay`) stays outside; L2 regularisers are part of the gradient.

    **Which axes.** An optimizer sees variables, not layers, and a depthwise kernel looks like any
    other. Give `axes=centralization_axes(model)` to be exact. Without it the last axis is taken to
    be the output's for every kernel of rank 2, 4 or 5 (rank 3, a `Conv1D` or an attention
    projection: axis 0 cannot be told, so the last axis too), and names decide what is left alone:
    kernels must end in `kernel`, so that embeddings and biases do not count. Kernels on the Stiefel
    manifold are always left alone.

    Args:
        axes: `{variable path: axes of the mean}`, from `centralization_axes`; `None` assumes.
        conv_only: Whether to leave kernels of rank 2 and 3 (dense, attention) alone.
        location: `"gradient"`, on the raw gradient, or `"update"`, on the step that the optimizer
            makes of it, as the authors advise for Adam.

    Source: Yong et al., Gradient Centralization, ECCV 2020, equation (1); Lyu et al. 2024,
    equation (8). Keras never calls `get_gradients`, which other code overrides to this end.
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

    def update_step(self, gradient, variable, learning_rate):
        if self.location == "gradient":
            gradient = self._centralize(gradient, variable)
        super().update_step(gradient, variable, learning_rate)

    # An optimizer moves the variable itself by one of these two; its own slots have other paths.

    def assign_add(self, variable, value):
        if self.location == "update":
            value = self._centralize(value, variable)
        super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        if self.location == "update":
            value = self._centralize(value, variable)
        super().assign_sub(variable, value)

    def _centralize(self, value, variable):
        axes = self._mean_axes(variable)
        return value - ops.mean(value, axis=axes, keepdims=True) if axes else value

    def _mean_axes(self, variable):
        # TensorFlow hands its own variables in; the model's, with their paths, are in this list.
        index = self._trainable_variables_indices.get(self._var_key(variable))
        if index is None:
            return None
        variable = self._trainable_variables[index]
        rank = len(variable.shape)
        if rank < 2 or (self.conv_only and rank < 4) or isinstance(variable.constraint, Stiefel):
            return None
        if self.axes is not None:
            return self.axes.get(variable.path)
        return tuple(range(rank - 1)) if variable.path.endswith("/kernel") else None

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
        >>> model.compile(GCSGD(0.1, momentum=0.9, axes=centralization_axes(model)))
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCAdam(GradientCentralization, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model.compile(GCAdam(1e-4, axes=centralization_axes(model), location="update"))
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCAdamW(GradientCentralization, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model.compile(GCAdamW(1e-4, weight_decay=1e-2, axes=centralization_axes(model)))
    """


@keras.saving.register_keras_serializable(package="kerasfer")
class GCRMSprop(GradientCentralization, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` with gradient centralization; see `GradientCentralization`.

    Example:
        >>> model.compile(GCRMSprop(1e-3, axes=centralization_axes(model)))
    """


def centralization_axes(model):
    """Reads off a model's layers over which axes each kernel's gradient is centralized.

    Dense and convolution kernels (..., in, out): all axes but the last. Transposed convolutions
    (..., out, in): all but the last too, as the authors' code does for PyTorch's (in, out, ...).
    Depthwise kernels (..., in, multiplier): the spatial axes, since each channel is a unit of its
    own. Query, key and value projections (in, heads, dim): axis 0; an attention's output
    projection (heads, dim, out): axes 0 and 1. Anything else, embeddings, normalisations,
    recurrent cells, `BiMap`, is left alone.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        `{variable path: axes}`, for the argument `axes` of the optimizers here.

    Raises:
        ValueError: Where two layers of different kinds give their kernels one path.

    Example:
        >>> axes = centralization_axes(model)

    Source: Yong et al., ECCV 2020; the depthwise rule follows from their definition of a unit.
    """
    axes = {}
    for layer in model._flatten_layers():
        for variable, over in _layer_axes(layer):
            if axes.setdefault(variable.path, over) != over:
                raise ValueError(
                    "Layers of different kinds must not share a name, so that each kernel is "
                    f"known by its path. Received: two kernels at {variable.path!r}."
                )
    return axes


def _layer_axes(layer):
    layers = keras.layers
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
        return [(depthwise, _first(depthwise, 2)), (pointwise, _first(pointwise, 1))]
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return [(layer.kernel, _first(layer.kernel, 2))]
    if isinstance(layer, layers.EinsumDense):
        # (in, heads, dim) has two output axes, (heads, dim, out) one: the equation says which.
        kernel, outputs = layer.equation.split(",")[1].split("->")
        return [(layer.kernel, tuple(i for i, axis in enumerate(kernel) if axis not in outputs))]
    convolutions = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
    transposed = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    if isinstance(layer, (layers.Dense, *convolutions, *transposed)):
        return [(layer.kernel, _first(layer.kernel, 1))]
    return []


def _first(variable, kept):
    """All axes but the last `kept`."""
    return tuple(range(len(variable.shape) - kept))
