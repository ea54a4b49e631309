"""The private members of Keras that kerasfer relies on, all in this module.

Each function says why it is needed and which public API would replace it. The members exist in the
versions of Keras that `SUPPORTED` names, which are those that `pyproject.toml` allows. In a version
without one of them the functions raise a `RuntimeError` that names the member.
"""

import gc

import keras

SUPPORTED = ">=3.15,<3.16"


def flatten_layers(layer, include_self=True):
    """Lists a layer's or model's sublayers, at any depth.

    Reason: `Model.layers` lists one level, and a layer that is not a model, such as
    `MultiHeadAttention`, has no public list of its sublayers at all.
    Public replacement: a recursive `Layer.layers`.

    Args:
        layer: A `keras.Layer` or `keras.Model`, built or not.
        include_self: Whether the list begins with `layer` itself.

    Returns:
        A list of layers, each once.
    """
    return list(_member(layer, "_flatten_layers")(include_self=include_self))


def live_layers():
    """Lists the layers of this process, whichever model they belong to, or none.

    Reason: an optimizer is built with a list of variables. A variable does not refer to its layer,
    and the same shape and name can belong to a convolution or to a depthwise convolution. The
    search visits the objects that Python's garbage collector tracks, in about 0.3 seconds.
    Public replacement: a reference from `keras.Variable` to its layer.

    Returns:
        A list of `keras.Layer`, in no particular order.
    """
    objects = gc.get_objects()
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, keras.Layer)}
    return [each for each in objects if type(each) in kinds]


def run_through_graph(model, inputs, call_layer):
    """Calls the layers of a functional model on other inputs, each by a function.

    Reason: opens nested models, layer by layer, inside of another model's graph.
    Public replacement: `keras.models.clone_model(call_function=...)`, once it can begin at tensors
    in the middle of a graph. Today it copies the graph that leads to them.

    Args:
        model: A functional `keras.Model`. For a `Sequential` model pass
            `keras.Model(model.inputs, model.outputs)`.
        inputs: Tensors or symbolic tensors, structured as the model's inputs.
        call_layer: Function `(layer, *args, **kwargs)` that returns the layer's outputs.

    Returns:
        The outputs, structured as the model's.
    """
    return _member(model, "_run_through_graph")(inputs, call_fn=call_layer)


def nodes_from_the_output(model):
    """Lists the calls of layers that make up a functional model, the last ones first.

    Reason: a layer that is called twice has two places in the graph, and `layer.input` raises an
    error for it.
    Public replacement: a public list of nodes, as `Model.operations` is one of layers.

    Args:
        model: A functional `keras.Model`.

    Returns:
        A list of nodes with the attributes `operation`, `input_tensors`, `output_tensors` and
        `is_input`.
    """
    by_depth = _member(model, "_nodes_by_depth")
    return [node for depth in sorted(by_depth) for node in by_depth[depth]]


def node_of(tensor):
    """Returns the call of a layer that made a symbolic tensor.

    Reason: follows the graph upstream from a tensor, also where a layer is in several graphs.
    Public replacement: none yet; `layer.input` is ambiguous for a layer that is called twice.

    Args:
        tensor: A symbolic `keras.KerasTensor` of a functional model.

    Returns:
        The node, with the attributes that `nodes_from_the_output` lists.
    """
    history = _member(tensor, "_keras_history")
    return _member(history.operation, "_inbound_nodes")[history.node_index]


def last_node_of(layer):
    """Returns the most recent symbolic call of a layer, or `None` if there was none.

    Reason: the layers of a `Sequential` model that was never built have no place in a graph, which
    `layer.input` reports by an error only.
    Public replacement: as for `node_of`.
    """
    nodes = _member(layer, "_inbound_nodes")
    return nodes[-1] if nodes else None


def variables_and_averages(optimizer):
    """Pairs each variable that an optimizer trains with its moving average.

    Reason: validates and saves with the averages, and restores the weights exactly afterwards.
    Public replacement: `optimizer.finalize_variable_values`, if it returned the averages instead of
    overwriting the variables.

    Args:
        optimizer: A built `keras.optimizers.Optimizer` with `use_ema=True`.

    Returns:
        A list of pairs of `keras.Variable`, without variables that Keras does not average.
    """
    averages = _member(optimizer, "_model_variables_moving_average")
    pairs = zip(_member(optimizer, "_trainable_variables"), averages, strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def position_in_optimizer(optimizer, variable):
    """Returns the position of a variable among those that an optimizer was built with.

    Reason: an optimizer's `update_step` receives the backend's variable, such as `tf.Variable`.
    Keras documents `_get_variable_index` for custom optimizers, but it fails for the optimizer's
    own variables, such as a momentum.
    Public replacement: `Optimizer.get_variable_index` with a default.

    Args:
        optimizer: A built `keras.optimizers.Optimizer`.
        variable: A `keras.Variable` or the backend's own.

    Returns:
        An integer, or `None` for a variable that the optimizer does not train.
    """
    try:
        return _member(optimizer, "_get_variable_index")(variable)
    except KeyError:
        return None


def _member(owner, name):
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise RuntimeError(
            f"kerasfer relies on Keras' `{type(owner).__name__}.{name}`, which is missing in Keras "
            f"{keras.__version__}. Install a supported version: keras{SUPPORTED}."
        ) from error
