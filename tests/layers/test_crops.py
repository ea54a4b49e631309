import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from PIL import Image

from kerasfer.layers import RegionCrops

pytestmark = pytest.mark.usefixtures("seed")


def pictures(*shape):
    return np.random.default_rng(0).uniform(0, 1, shape).astype("float32")


@pytest.mark.parametrize("mode", ["random", "fixed"])
def test_as_a_keras_layer(mode):
    check_layer(lambda **kwargs: RegionCrops(3, mode, seed=1, **kwargs), pictures(4, 8, 6, 3))


def test_region_zero_is_the_picture():
    x = pictures(2, 8, 6, 3)
    y = ops.convert_to_numpy(RegionCrops(2)(x))
    assert y.shape == (2, 3, 8, 6, 3)
    np.testing.assert_array_equal(y[:, 0], x)


def test_the_whole_area_is_the_picture():
    x = pictures(2, 8, 6, 3)
    for training in (False, True):
        y = ops.convert_to_numpy(RegionCrops(5, area=1.0)(x, training=training))
        np.testing.assert_allclose(y, np.repeat(x[:, None], 6, axis=1), atol=1e-6)


def test_by_hand():
    # A quarter of a 4 × 4 picture is 2 × 2; stretched to 4, centers fall at -1/4, 1/4, 3/4, 5/4.
    line = np.array([0.0, 1.0, 2.0, 3.0], "float32")
    x = np.tile(line, (4, 1))[None, ..., None]
    y = ops.convert_to_numpy(RegionCrops(5, area=0.25)(x))[0, 1:, :, :, 0]
    left, right = [0, 0.25, 0.75, 1.25], [1.75, 2.25, 2.75, 3]
    center = [0.75, 1.25, 1.75, 2.25]
    for crop, expected in zip(y, (left, right, left, right, center), strict=True):
        np.testing.assert_allclose(crop, np.tile(expected, (4, 1)), atol=1e-6)


def test_fixed_crops_agree_with_pillow():
    x = pictures(1, 12, 8, 1)
    crops = ops.convert_to_numpy(RegionCrops(5, "fixed", area=0.25)(x))[0, 1:, ..., 0]
    # Height 12, width 8: windows of 6 × 4 at the four corners and the center.
    for crop, (top, left) in zip(crops, [(0, 0), (0, 4), (6, 0), (6, 4), (3, 2)], strict=True):
        picture = Image.fromarray(x[0, ..., 0])
        expected = np.asarray(
            picture.resize((8, 12), Image.Resampling.BILINEAR, (left, top, left + 4, top + 6))
        )
        # Beyond its window, Pillow repeats the edge, and the layer uses the picture. Compares the
        # inside.
        np.testing.assert_allclose(crop[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)


def test_random_places_in_training_only():
    x = pictures(4, 16, 16, 1)
    layer = RegionCrops(2, seed=3)
    fixed = ops.convert_to_numpy(RegionCrops(2, "fixed")(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), fixed)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), fixed)
    first = ops.convert_to_numpy(layer(x, training=True))
    second = ops.convert_to_numpy(layer(x, training=True))
    assert np.abs(first[:, 1:] - fixed[:, 1:]).max() > 0.01
    assert np.abs(first[:, 1:] - second[:, 1:]).max() > 0.01
    again = ops.convert_to_numpy(RegionCrops(2, seed=3)(x, training=True))
    np.testing.assert_array_equal(again, first)
    always = ops.convert_to_numpy(RegionCrops(2, "fixed")(x, training=True))
    np.testing.assert_array_equal(always, fixed)


def test_random_places_differ_between_pictures_and_crops_and_stay_inside():
    # A picture that shows its own coordinates shows where its crops were cut.
    rows, columns = np.mgrid[0:16, 0:16].astype("float32")
    x = np.tile(np.stack([rows, columns], axis=-1), (8, 1, 1, 1))
    y = ops.convert_to_numpy(RegionCrops(5, area=0.25, seed=0)(x, training=True))[:, 1:]
    centers = y.mean(axis=(2, 3)).reshape(-1, 2)
    assert len(np.unique(centers.round(3), axis=0)) == 40
    assert centers.min() > 3.4 and centers.max() < 11.6  # half a window from the border
    assert np.ptp(centers, axis=0).min() > 5
    # Square crops of half the side: each step is half a pixel, but at the border.
    steps = np.diff(y[..., 0], axis=2)[:, :, 1:-1]
    np.testing.assert_allclose(steps, 0.5, atol=1e-4)


def test_crops_around_landmarks_as_a_keras_layer():
    landmarks = np.random.default_rng(1).uniform(0, 1, (4, 7, 2)).astype("float32")
    check_layer(
        lambda **kwargs: RegionCrops(7, "landmarks", **kwargs), pictures(4, 8, 6, 3), landmarks
    )


@pytest.mark.parametrize("training", [False, True])
def test_crops_around_landmarks(training):
    # A picture that shows its own coordinates shows where its crops were cut.
    rows, columns = np.mgrid[0:16, 0:16].astype("float32") + 0.5
    x = np.stack([columns, rows], axis=-1)[None] / 16
    landmarks = np.array([[[0.5, 0.375], [0.3, 0.7], [0.05, 0.95], [-1, -1]]], "float32")
    layer = RegionCrops(4, "landmarks", area=0.25)
    y = ops.convert_to_numpy(layer([x, landmarks], training=training))
    assert y.shape == (1, 5, 16, 16, 2)
    np.testing.assert_array_equal(y[:, 0], x)
    # Inside the picture the landmark is the center of its crop. Windows end at the edge. The
    # unknown landmark uses the fourth fixed position, the lower right corner.
    centers = y[0, 1:].mean(axis=(1, 2))
    expected = [[0.5, 0.375], [0.3, 0.7], [0.25, 0.75], [0.75, 0.75]]
    np.testing.assert_allclose(centers, expected, atol=0.004)


def test_unknown_landmarks_are_fixed_places():
    x = pictures(2, 8, 8, 1)
    unknown = np.full((2, 5, 2), -1, "float32")
    y = ops.convert_to_numpy(RegionCrops(5, "landmarks")([x, unknown]))
    np.testing.assert_array_equal(y, ops.convert_to_numpy(RegionCrops(5, "fixed")(x)))


def test_landmarks_of_the_whole_area():
    x = pictures(1, 8, 8, 1)
    y = ops.convert_to_numpy(RegionCrops(1, "landmarks", area=1)([x, np.full((1, 1, 2), 0.9)]))
    np.testing.assert_allclose(y[:, 1], x, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegionCrops(mode="faces"), "`mode` must be 'random', 'fixed' or .*mode='faces'"),
        (
            lambda: RegionCrops(5, "landmarks")([keras.Input((8, 8, 3)), keras.Input((4, 2))]),
            r"Landmarks must be \(batch, 5, 2\), .* Received: input_shape=\(None, 4, 2\)",
        ),
        (lambda: RegionCrops(6), r"`crops` must be from 1 to 5 \(top left, .* crops=6"),
        (lambda: RegionCrops(0), "`crops` must be from 1 to 5.* crops=0"),
        (lambda: RegionCrops(area=0), r"`area` must be in \(0, 1\]. Received: area=0"),
        (lambda: RegionCrops(area=75), r"`area` must be in \(0, 1\]. Received: area=75"),
        (
            lambda: RegionCrops()(keras.Input((None, 48, 3))),
            r"with known sizes. Received: input_shape=\(None, None, 48, 3\)",
        ),
    ],
)
def test_bad_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
