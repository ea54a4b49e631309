"""Degraded copies of pictures."""

import numpy as np
import pytest

from kerasfer.data.corruptions import CORRUPTIONS, corrupt


def faces(count=6):
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype="uint8")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_copies_depend_on_the_seed_only(name):
    pictures = faces()
    before = pictures.copy()
    copies = corrupt(pictures, name, seed=1)
    assert copies.shape == pictures.shape and copies.dtype == np.uint8
    np.testing.assert_array_equal(copies, corrupt(pictures, name, seed=1))
    np.testing.assert_array_equal(pictures, before)
    assert all((copy != picture).mean() > 0.1 for copy, picture in zip(copies, before, strict=True))


def test_blur_lowers_the_contrast_of_neighbors_and_keeps_the_mean():
    pictures = faces().astype(float)
    blurred = corrupt(faces(), "blurred").astype(float)
    assert np.abs(np.diff(blurred)).mean() < 0.3 * np.abs(np.diff(pictures)).mean()
    np.testing.assert_allclose(blurred.mean(), pictures.mean(), atol=1)


def test_occlusion_covers_one_gray_square():
    for copy, picture in zip(corrupt(faces(), "occluded"), faces(), strict=True):
        rows, columns = np.nonzero(copy != picture)
        assert (np.ptp(rows), np.ptp(columns)) == (18, 18)  # 19 of 48 pixels
        assert (copy[rows, columns] == 128).all()


def test_turning_is_by_30_degrees_to_both_sides():
    line = np.zeros((1, 48, 48), "uint8")
    line[0, 23:25] = 255
    angles = []
    for seed in range(8):
        rows, columns = np.nonzero(corrupt(line, "turned", seed)[0, :, 8:40] > 127)
        angles.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    np.testing.assert_allclose(np.abs(angles), 30, atol=2)
    assert min(angles) < 0 < max(angles)
