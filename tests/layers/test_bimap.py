import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from spectral_oracle import spread, value_and_gradient

from kerasfer import linalg
from kerasfer.layers import BiMap, Stiefel
from kerasfer.optimizers import GCAdamW

pytestmark = pytest.mark.usefixtures("seed")


def distance_to_stiefel(kernel):
    kernel = ops.convert_to_numpy(kernel).astype("float64")
    return np.linalg.norm(kernel @ kernel.T - np.eye(len(kernel)))


@pytest.mark.parametrize("units", [1, 3, 6])
def test_as_a_keras_layer(units):
    check_layer(lambda **kwargs: BiMap(units, **kwargs), spread(1e1, size=6))


def test_initializers_of_every_form_round_trip():
    for initializer in ("glorot_normal", keras.initializers.RandomNormal(seed=1)):
        layer = BiMap(2, kernel_initializer=initializer)
        again = BiMap.from_config(layer.get_config())
        assert type(again.kernel_initializer) is type(layer.kernel_initializer)
        again.build((None, 5, 5))
        assert distance_to_stiefel(again.kernel) < 1e-5


def test_by_hand():
    layer = BiMap(2)
    layer.build((None, 3, 3))
    layer.set_weights([np.array([[0, 1, 0], [0, 0, -1]], "float32")])
    x = np.array([[[1, 2, 3], [2, 4, 5], [3, 5, 6]]], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), [[[4, -5], [-5, 6]]])


def test_definite_matrices_stay_definite():
    x = spread(1e3, size=12)
    values = np.linalg.eigvalsh(ops.convert_to_numpy(BiMap(5)(x)).astype("float64"))
    # By Cauchy's interlacing the values lie between the smallest and the largest of the input.
    assert values.min() > 0.9e-3 and values.max() < 1 + 1e-5


def _train(optimizer, steps, size=8, units=4):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * steps, size, size)).astype("float32")
    x = x @ x.transpose(0, 2, 1) / size
    y = np.linalg.eigvalsh(x)[:, -1:]  # the largest eigenvalue, which one row of W can learn
    inputs = keras.Input((size, size))
    bimap = BiMap(units, name="bimap")
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(bimap(inputs)))
    model = keras.Model(inputs, outputs)
    start = ops.convert_to_numpy(bimap.kernel)
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    assert model.optimizer.iterations == steps
    return start, bimap.kernel


def test_the_kernel_stays_on_the_manifold_for_a_thousand_steps():
    start, kernel = _train(GCAdamW(1e-2, weight_decay=0.1), steps=1000)
    assert distance_to_stiefel(kernel) <= 1e-5
    assert np.linalg.norm(ops.convert_to_numpy(kernel) - start) > 0.3


def test_the_kernel_stays_on_the_manifold_under_large_steps():
    start, kernel = _train(keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0), steps=100)
    assert distance_to_stiefel(kernel) <= 1e-5
    assert np.linalg.norm(ops.convert_to_numpy(kernel) - start) > 0.3


def test_the_gradient_is_tangent_to_the_manifold():
    w = np.linalg.qr(np.random.default_rng(0).standard_normal((7, 7)))[0][:3].astype("float32")
    g = np.random.default_rng(1).standard_normal((3, 7)).astype("float32")
    y, tangent = value_and_gradient(linalg.on_stiefel, w, g)
    np.testing.assert_array_equal(y, w)
    assert np.abs(w @ tangent.T + tangent @ w.T).max() < 1e-5
    # What it took away is normal to the manifold: (a symmetric matrix) W.
    normal = (g - tangent) @ w.T
    np.testing.assert_allclose(normal, normal.T, atol=1e-5)
    np.testing.assert_allclose(g - tangent, normal @ w, atol=1e-5)
    # Projecting again changes nothing.
    np.testing.assert_allclose(
        value_and_gradient(linalg.on_stiefel, w, tangent)[1], tangent, atol=1e-5
    )


def test_retraction_is_the_polar_factor():
    rng = np.random.default_rng(0)
    start = np.linalg.qr(rng.standard_normal((9, 9)))[0][:4]
    for step in (0.01, 0.3):
        w = (start + step * rng.standard_normal((4, 9))).astype("float32")
        left, _, right = np.linalg.svd(w.astype("float64"), full_matrices=False)
        retracted = ops.convert_to_numpy(linalg.retract(ops.convert_to_tensor(w)))
        np.testing.assert_allclose(retracted, left @ right, atol=1e-5)


def test_retraction_undoes_weight_decay():
    w = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0][:4].astype("float32")
    for scale in (0.1, 0.999, 3.0):
        retracted = ops.convert_to_numpy(Stiefel()(ops.convert_to_tensor(scale * w)))
        np.testing.assert_allclose(retracted, w, atol=1e-6)


def test_too_many_units_are_an_error():
    with pytest.raises(ValueError, match="must not exceed the input size.* units=5, .*4, 4"):
        BiMap(5)(keras.Input((4, 4)))
    with pytest.raises(ValueError, match="`units` must be at least 1. Received: units=0."):
        BiMap(0)
    with pytest.raises(ValueError, match="must be equal and known"):
        BiMap(2)(keras.Input((4, 5)))
