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


def test_definite_matrices_remain_definite():
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


def test_retraction_is_the_polar_factor():
    rng = np.random.default_rng(0)
    start = np.linalg.qr(rng.standard_normal((9, 9)))[0][:4]
    for step in (0.01, 0.3):
        w = (start + step * rng.standard_normal((4, 9))).astype("float32")
        left, _, right = np.linalg.svd(w.astype("float64"), full_matrices=False)
        retracted = ops.convert_to_numpy(linalg.retract(ops.convert_to_tensor(w)))
        np.testing.assert_allclose(retracted, left @ right, atol=1e-5)


def test_the_gradient_through_the_projection_is_tangent():
    w = np.linalg.qr(np.random.default_rng(0).standard_normal((7, 7)))[0][:3].astype("float32")
    g = np.random.default_rng(1).standard_normal((3, 7)).astype("float32")
    _, tangent = value_and_gradient(linalg.retract, w, g)
    expected = g - (g @ w.T + w @ g.T) / 2 @ w
    np.testing.assert_allclose(tangent, expected, atol=1e-5)


def test_the_gradient_of_the_projection_off_the_manifold():
    rng = np.random.default_rng(0)
    w, g, direction = rng.standard_normal((3, 3, 6))
    _, gradient = value_and_gradient(linalg.retract, w.astype("float32"), g.astype("float32"))

    def loss(w):
        left, _, right = np.linalg.svd(w, full_matrices=False)
        return np.sum(g * (left @ right))

    difference = (loss(w + 1e-5 * direction) - loss(w - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-3)


@pytest.mark.parametrize("initializer", ["random_normal", "ones", "zeros", "glorot_uniform"])
@pytest.mark.parametrize("size", [5, 24])
def test_every_initializer_begins_on_the_manifold(initializer, size):
    layer = BiMap(size, kernel_initializer=initializer)
    layer.build((None, size, size))
    assert distance_to_stiefel(layer.kernel) < 5e-5
    assert distance_to_stiefel(layer.get_weights()[0]) < 5e-5


def bimap_model(units=4, size=8):
    inputs = keras.Input((size, size))
    bimap = BiMap(units, name="bimap")
    return keras.Model(inputs, keras.layers.Flatten()(bimap(inputs))), bimap


def matrices(count, size=8):
    x = np.random.default_rng(0).standard_normal((count, size, size)).astype("float32")
    return x @ x.transpose(0, 2, 1) / size


def targets(count, units=4):
    return np.random.default_rng(1).standard_normal((count, units**2)).astype("float32")


def test_moving_averages_are_projected(tmp_path):
    model, bimap = bimap_model()
    model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9), "mse")
    model.fit(matrices(40), targets(40), batch_size=4, verbose=0)
    assert distance_to_stiefel(model.get_weights()[0]) > 0.01  # The average is off the manifold.
    assert distance_to_stiefel(bimap.kernel) < 1e-5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert distance_to_stiefel(loaded.get_layer("bimap").kernel) < 1e-5
    x = matrices(3)
    w = ops.convert_to_numpy(bimap.kernel)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), (w @ x @ w.T).reshape(3, -1), atol=1e-5
    )


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_huge_steps_stay_on_the_manifold(rate, jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("Keras on torch does not compile training steps reliably.")
    model, bimap = bimap_model()
    model.compile(keras.optimizers.SGD(rate), "mse", jit_compile=jit_compile)
    losses = model.fit(matrices(80), targets(80), batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert distance_to_stiefel(bimap.kernel) < 1e-4
    assert distance_to_stiefel(model.get_weights()[0]) < 1e-4


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="A loop in torch.")
def test_a_loop_without_constraints_stays_on_the_manifold():
    import torch

    model, bimap = bimap_model()
    x, y = torch.from_numpy(matrices(8)), torch.from_numpy(targets(8))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(50):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        assert distance_to_stiefel(bimap.kernel.detach()) < 1e-5
    assert losses[-1] < losses[0]
    assert distance_to_stiefel(bimap.get_weights()[0]) > 0.01


def test_the_kernel_exists_after_build_only():
    with pytest.raises(AttributeError, match="kernel"):
        _ = BiMap(2).kernel


def test_retraction_of_extreme_scales():
    w = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0][:4].astype("float32")
    for scale in (1e-18, 1e18):
        retracted = ops.convert_to_numpy(Stiefel()(ops.convert_to_tensor(scale * w)))
        np.testing.assert_allclose(retracted, w, atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(Stiefel()(ops.zeros((2, 3)))), 0)


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
