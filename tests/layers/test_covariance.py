import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import Covariance, SPDProject

pytestmark = pytest.mark.usefixtures("seed")


def feature_maps(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("axis", ["spatial", "channel"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_covariance_as_a_keras_layer(axis, data_format):
    check_layer(
        lambda **kwargs: Covariance(axis, data_format=data_format, **kwargs),
        feature_maps(4, 3, 2, 5),
    )


def test_projection_as_a_keras_layer():
    x = feature_maps(4, 5, 3)
    check_layer(lambda **kwargs: SPDProject(0.1, **kwargs), x @ x.transpose(0, 2, 1))


def test_covariance_by_hand():
    # Two positions, three channels: (1, 2, 3) and (3, 2, 1) vary by 1, against each other.
    x = np.array([[[1, 2, 3], [3, 2, 1]]], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(Covariance()(x)), [[[1, -1], [-1, 1]]])


@pytest.mark.parametrize("axis", ["spatial", "channel"])
def test_covariance_agrees_with_numpy(axis):
    x = feature_maps(3, 4, 5, 7)
    last = ops.convert_to_numpy(Covariance(axis, "channels_last")(x))
    first = ops.convert_to_numpy(Covariance(axis, "channels_first")(np.moveaxis(x, -1, 1)))
    for picture, covariance, other in zip(x, last, first, strict=True):
        rows = picture.reshape(20, 7)  # positions × channels
        expected = np.cov(rows.astype("float64"), rowvar=axis == "spatial")
        np.testing.assert_allclose(covariance, expected, atol=1e-5)
        np.testing.assert_allclose(other, expected, atol=1e-5)


def test_data_format_is_keras_own_by_default():
    assert Covariance().data_format == keras.config.image_data_format()


def test_unknown_sizes():
    # The channels' covariance needs no picture size, and the batch is always open.
    layer, x = Covariance("channel"), feature_maps(2, 4, 6, 3)
    symbolic = layer(keras.Input((None, None, 3)))
    assert symbolic.shape == (None, 3, 3)
    expected = np.cov(x[1].reshape(-1, 3), rowvar=False)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x))[1], expected, atol=1e-5)


def test_float16_maps_do_not_overflow():
    x = 500 * feature_maps(2, 3, 3, 64)  # variance 250,000, beyond float16's 65,504
    y = ops.convert_to_numpy(Covariance(dtype="mixed_float16")(ops.cast(x, "float16")))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y[0], np.cov(x[0].reshape(9, 64)), rtol=0.01, atol=1000)


def test_projection_by_hand():
    x = np.diag([3.0, 1.0]).astype("float32")[None]
    y = ops.convert_to_numpy(SPDProject(0.5)(x))
    np.testing.assert_allclose(y, [np.diag([5.0, 3.0])])


def test_projection_makes_singular_covariances_definite():
    x = Covariance()(feature_maps(2, 4, 4, 3))  # 16 positions, 3 samples
    values = np.linalg.eigvalsh(ops.convert_to_numpy(x).astype("float64"))
    assert values.min() < 1e-5
    trace = values.sum(axis=-1, keepdims=True)
    projected = np.linalg.eigvalsh(ops.convert_to_numpy(SPDProject(0.01)(x)).astype("float64"))
    np.testing.assert_allclose(projected, values + 0.01 * trace, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Covariance("time"),
            "`axis` must be 'spatial' or 'channel'. Received: axis='time'",
        ),
        (lambda: Covariance(data_format="last"), "`data_format` must be .* data_format='last'"),
        (
            lambda: Covariance("spatial")(keras.Input((None, 7, 3))),
            r"along axis='spatial' must be known. Received: input_shape=\(None, None, 7, 3\)",
        ),
        (
            lambda: Covariance("channel")(keras.Input((1, 1, 8))),
            r"at least two samples. Received: one, with axis='channel' and input_shape=\(None, 1",
        ),
        (lambda: Covariance()(keras.Input((8,))), r"at least three dimensions.*shape=\(None, 8\)"),
        (lambda: SPDProject(-0.1), "must not be negative. Received: shrinkage=-0.1"),
        (lambda: SPDProject()(keras.Input((3, 4))), "must be equal and known"),
    ],
)
def test_bad_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
