"""The private members of Keras that kerasfer uses still exist and do what it needs."""

import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kerasfer import keras_internals

ROOT = Path(__file__).parents[1]


def nested_model():
    inner_input = keras.Input((4,), name="inner_input")
    inner = keras.Model(inner_input, layers.Dense(3, name="inside")(inner_input), name="inner")
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    x = shared(shared(inputs))
    return keras.Model(inputs, layers.ReLU(name="relu")(inner(x)))


def test_the_version_of_keras_is_supported():
    assert keras.__version__ in SpecifierSet(keras_internals.SUPPORTED)


def test_the_supported_versions_are_those_that_can_be_installed():
    with open(ROOT / "pyproject.toml", "rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    (required,) = (r for r in map(Requirement, dependencies) if r.name == "keras")
    assert required.specifier == SpecifierSet(keras_internals.SUPPORTED)


def test_private_members_are_used_in_one_module_only():
    members = [
        "_flatten_layers",
        "_run_through_graph",
        "_nodes_by_depth",
        "_inbound_nodes",
        "_keras_history",
        "_trainable_variables_indices",
        "_var_key",
        "_get_variable_index",
        "_model_variables_moving_average",
        "optimizer._trainable_variables",
        "self._trainable_variables",
        "model._functional",
        '"_functional"',
    ]
    for path in sorted((ROOT / "kerasfer").rglob("*.py")):
        if path.name == "keras_internals.py":
            continue
        text = path.read_text(encoding="utf-8")
        assert [member for member in members if member in text] == [], path


def test_flatten_layers():
    inputs = keras.Input((4,))
    x = layers.Reshape((3, 1))(nested_model()(inputs))
    x = layers.MultiHeadAttention(1, 2, name="attention")(x, x)
    model = keras.Model(inputs, x)
    names = [layer.name for layer in keras_internals.flatten_layers(model)]
    assert names[0] == model.name and len(names) == len(set(names))
    assert {"shared", "inner", "inside", "attention", "query"} <= set(names)
    assert model.name not in [
        layer.name for layer in keras_internals.flatten_layers(model, include_self=False)
    ]


def test_live_layers():
    model = nested_model()
    alone = layers.Dense(2, name="alone")
    live = {id(layer) for layer in keras_internals.live_layers()}
    assert {id(layer) for layer in keras_internals.flatten_layers(model)} | {id(alone)} <= live


def test_run_through_graph():
    model = nested_model()
    called = []

    def call(layer, *args, **kwargs):
        called.append(layer.name)
        return layer(*args, **kwargs)

    x = np.random.default_rng(0).standard_normal((2, 4)).astype("float32")
    outputs = keras_internals.run_through_graph(model, ops.convert_to_tensor(x), call)
    assert called == ["shared", "shared", "inner", "relu"]
    expected = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, rtol=1e-6)


def test_nodes():
    model = nested_model()
    nodes = keras_internals.nodes_from_the_output(model)
    names = [node.operation.name for node in nodes if not node.is_input]
    assert names == ["relu", "inner", "shared", "shared"]
    assert nodes[0].output_tensors[0] is model.outputs[0]
    # The input of the last call of a shared layer is the output of its first call.
    last, first = (node for node in nodes if node.operation.name == "shared")
    assert last.input_tensors[0] is first.output_tensors[0]
    assert keras_internals.node_of(first.output_tensors[0]) is first
    assert keras_internals.last_node_of(model.get_layer("shared")) is last
    assert keras_internals.last_node_of(layers.Dense(1)) is None


def test_variables_and_averages():
    model = nested_model()
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, "mse")
    start = model.get_weights()
    model.optimizer.build(model.trainable_variables)
    gradients = [ops.ones(variable.shape) for variable in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    pairs = keras_internals.variables_and_averages(optimizer)
    assert [id(variable) for variable, _ in pairs] == [id(v) for v in model.trainable_variables]
    for (variable, average), old in zip(pairs, start, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), old - 1, rtol=1e-5)
        # The average begins at the first value of the variables.
        np.testing.assert_allclose(ops.convert_to_numpy(average), old - 1, rtol=1e-5)


def test_position_in_optimizer():
    model = nested_model()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    for index, variable in enumerate(model.trainable_variables):
        assert keras_internals.position_in_optimizer(optimizer, variable) == index
        if keras.backend.backend() == "tensorflow":
            assert keras_internals.position_in_optimizer(optimizer, variable.value) == index
    for variable in optimizer.variables:
        assert keras_internals.position_in_optimizer(optimizer, variable) is None


def test_a_missing_member_is_named():
    with pytest.raises(RuntimeError) as error:
        keras_internals.flatten_layers(object())
    assert str(error.value) == (
        "kerasfer relies on Keras' `object._flatten_layers`, which is missing in Keras "
        f"{keras.__version__}. Install a supported version: keras>=3.15,<3.16."
    )
