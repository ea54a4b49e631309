import keras
import numpy as np
import pytest
from keras import ops

from kerasfer.errors import RecipeError
from kerasfer.models import build_model, slim_spd

pytestmark = pytest.mark.usefixtures("seed")

NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def pictures(count=4, side=32):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")


def test_it_is_small_and_its_last_map_fits_a_resnets():
    model = slim_spd(NAMES)
    assert model.count_params() < 2_000_000
    assert model.get_layer("means").input.shape == (None, 6, 6, 192)
    assert model.get_layer("covariance").output.shape == (None, 192, 192)
    assert model.get_layer("log_eig").output.shape == (None, 24, 24)
    assert model.get_layer("features").output.shape == (None, 192 + 24 * 25 // 2)
    multiply_adds = sum(
        np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert multiply_adds < 110e6


def test_shortcuts_read_every_second_pixel():
    """There is no strided 1 × 1 convolution, since its gradient corrupts memory on PyTorch."""
    model = slim_spd(NAMES, 37, width=12)  # Odd sides round up in both branches of a block.
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
            assert layer.strides == (1, 1)
    shortcut = model.get_layer("stage_0_0_every_second")
    x = np.random.default_rng(0).normal(size=(2, *shortcut.input.shape[1:])).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(shortcut(x)), x[:, ::2, ::2])


def test_the_logarithm_without_eigenvalues_is_the_logarithm():
    exact = slim_spd(NAMES, 32, width=12, method="eigh")
    model = slim_spd(NAMES, 32, width=12)
    model.set_weights(exact.get_weights())
    logs = [
        ops.convert_to_numpy(keras.Model(one.input, one.get_layer("log_eig").output)(pictures()))
        for one in (exact, model)
    ]
    assert np.abs(logs[0]).max() > 1
    np.testing.assert_allclose(logs[1], logs[0], atol=2e-3)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(pictures())), ops.convert_to_numpy(exact(pictures())), atol=1e-3
    )


def test_flat_pictures_and_dead_channels():
    """Where nothing varies, the covariance is zero, and its logarithm that of epsilon."""
    model = slim_spd(NAMES, 32, width=12)
    flat = np.zeros((2, 32, 32, 3), "float32") + np.array([0, 255], "float32")[:, None, None, None]
    assert np.isfinite(ops.convert_to_numpy(model(flat))).all()
    for layer in model.layers:
        if layer.name == "stage_2_1_2_norm" or layer.name == "stage_2_0_2_norm":
            layer.gamma.assign(np.zeros(layer.gamma.shape))
            layer.beta.assign(np.full(layer.beta.shape, -1e6))
    assert not np.any(ops.convert_to_numpy(keras.Model(model.input, _last_map(model))(pictures())))
    assert np.isfinite(ops.convert_to_numpy(model(pictures()))).all()
    # XLA would take longer over the many small products than all the rest; JAX needs it.
    jit = keras.backend.backend() == "jax"
    model.compile("sgd", keras.losses.CategoricalCrossentropy(), jit_compile=jit)
    y = np.eye(7, dtype="float32")[[0, 1, 2, 3]]
    assert np.isfinite(model.fit(pictures(), y, verbose=0).history["loss"]).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def _last_map(model):
    return model.get_layer("means").input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1}, "slim_spd cannot be built: `width` must be at least 2. Received: width=1"),
        ({"width": 3}, "slim_spd cannot be built: `units` must not exceed .* units=24"),
        ({"stem": "small"}, "The model slim_spd does not take model.stem; it takes width, bimap"),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(RecipeError, match=message):
        build_model("slim_spd", NAMES, 32, **options)
