import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import FusedBatchNormalization

MAPS = (np.random.default_rng(0).normal(size=(8, 6, 5, 16)) * 3 + 1).astype("float32")


def both(**options):
    """Returns Keras' layer and ours, built for the maps, with the same random weights."""
    pair = keras.layers.BatchNormalization(**options), FusedBatchNormalization(**options)
    for layer in pair:
        layer.build(MAPS.shape)
    weights = [
        np.random.default_rng(number).uniform(0.5, 2, weight.shape).astype("float32")
        for number, weight in enumerate(pair[0].weights)
    ]
    for layer in pair:
        layer.set_weights(weights)
    return pair


def test_layer():
    check_layer(FusedBatchNormalization, MAPS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_equals_keras(training, policy):
    keras_own, fused = both(dtype=policy, momentum=0.9)
    expected = ops.convert_to_numpy(ops.cast(keras_own(MAPS, training=training), "float32"))
    outputs = ops.convert_to_numpy(ops.cast(fused(MAPS, training=training), "float32"))
    np.testing.assert_allclose(outputs, expected, atol=1e-5 if policy == "float32" else 0.05)
    for weight, same in zip(fused.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(weight, same, rtol=1e-5)


def test_training_equals_keras():
    trained = []
    for layer in both():
        inputs = keras.Input(MAPS.shape[1:])
        model = keras.Model(inputs, layer(keras.layers.Conv2D(16, 3, name="conv")(inputs)))
        model.get_layer("conv").set_weights(
            [MAPS[:3, :3, 0, :, None] * np.ones(16) / 9, MAPS[0, 0, 0]]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(MAPS, MAPS[:, 1:-1, 1:-1], batch_size=4, epochs=3, shuffle=False, verbose=0)
        trained.append(model.get_weights())
    for expected, weight in zip(*trained, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=2e-3, atol=2e-4)


def test_frozen_layer_keeps_its_statistics():
    layer = both()[1]
    layer.trainable = False
    before = layer.get_weights()
    layer(MAPS, training=True)
    for weight, same in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.parametrize("options", [{"axis": 1}, {"scale": False}, {"center": False}])
def test_other_options_fall_back_to_keras(options):
    keras_own, fused = both(**options)
    expected = ops.convert_to_numpy(keras_own(MAPS, training=True))
    np.testing.assert_allclose(
        ops.convert_to_numpy(fused(MAPS, training=True)), expected, atol=1e-6
    )
