"""Checks that every layer of kerasfer must pass, on the backend of KERAS_BACKEND."""

import inspect
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

HALF_POLICIES = ("mixed_float16", "mixed_bfloat16")


def check_layer(make, *inputs, half_tolerance=0.05, learns=True):
    """Checks one layer: config, shapes, saving, half precision and a step of training.

    Args:
        make: Returns a new layer; takes the keyword arguments of `keras.layers.Layer`.
        *inputs: float32 arrays, one for each of the layer's inputs, the batch first.
        half_tolerance: Largest error of the result under half-precision policies, in units of its
            largest entry.
        learns: Whether gradients flow back to the inputs.
    """
    check_config(make)
    check_shapes(make, inputs)
    check_saving(make, inputs)
    check_half_precision(make, inputs, half_tolerance)
    check_training(make, inputs, learns)


def check_config(make):
    layer = make(name="layer")
    config = layer.get_config()
    arguments = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    for argument in arguments:
        assert hasattr(layer, argument) and argument in config, argument
    json.dumps(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert serialized["registered_name"] == f"kerasfer>{type(layer).__name__}"
    assert keras.saving.deserialize_keras_object(serialized).get_config() == config


def check_shapes(make, inputs):
    layer = make()
    eager = layer(_one_or_all([ops.convert_to_tensor(x) for x in inputs]))
    symbols = [keras.Input(x.shape[1:], dtype="float32") for x in inputs]
    symbolic = make()(_one_or_all(symbols))
    assert tuple(symbolic.shape) == (None, *eager.shape[1:])
    assert symbolic.dtype == keras.backend.standardize_dtype(eager.dtype) == "float32"
    computed = make().compute_output_shape(_one_or_all([x.shape for x in inputs]))
    assert tuple(computed) == tuple(eager.shape)
    assert layer.built
    assert _finite(eager)


def check_saving(make, inputs):
    model = _model(make, inputs)
    expected = ops.convert_to_numpy(model(_one_or_all(inputs)))
    again = _saved_and_loaded(model)
    # A saved layer is complete: it has its type, its options and its weights.
    np.testing.assert_array_equal(ops.convert_to_numpy(again(_one_or_all(inputs))), expected)
    for loaded, saved in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


def check_half_precision(make, inputs, tolerance):
    exact_layer = make()
    exact = ops.convert_to_numpy(
        exact_layer(_one_or_all([ops.convert_to_tensor(x) for x in inputs]))
    )
    for policy in HALF_POLICIES:
        layer = make(dtype=policy)
        symbols = [keras.Input(x.shape[1:], dtype="float32") for x in inputs]
        symbolic = layer(_one_or_all(symbols))
        layer.set_weights(exact_layer.get_weights())
        half = [ops.cast(x, policy.removeprefix("mixed_")) for x in inputs]
        result = layer(_one_or_all(half))
        assert keras.backend.standardize_dtype(result.dtype) == symbolic.dtype
        assert _finite(result)
        error = np.abs(ops.convert_to_numpy(ops.cast(result, "float32")) - exact).max()
        assert error <= tolerance * np.abs(exact).max(), policy
        assert all(weight.dtype == "float32" for weight in layer.trainable_weights)


def check_training(make, inputs, learns):
    model = _model(make, inputs, scaled=learns)
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((len(inputs[0]), 1)).astype("float32")
    losses = model.fit(_one_or_all(inputs), targets, batch_size=len(targets), verbose=0)
    assert np.isfinite(losses.history["loss"]).all()
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = ops.convert_to_numpy(weight)
        assert np.isfinite(new).all(), weight.path
        assert np.any(new != old), weight.path


@keras.saving.register_keras_serializable(package="kerasfer_tests")
class Scale(keras.layers.Layer):
    """Multiplies the last axis by weights that begin at 1 and change if they receive gradients."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape


def _model(make, inputs, scaled=True):
    symbols = [keras.Input(x.shape[1:], dtype="float32") for x in inputs]
    hidden = [Scale()(x) for x in symbols] if scaled else symbols
    x = make()(_one_or_all(hidden))
    return keras.Model(_one_or_all(symbols), keras.layers.Dense(1)(keras.layers.Flatten()(x)))


def _saved_and_loaded(model):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def _one_or_all(values):
    return values[0] if len(values) == 1 else list(values)


def _finite(x):
    return np.isfinite(ops.convert_to_numpy(ops.cast(x, "float32"))).all()
