import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import AffineSampling
from kerasfer.layers.affine import IDENTITY

pytestmark = pytest.mark.usefixtures("seed")

# A turn, a zoom with a shift, and a view from far outside.
MAPS = np.array(
    [[0.8, -0.6, 0.1, 0.6, 0.8, -0.2], [0.5, 0, 0.3, 0, 0.5, -0.4], [3, 0, 2, 0, 3, 2]], "float32"
)


def pictures(*shape):
    return np.random.default_rng(0).uniform(0, 1, shape).astype("float32")


def sample(x, maps):
    maps = np.broadcast_to(np.asarray(maps, "float32"), (len(x), 6))
    return ops.convert_to_numpy(AffineSampling()([x, ops.convert_to_tensor(maps.copy())]))


def test_as_a_keras_layer():
    check_layer(lambda **kwargs: AffineSampling(**kwargs), pictures(3, 7, 5, 2), MAPS)


def test_the_identity_is_the_picture():
    x = pictures(2, 6, 9, 3)
    np.testing.assert_allclose(sample(x, IDENTITY), x, atol=1e-5)


def test_by_hand():
    line = np.array([1.0, 2.0, 4.0, 8.0], "float32")
    x = np.tile(line, (4, 1))[None, ..., None]

    def seen(*maps):
        return sample(x, maps)[0, 1, :, 0]

    # Mirrored; shifted by half a picture, with zeros beyond the edge; shifted by a quarter pixel.
    np.testing.assert_allclose(seen(-1, 0, 0, 0, 1, 0), line[::-1], atol=1e-5)
    np.testing.assert_allclose(seen(1, 0, 1, 0, 1, 0), [4, 8, 0, 0], atol=1e-5)
    np.testing.assert_allclose(seen(1, 0, 0.125, 0, 1, 0), [1.25, 2.5, 5, 6], atol=1e-5)
    # Enlarged twice about the center: pixels at 0.75, 1.25, 1.75, 2.25.
    np.testing.assert_allclose(seen(0.5, 0, 0, 0, 0.5, 0), [1.75, 2.5, 3.5, 5], atol=1e-5)


def test_each_picture_has_its_own_map():
    x = pictures(3, 8, 8, 2)
    together = sample(x, MAPS)
    for index in range(3):
        np.testing.assert_allclose(sample(x[index : index + 1], MAPS[index])[0], together[index])
    assert np.ptp(together[0] - together[1]) > 0.1


def test_it_agrees_with_torch():
    torch = pytest.importorskip("torch")
    x = pictures(3, 7, 10, 2)
    theta = torch.from_numpy(MAPS.reshape(3, 2, 3))
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    grid = torch.nn.functional.affine_grid(theta, channels_first.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(channels_first, grid, align_corners=False)
    np.testing.assert_allclose(sample(x, MAPS), np.moveaxis(expected.numpy(), 1, -1), atol=1e-5)


def test_the_gradient_at_the_identity_points_along_the_picture():
    # If the picture rises by 1 per pixel, a shift c of 2 / width adds 1 to every pixel, also at the
    # identity, where a spatial transformer begins.
    width = 8
    x = np.tile(np.arange(width, dtype="float32"), (width, 1))[None, ..., None]
    inputs = [keras.Input((width, width, 1)), keras.Input((6,))]
    shift = keras.layers.Dense(6, use_bias=False, kernel_initializer="identity")
    inner = AffineSampling()([inputs[0], shift(inputs[1])])[:, 2:6, 2:6, 0]
    model = keras.Model(inputs, inner)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y_true, y_pred: ops.mean(y_pred))
    model.fit([x, np.array([IDENTITY], "float32")], np.zeros((1, 4, 4)), verbose=0)
    # d mean / d c, through the input a = 1 of the dense layer's row 0.
    moved = np.eye(6)[0] - shift.get_weights()[0][0]
    np.testing.assert_allclose(moved[2], width / 2, rtol=1e-4)
    np.testing.assert_allclose(moved[3:], 0, atol=1e-4)


@pytest.mark.parametrize(
    "shapes", [((8, 8, 3), (2, 3)), ((8, 8, 3), (5,)), ((None, 8, 3), (6,)), ((64, 3), (6,))]
)
def test_bad_inputs_are_errors(shapes):
    with pytest.raises(ValueError, match=r"pictures \(batch, .* Received: input_shape=\[\(None"):
        AffineSampling()([keras.Input(shape) for shape in shapes])
