"""Mirrored and slightly rotated copies are found by the hashes of their centers."""

import numpy as np
import pytest
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.checks.changed import (
    CHANGES,
    MARGIN,
    SIDE,
    THUMBNAIL,
    _projection,
    center_hashes,
    changed_duplicates,
    thumbnail,
)


@pytest.fixture(scope="module")
def faces():
    return load_dataset("synthetic", num_samples=30, size=48).pictures


def hash_all(pictures):
    return center_hashes([thumbnail(picture) for picture in pictures])


def rotate(picture, angle):
    return np.asarray(Image.fromarray(picture).rotate(angle, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("angle", [-10, -7.5, -4.5, -2, 2, 3, 7, 9, 10])
def test_rotated_copies_are_found(faces, angle):
    copies = [rotate(picture, angle) for picture in faces]
    found = changed_duplicates(hash_all([*faces, *copies]))
    pairs = {(index, index + len(faces)) for index in range(len(faces))}
    assert pairs <= set(found)
    assert all(found[pair].startswith("rotated by about") for pair in pairs)


def test_mirrored_copies_are_found(faces):
    found = changed_duplicates(hash_all([*faces, *faces[:, :, ::-1]]))
    assert {found[index, index + len(faces)] for index in range(len(faces))} == {"mirrored"}


def test_the_frequencies_are_those_of_the_cosine_transform():
    """Of the rotated picture too, which Pillow rotates here."""
    from scipy.fft import dctn

    blobs = np.random.default_rng(0).integers(0, 256, (7, 7), dtype="uint8")
    picture = np.asarray(Image.fromarray(blobs).resize((THUMBNAIL,) * 2, Image.Resampling.BICUBIC))
    low = (picture.reshape(1, -1) @ _projection()).reshape(len(CHANGES), 16, 16)
    inner = slice(MARGIN, MARGIN + SIDE)
    for part, angle in zip(low, (0, -9, -6, -3, 3, 6, 9), strict=True):
        center = rotate(picture, angle).astype("float64")[inner, inner]
        expected = dctn(center, norm="backward")[:16, :16] / 4
        np.testing.assert_allclose(part, expected, atol=0.02 * abs(expected).max())


def test_hashes_of_many_and_of_single_pictures_agree(faces):
    together = hash_all(faces)
    assert together.shape == (len(faces), 1 + len(CHANGES), 5) and together.dtype == np.uint64
    alone = np.concatenate([hash_all([picture]) for picture in faces])
    assert np.bitwise_count(together ^ alone).sum() <= 2  # Ties may be rounded differently.
    assert center_hashes([]).shape == (0, 1 + len(CHANGES), 5)
