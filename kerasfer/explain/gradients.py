"""Where a model can be cut, so that its classes can be traced back to a feature map."""

import weakref

import keras
import numpy as np
from keras import ops

# Each part adds nodes to the layers, and JAX compiles it: once a model is enough.
_PARTS = weakref.WeakKeyDictionary()


class NoFeatureMap(ValueError):
    """A model cannot be shown at work: no feature map, or one of a single position."""


class Cut:
    """Cuts a model at its last feature maps: pictures → maps → logits.

    Args:
        model: a functional `keras.Model` that ends in `kerasfer.layers.ClassProbabilities`. Nested
            models are taken as one layer each, unless what they return has a single position.

    Attributes:
        front: `keras.Model`, pictures → list of feature maps.
        back: `keras.Model`, list of feature maps → logits.

    Raises:
        NoFeatureMap: there is none, the logits depend on more than the last ones, or the model on
            more than pictures.
    """

    def __init__(self, model):
        model = getattr(model, "_functional", model)  # what a Sequential holds
        if len(model.inputs) != 1:
            raise NoFeatureMap(f"The model {model.name} takes more than pictures.")
        if any(_is_pooled_away(layer) for layer in model.layers):
            outputs = model._run_through_graph(model.inputs, call_fn=_call_opened)
            model = keras.Model(model.inputs, outputs)
        maps = _last_maps(model)
        history = model.outputs[0]._keras_history
        # Not the last layer's `input`: opened, the layer is in two graphs.
        logits = history.operation._inbound_nodes[history.node_index].input_tensors[0]
        if not maps:
            raise NoFeatureMap(f"The model {model.name} has no feature map of several positions.")
        try:
            self.front = keras.Model(model.inputs, maps)
            self.back = keras.Model(maps, logits)
        except ValueError as error:
            raise NoFeatureMap(
                f"The classes of the model {model.name} depend on more than its last feature maps."
            ) from error
        self._gradients = _GRADIENTS[keras.backend.backend()](self.back)

    def maps(self, images):
        """Computes the feature maps of pictures, float32 `(n, S, S, 3)`: a list of tensors."""
        return [ops.convert_to_tensor(each) for each in run(self.front, images)]

    def gradients(self, maps, class_index=None):
        """Computes how the logits of one class a picture change with the feature maps.

        Args:
            maps: list of tensors, as `maps` returns them for n pictures.
            class_index: int, or int `(n,)`; None for the most probable class of each.

        Returns:
            float32 NumPy arrays, shaped as the maps.
        """
        num_classes = self.back.outputs[0].shape[-1]
        if class_index is None:
            class_index = to_numpy(self.back(maps, training=False)).argmax(axis=1)
        chosen = np.eye(num_classes, dtype="float32")[np.asarray(class_index)]
        if chosen.ndim == 1:
            chosen = chosen[None]  # of all pictures
        gradients = self._gradients(maps, ops.convert_to_tensor(chosen))
        return [to_numpy(gradient) for gradient in gradients]


def cut(model):
    """Returns the `Cut` of a model, made once."""
    return once(model, "cut", lambda: Cut(model))


def part(model, name, outputs):
    """Returns the part of a model from its inputs to what `outputs()` returns, made once."""
    return once(model, name, lambda: keras.Model(model.inputs, outputs()))


def once(model, name, make):
    """Returns what `make()` makes of a model, made once as long as the model lives."""
    parts = _PARTS.setdefault(model, {})
    if name not in parts:
        parts[name] = make()
    return parts[name]


def run(model, images):
    """Computes the outputs of a model for pictures, a list, in whatever way is fastest once."""
    images = np.asarray(images, "float32")
    if keras.backend.backend() == "tensorflow":  # which would first trace a graph
        outputs = model([ops.convert_to_tensor(images)], training=False)
    else:
        outputs = model.predict_on_batch([images])
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def _score(logits, chosen):
    # At inference no picture touches another: the gradient of the sum is that of each.
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


# Keras has no gradient of its own that all backends share.
_GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _last_maps(model):
    """Lists the feature maps on which no other depends."""
    maps, above = [], set()  # above: tensors that a later map was made from
    for depth in sorted(model._nodes_by_depth):  # from the output to the input
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            if not any(id(tensor) in above for tensor in node.output_tensors):
                found = [tensor for tensor in node.output_tensors if _is_map(tensor.shape)]
                maps += found
                if not found:
                    continue
            above |= {id(tensor) for tensor in node.input_tensors}
    return maps


def _is_map(shape):
    return len(shape) == 4 and all(side is not None and side > 1 for side in shape[1:3])


def _is_pooled_away(layer):
    """Whether a nested model returns (batch, 1, 1, channels): where was it seen, inside?"""
    return isinstance(layer, keras.Model) and any(
        tuple(tensor.shape[1:3]) == (1, 1) and len(tensor.shape) == 4 for tensor in layer.outputs
    )


def _call_opened(layer, *args, **kwargs):
    """Calls a layer; of a nested model, its layers one by one."""
    if not isinstance(layer, keras.Model):
        return layer(*args, **kwargs)
    inner = getattr(layer, "_functional", layer)
    return inner._run_through_graph(args[0], call_fn=_call_opened)
