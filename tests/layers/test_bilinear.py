import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from spectral_oracle import value_and_gradient

from kerasfer.layers import BilinearPool

pytestmark = pytest.mark.usefixtures("seed")


def feature_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("signed_sqrt", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_as_a_keras_layer_with_one_input(signed_sqrt, normalize):
    # The root is steep near 0, so that half precision shows there.
    check_layer(
        lambda **kwargs: BilinearPool(signed_sqrt, normalize, **kwargs),
        feature_maps(4, 3, 3, 4),
        half_tolerance=0.2,
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_as_a_keras_layer_with_two_inputs(data_format):
    shapes = [(4, 3, 2, 4), (4, 3, 2, 5)]
    if data_format == "channels_first":
        shapes = [(4, 4, 3, 2), (4, 5, 3, 2)]
    check_layer(
        lambda **kwargs: BilinearPool(data_format=data_format, **kwargs),
        feature_maps(*shapes[0]),
        feature_maps(*shapes[1], seed=1),
        half_tolerance=0.2,
    )


def test_one_position_by_hand():
    a = np.array([1, -2], "float32").reshape(1, 1, 1, 2)
    b = np.array([3, 0, 0.5], "float32").reshape(1, 1, 1, 3)
    products = np.array([3, 0, 0.5, -6, 0, -1])
    plain = BilinearPool(signed_sqrt=False, normalize=False)([a, b])
    np.testing.assert_allclose(ops.convert_to_numpy(plain), [products])
    roots = np.sign(products) * np.sqrt(np.abs(products))
    rooted = BilinearPool(normalize=False)([a, b])
    np.testing.assert_allclose(ops.convert_to_numpy(rooted), [roots], atol=1e-6)
    full = BilinearPool()([a, b])
    np.testing.assert_allclose(
        ops.convert_to_numpy(full), [roots / np.linalg.norm(roots)], atol=1e-6
    )


def test_positions_are_summed():
    a, b = feature_maps(2, 3, 4, 5), feature_maps(2, 3, 4, 6, seed=1)
    expected = np.einsum("bhwi,bhwj->bij", a, b).reshape(2, 30)
    plain = BilinearPool(signed_sqrt=False, normalize=False)([a, b])
    np.testing.assert_allclose(ops.convert_to_numpy(plain), expected, atol=1e-4)


def test_one_input_is_paired_with_itself():
    a = feature_maps(2, 3, 4, 5)
    one, two = BilinearPool()(a), BilinearPool()([a, a])
    np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(two))
    np.testing.assert_allclose(np.linalg.norm(ops.convert_to_numpy(one), axis=1), 1, rtol=1e-5)


def test_both_data_formats_agree():
    a, b = feature_maps(2, 3, 4, 5), feature_maps(2, 3, 4, 6, seed=1)
    last = BilinearPool(data_format="channels_last")([a, b])
    first = BilinearPool(data_format="channels_first")([np.moveaxis(x, -1, 1) for x in (a, b)])
    np.testing.assert_allclose(ops.convert_to_numpy(last), ops.convert_to_numpy(first), atol=1e-6)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_gradients_are_finite_at_zeros(share):
    # After a ReLU most entries are exactly 0; the plain root has an infinite slope there.
    x = np.maximum(feature_maps(2, 3, 3, 8), 0)
    x[..., : int(8 * share)] = 0
    layer = BilinearPool()
    upstream = feature_maps(2, 64, seed=1)
    y, gradient = value_and_gradient(layer, x, upstream)
    assert np.isfinite(y).all()
    assert np.isfinite(gradient).all()
    assert share == 1.0 or np.abs(gradient).max() > 0


def test_sums_beyond_float16():
    x = 100 * np.ones((1, 8, 8, 2), "float32")  # 64 · 10⁴ > 65,504
    y = BilinearPool(dtype="mixed_float16")(ops.cast(x, "float16"))
    np.testing.assert_allclose(ops.convert_to_numpy(y), 0.5, rtol=1e-3)


def test_other_positions_are_an_error():
    with pytest.raises(ValueError, match="the same positions. Received: input_shape="):
        BilinearPool()([keras.Input((3, 3, 4)), keras.Input((3, 2, 4))])


def test_three_inputs_are_an_error():
    with pytest.raises(ValueError, match="one or two feature maps. Received: 3."):
        BilinearPool()([keras.Input((3, 3, 4))] * 3)
