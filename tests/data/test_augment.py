import math
from dataclasses import fields

import numpy as np
import pytest
from augmentations import ALL

from kerasfer.data.augment import Augment, views, warp
from kerasfer.data.pictures import resize

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype="uint8")


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return (127 + 60 * np.sin(x / width * 7) + 60 * np.cos(y / height * 5)).astype("uint8")


def test_the_whole_picture_is_unchanged():
    np.testing.assert_array_equal(warp(NOISE, 48), NOISE)
    np.testing.assert_array_equal(warp(NOISE, 48, flip=True), NOISE[:, ::-1])
    np.testing.assert_array_equal(warp(smooth(490, 640), 48), resize(smooth(490, 640), 48))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns(turns):
    turned = warp(NOISE, 48, angle=turns * math.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(NOISE, turns).astype(int), atol=1)


def test_a_shift_repeats_the_edge():
    shifted = warp(NOISE, 48, center=(0.5 + 6 / 48, 0.5))
    np.testing.assert_array_equal(shifted[:, :42], NOISE[:, 6:])
    np.testing.assert_array_equal(shifted[:, 42:], np.repeat(NOISE[:, 47:], 6, axis=1))


@pytest.mark.parametrize("shape", [(48, 48), (490, 640), (30, 20)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_affine_map_agrees_with_resizing(shape, flip):
    window = {"center": (0.55, 0.45), "side": 0.8, "flip": flip}
    straight = warp(smooth(*shape), 48, **window)
    turned = warp(smooth(*shape), 48, angle=1e-9, **window)
    np.testing.assert_allclose(turned[1:-1, 1:-1], straight[1:-1, 1:-1].astype(int), atol=4)


def test_the_tests_cover_every_augmentation():
    assert {field.name for field in fields(Augment)} == set(ALL)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_each_variation_varies_and_repeats(name, channels):
    pictures = np.random.default_rng(1).integers(0, 256, (16, 48, 48, *channels), dtype="uint8")
    augment = Augment(**{name: ALL[name]})
    varied, again = (augment(pictures, 48, np.random.default_rng(5)) for _ in range(2))
    assert varied.shape == pictures.shape
    assert varied.dtype == np.uint8
    np.testing.assert_array_equal(varied, again)
    assert (varied == pictures).all() == (name == "mixup")  # mixup works on the batch


def test_without_options_pictures_are_unchanged():
    np.testing.assert_array_equal(Augment()([NOISE], 48, np.random.default_rng(0))[0], NOISE)


def test_the_draws_of_one_variation_do_not_depend_on_the_others():
    pictures = np.stack([NOISE] * 32)
    flipped = Augment(flip=True)(pictures, 48, np.random.default_rng(7))
    both = Augment(flip=True, crop=0.999)(pictures, 48, np.random.default_rng(7))
    mirrored = (flipped != pictures).any(axis=(1, 2))
    assert 4 < mirrored.sum() < 28
    distances = [
        np.abs(both - side.astype(float)).mean(axis=(1, 2)) for side in (flipped, pictures)
    ]
    np.testing.assert_array_equal(distances[0][mirrored] < distances[1][mirrored], True)


def test_blur_light_and_erasing_do_not_change_the_draws_of_each_other():
    pictures = np.stack([smooth(48, 48)] * 16)
    erased = Augment(erasing=0.5)(pictures, 48, np.random.default_rng(3))
    all_three = Augment(erasing=0.5, blur=0.05, brightness=0.3)(
        pictures, 48, np.random.default_rng(3)
    )
    noise = np.abs(erased.astype(int) - pictures) > 0
    np.testing.assert_array_equal(all_three[noise], erased[noise])
    assert not np.array_equal(all_three, erased)


def test_blur_smooths_half_of_the_pictures_by_at_most_the_radius():
    pictures = np.stack([NOISE] * 200)
    sharpness = pictures[0].std()
    blurred = Augment(blur=0.05)(pictures, 48, np.random.default_rng(0))
    changed = (blurred != pictures).any(axis=(1, 2))
    assert 0.4 < changed.mean() < 0.6
    spread = blurred[changed].std(axis=(1, 2))
    # The noise of independent pixels shrinks to 1 / (2 √π σ) of itself.
    smallest = sharpness / (2 * math.sqrt(math.pi) * 0.05 * 48)
    assert 0.8 * smallest < spread.min() < 1.3 * smallest
    assert spread.max() > 0.9 * sharpness
    np.testing.assert_allclose(blurred[changed].mean(axis=(1, 2)), NOISE.mean(), atol=2)


def test_brightness_scales_and_contrast_keeps_the_mean():
    picture = np.linspace(90, 150, 48 * 48).reshape(48, 48).astype("uint8")
    pictures = np.stack([picture] * 200)
    lit = Augment(brightness=0.3)(pictures, 48, np.random.default_rng(0)).astype(float)
    factors = lit.mean(axis=(1, 2)) / picture.mean()
    assert 0.7 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.31
    np.testing.assert_allclose(lit, factors[:, None, None] * picture, atol=1.5)
    stretched = Augment(contrast=0.5)(pictures, 48, np.random.default_rng(0)).astype(float)
    np.testing.assert_allclose(stretched.mean(axis=(1, 2)), picture.mean(), atol=1)
    factors = stretched.std(axis=(1, 2)) / picture.std()
    assert 0.48 < factors.min() < 0.6
    assert 1.4 < factors.max() < 1.52


def test_erasing_fills_one_rectangle_within_bounds():
    erased = Augment(erasing=1.0)(np.full((50, 48, 48), 7, "uint8"), 48, np.random.default_rng(0))
    for picture in erased:
        rows, columns = np.nonzero(picture != 7)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.01 < area / 48**2 < 0.4


def test_mixup_draws_one_weight_and_a_partner_for_each_picture():
    share, partners = Augment(mixup=1.0).draw_mixup(20, np.random.default_rng(0))
    assert share.dtype == np.float32 and 0 < share < 1
    assert sorted(partners) == list(range(20)) and not np.array_equal(partners, np.arange(20))


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3)])
def test_some_pictures_of_a_batch_are_augmented_as_within_the_whole(shape):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, *shape), dtype="uint8")
    points = rng.uniform(0, 20, (9, 2, 2))
    augment = Augment(**{**ALL, "erasing": 0.8})
    whole, moved = augment(pictures, 16, np.random.default_rng(3), points)
    taken = np.isin(np.arange(9), [1, 2, 5, 8])
    some = augment(pictures[taken], 16, np.random.default_rng(3), points[taken], taken)
    np.testing.assert_array_equal(some[0], whole[taken])
    np.testing.assert_array_equal(some[1], moved[taken])


@pytest.mark.parametrize(
    "bad",
    [
        {"crop": 0},
        {"crop": 1.5},
        {"shift": 1},
        {"rotation": -1},
        {"blur": 0.6},
        {"brightness": 1.1},
        {"contrast": -0.1},
        {"erasing": 2},
        {"mixup": -1},
    ],
)
def test_numbers_outside_their_range_are_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        Augment(**bad)


def test_views_by_hand():
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    assert views(images, "none")[0] is images
    np.testing.assert_array_equal(views(images, "flip")[1], images[:, :, ::-1])
    with pytest.raises(ValueError, match="`tta` must be"):
        views(images, "five_crop")


def test_ten_crop_agrees_with_pillow():
    from PIL import Image

    crops = views(NOISE[None, :, :, None].astype("float32"), "ten_crop")
    assert [crop.shape for crop in crops] == [(1, 48, 48, 1)] * 10
    for crop, (x, y) in zip(crops, [(0, 0), (6, 0), (0, 6), (6, 6), (3, 3)], strict=False):
        expected = Image.fromarray(NOISE.astype("float32")).resize(
            (48, 48), Image.Resampling.BILINEAR, box=(x, y, x + 42, y + 42)
        )
        np.testing.assert_allclose(crop[0, :, :, 0], expected, atol=1e-3)
    np.testing.assert_array_equal(crops[5], crops[0][:, :, ::-1])
