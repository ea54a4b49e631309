import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import Unvech, Vech

pytestmark = pytest.mark.usefixtures("seed")


def symmetric(*shape):
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    return x + np.swapaxes(x, -2, -1)


def test_as_keras_layers():
    check_layer(Vech, symmetric(4, 5, 5))
    check_layer(Unvech, symmetric(4, 6, 6)[:, 0])  # 6 = 3 · 4 / 2


def test_by_hand():
    x = np.array([[[1, 2, 3], [2, 4, 5], [3, 5, 6]]], "float32")
    root = np.sqrt(2)
    expected = [[1, 2 * root, 3 * root, 4, 5 * root, 6]]
    np.testing.assert_allclose(ops.convert_to_numpy(Vech()(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_unvech_inverts_vech(size):
    x = symmetric(2, 3, size, size)
    y = ops.convert_to_numpy(Vech()(x))
    assert y.shape == (2, 3, size * (size + 1) // 2)
    np.testing.assert_allclose(ops.convert_to_numpy(Unvech()(y)), x, rtol=1e-6)


def test_lengths_and_angles_are_kept():
    x, y = symmetric(2, 6, 6)
    vector_x, vector_y = ops.convert_to_numpy(Vech()(np.stack([x, y])))
    np.testing.assert_allclose(np.linalg.norm(vector_x), np.linalg.norm(x), rtol=1e-6)
    np.testing.assert_allclose(vector_x @ vector_y, np.sum(x * y), rtol=1e-4)


def test_bad_shapes_are_errors():
    with pytest.raises(ValueError, match=r"must be equal and known.*shape=\(None, 3, 4\)"):
        Vech()(keras.Input((3, 4)))
    with pytest.raises(ValueError, match=r"n\(n\+1\)/2, the upper triangle.* Received: 5."):
        Unvech()(keras.Input((5,)))
