"""Divides a model at its last feature maps, and computes the gradients of its logits there."""

import weakref

import keras
import numpy as np
from keras import ops

from kerasfer.keras_internals import node_of, nodes_from_the_output, run_through_graph

# The parts of each model. They are cached, because each part adds nodes to the layers, and because
# JAX compiles it.
_PARTS = weakref.WeakKeyDictionary()


class NoFeatureMap(ValueError):
    """Raised for a model without a feature map of several positions."""


class Cut:
    """Divides a model at its last feature maps into a front and a back model.

    Args:
        model: A functional `keras.Model` that ends in `kerasfer.layers.ClassProbabilities`. A
            nested model counts as one layer, unless its output has a single position.

    Attributes:
        front: `keras.Model` from pictures to a list of feature maps.
        back: `keras.Model` from a list of feature maps to logits.

    Raises:
        NoFeatureMap: If there is no feature map, if the logits depend on more than the last ones,
            or if the model has inputs other than pictures.
    """

    def __init__(self, model):
        model = _functional(model)
        if len(model.inputs) != 1:
            raise NoFeatureMap(f"The model {model.name} has inputs other than pictures.")
        if any(_is_pooled_away(layer) for layer in model.layers):
            outputs = run_through_graph(model, model.inputs, _call_opened)
            model = keras.Model(model.inputs, outputs)
        maps = _last_maps(model)
        # Not the last layer's `input`: the layer may be in two graphs.
        logits = node_of(model.outputs[0]).input_tensors[0]
        if not maps:
            raise NoFeatureMap(f"The model {model.name} has no spatial feature map to explain.")
        try:
            self.front = keras.Model(model.inputs, maps)
            self.back = keras.Model(maps, logits)
        except ValueError as error:
            raise NoFeatureMap(
                f"The classes of the model {model.name} depend on more than its last feature maps."
            ) from error
        self._gradients = _GRADIENTS[keras.backend.backend()](self.back)

    def maps(self, images):
        """Computes the feature maps of pictures.

        Args:
            images: float32 RGB `(n, S, S, 3)` in [0, 255].

        Returns:
            A list of tensors.
        """
        return [ops.convert_to_tensor(each) for each in compute(self.front, images)]

    def gradients(self, maps, class_index=None):
        """Computes the gradients of one logit per picture with respect to the feature maps.

        Args:
            maps: List of tensors, as `maps` returns them for n pictures.
            class_index: int, or int `(n,)`. `None` selects the most probable class of each.

        Returns:
            A list of float32 NumPy arrays with the shapes of the maps.
        """
        num_classes = self.back.outputs[0].shape[-1]
        if class_index is None:
            class_index = to_numpy(self.back(maps, training=False)).argmax(axis=1)
        chosen = np.eye(num_classes, dtype="float32")[np.asarray(class_index)]
        if chosen.ndim == 1:
            chosen = chosen[None]  # The same class for all pictures.
        gradients = self._gradients(maps, ops.convert_to_tensor(chosen))
        return [to_numpy(gradient) for gradient in gradients]


def cut(model):
    """Returns the `Cut` of a model. It is created once and cached."""
    return once(model, "cut", lambda: Cut(model))


def part(model, name, outputs):
    """Returns the model from `model.inputs` to `outputs()`. It is created once and cached."""
    return once(model, name, lambda: keras.Model(model.inputs, outputs()))


def once(model, name, make):
    """Returns the value of `make()`. It is cached for the lifetime of the model."""
    parts = _PARTS.setdefault(model, {})
    if name not in parts:
        parts[name] = make()
    return parts[name]


def compute(model, images):
    """Computes the list of the outputs of a model for one batch, without tracing a graph for it."""
    images = np.asarray(images, "float32")
    if keras.backend.backend() == "tensorflow":  # `predict_on_batch` would trace a graph.
        outputs = model([ops.convert_to_tensor(images)], training=False)
    else:
        outputs = model.predict_on_batch([images])
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def to_numpy(tensor):
    """Converts a tensor to a float32 NumPy array."""
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def _score(logits, chosen):
    # Pictures are independent at inference, so the gradient of the sum contains that of each.
    return ops.sum(ops.cast(logits, "float32") * chosen)


def _tensorflow(back):
    import tensorflow as tf

    def gradients(maps, chosen):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            score = _score(back(maps, training=False), chosen)
        return tape.gradient(score, maps, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return gradients


def _jax(back):
    import jax

    def score(maps, chosen, trained, others):
        logits, _ = back.stateless_call(trained, others, maps, training=False)
        return _score(logits, chosen)

    compiled = jax.jit(jax.grad(score))

    def gradients(maps, chosen):
        trained = [variable.value for variable in back.trainable_variables]
        others = [variable.value for variable in back.non_trainable_variables]
        return compiled(maps, chosen, trained, others)

    return gradients


def _torch(back):
    import torch

    def gradients(maps, chosen):
        maps = [each.detach().requires_grad_() for each in maps]
        with torch.enable_grad():
            score = _score(back(maps, training=False), chosen)
            return torch.autograd.grad(score, maps, allow_unused=True, materialize_grads=True)

    return gradients


# Keras has no gradient function that works on all backends.
_GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _last_maps(model):
    """Lists the feature maps on which no other feature map depends."""
    maps, used = [], set()  # `used` holds the tensors from which a later map is computed.
    for node in nodes_from_the_output(model):
        if node.is_input:
            continue
        if not any(id(tensor) in used for tensor in node.output_tensors):
            found = [tensor for tensor in node.output_tensors if _is_map(tensor.shape)]
            maps += found
            if not found:
                continue
        used |= {id(tensor) for tensor in node.input_tensors}
    return maps


def _is_map(shape):
    return len(shape) == 4 and all(side is not None and side > 1 for side in shape[1:3])


def _is_pooled_away(layer):
    """Returns whether a layer is a nested model with the output shape (batch, 1, 1, channels)."""
    return isinstance(layer, keras.Model) and any(
        tuple(tensor.shape[1:3]) == (1, 1) and len(tensor.shape) == 4 for tensor in layer.outputs
    )


def _call_opened(layer, *args, **kwargs):
    """Calls a layer. A nested model is replaced by its layers."""
    if not isinstance(layer, keras.Model):
        return layer(*args, **kwargs)
    return run_through_graph(_functional(layer), args[0], _call_opened)


def _functional(model):
    return (
        keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model
    )
