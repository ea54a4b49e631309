import math
from dataclasses import replace

import numpy as np
import pytest

from kerasfer.data.augment import Augment, follow, views, warp
from kerasfer.data.batches import Batches, Training
from kerasfer.data.landmarks import read_landmarks, with_landmarks
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError

HEADER = "picture,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"


def dotted(num=6, height=40, width=60):
    """Dark pictures, each with a bright dot at its one landmark."""
    rng = np.random.default_rng(0)
    points = rng.uniform((20, 14), (40, 26), (num, 2))
    y, x = np.mgrid[:height, :width] + 0.5
    distance = [(x - px) ** 2 + (y - py) ** 2 for px, py in points]
    pictures = (255 * np.exp(-np.stack(distance) / 8)).astype("uint8")
    samples = Samples(
        "dots",
        ("a", "b"),
        pictures,
        one_hot(np.arange(num) % 2, 2),
        [f"{i}.png" for i in range(num)],
    )
    return replace(samples, landmarks=points[:, None].astype("float32"))


def center_of_light(image):
    """Where the dot is, x and y as shares of the picture."""
    light = np.asarray(image, dtype="float64")
    light = light if light.ndim == 2 else light.mean(axis=-1)
    y, x = (np.mgrid[: light.shape[0], : light.shape[1]] + 0.5) / light.shape[0]
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"flip": True},
        {"center": (0.55, 0.45), "side": 0.8},
        {"angle": math.radians(20)},
        {"center": (0.45, 0.5), "side": 0.9, "angle": math.radians(-15), "flip": True},
    ],
)
def test_points_follow_the_picture(window):
    samples = dotted()
    for picture, points in zip(samples.pictures, samples.landmarks, strict=True):
        moved = follow(points, picture.shape, **window)
        seen = center_of_light(warp(picture, 50, **window))
        np.testing.assert_allclose(moved[0], seen, atol=0.012)


def test_unknown_points_stay_unknown():
    points = np.array([[np.nan, np.nan], [24.0, 24.0]])
    moved = follow(points, (48, 48), angle=0.3)
    assert np.isnan(moved[0]).all()
    np.testing.assert_allclose(moved[1], 0.5, atol=1e-6)


def test_augmented_batches_carry_the_landmarks_along():
    options = {"flip": True, "crop": 0.8, "rotation": 15, "shift": 0.05}
    batches = Batches(dotted(), 48, 6, training=Training(options, shuffle=False, seed=3))
    inputs, labels = batches[0]
    assert set(inputs) == {"pictures", "landmarks"} and labels.shape == (6, 2)
    assert inputs["pictures"].shape == (6, 48, 48, 3)
    assert inputs["landmarks"].shape == (6, 1, 2) and inputs["landmarks"].dtype == np.float32
    for image, points in zip(inputs["pictures"], inputs["landmarks"], strict=True):
        np.testing.assert_allclose(points[0], center_of_light(image), atol=0.02)
    plain = replace(dotted(), landmarks=None)
    again = Batches(plain, 48, 6, training=Training(options, shuffle=False, seed=3))[0][0]
    np.testing.assert_array_equal(again, inputs["pictures"])  # the same draws


def test_plain_batches_give_shares_of_the_picture():
    samples = dotted(3)
    samples.landmarks[1] = np.nan
    samples.landmarks[2] = (90, -5)  # outside
    inputs, _ = Batches(samples, 24, 3)[0]
    expected = samples.landmarks[0, 0] / (60, 40)
    np.testing.assert_allclose(inputs["landmarks"][:, 0], [expected, (-1, -1), (1, 0)], rtol=1e-6)


@pytest.mark.parametrize("tta", ["none", "flip", "ten_crop"])
def test_views_move_the_landmarks_too(tta):
    inputs, _ = Batches(dotted(), 64, 6)[0]
    seen = views(inputs, tta)
    assert len(seen) == {"none": 1, "flip": 2, "ten_crop": 10}[tta]
    images = views(inputs["pictures"], tta)
    for view, image in zip(seen, images, strict=True):
        np.testing.assert_array_equal(view["pictures"], image)
        for picture, points in zip(view["pictures"], view["landmarks"], strict=True):
            np.testing.assert_allclose(points[0], center_of_light(picture), atol=0.012)


def test_unknown_landmarks_are_unknown_in_every_view():
    inputs = {"pictures": np.zeros((1, 8, 8, 3)), "landmarks": np.full((1, 2, 2), -1.0)}
    assert all((view["landmarks"] == -1).all() for view in views(inputs, "ten_crop"))


def test_samples_keep_landmarks_with_their_pictures():
    samples = dotted()
    taken = samples.take([4, 1])
    np.testing.assert_array_equal(taken.landmarks, samples.landmarks[[4, 1]])
    with pytest.raises(ValueError, match="`landmarks` must have one entry for each picture"):
        replace(samples, landmarks=samples.landmarks[:3])


def test_a_file_is_joined_by_the_pictures_names(tmp_path):
    path = tmp_path / "landmarks.csv"
    path.write_text(HEADER + "2.png,1,2,3,4.5\n0.png,5,6,7,8\nother.png,9,9,9,9\n1.png,1,,3,4\n")
    joined = with_landmarks(dotted(4), path)
    assert joined.landmarks.dtype == np.float32
    nan = np.nan
    expected = [
        [[5, 6], [7, 8]],
        [[nan, nan], [3, 4]],  # half a point is none
        [[1, 2], [3, 4.5]],
        [[nan, nan], [nan, nan]],
    ]
    np.testing.assert_array_equal(joined.landmarks, np.array(expected, "float32"))


def test_any_number_of_points_with_a_byte_order_mark_and_crlf(tmp_path):
    path = tmp_path / "landmarks.csv"
    fields = ",".join(f"x{i},y{i}" for i in range(83))
    values = ",".join(str(i) for i in range(166))
    path.write_bytes(f"\ufeffpicture,{fields}\r\n0.png,{values}\r\n".encode())
    points = read_landmarks(path)["0.png"]
    np.testing.assert_array_equal(points, np.arange(166).reshape(83, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected picture,x0,y0,.* Found: 0 columns"),
        ("picture,x,y,z\n", "line 1: .* Found: 4 columns"),
        (HEADER, r"landmarks\.csv holds no landmarks"),
        (HEADER + "a.png,1,2,3,4\nb.png,1,2\n", "line 3: expected a picture and 4 numbers. .*3 fi"),
        (HEADER + "a.png,1,2,3,left\n", "line 2: .* Found: could not convert .*'left'"),
        (HEADER + "a.png,1,2,3,4\n", "names none of the 6 pictures of dots. .* 0.png; .* a.png"),
    ],
)
def test_missing_files_raise_a_data_error(text, message, tmp_path):
    path = tmp_path / "landmarks.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        with_landmarks(dotted(), path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="landmarks were not found. Expected .*nowhere.csv, a file"):
        with_landmarks(dotted(), tmp_path / "nowhere.csv")


def test_mixup_keeps_the_first_pictures_landmarks():
    inputs, _ = Batches(dotted(), 48, 6, training=Training({"mixup": 1.0}, shuffle=False))[0]
    plain, _ = Batches(dotted(), 48, 6)[0]
    np.testing.assert_allclose(inputs["landmarks"], plain["landmarks"])
    assert isinstance(
        Augment()([np.zeros((8, 8), "uint8")], 8, np.random.default_rng(0)), np.ndarray
    )
