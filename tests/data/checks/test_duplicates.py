import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.checks.duplicates import (
    exact_duplicates,
    near_duplicates,
    perceptual_hash,
    pixel_digest,
)
from kerasfer.data.picture_files import PictureFiles
from kerasfer.data.samples import Samples, one_hot


@pytest.fixture(scope="module")
def drawn():
    return load_dataset("synthetic", num_samples=12, size=48)


def test_exact_duplicates_by_hand(drawn):
    train, test = drawn.take([0, 1, 2, 3]), drawn.take([9, 3, 8, 0])
    assert exact_duplicates(train, test).tolist() == [False, True, False, True]
    assert exact_duplicates(test, drawn).sum() == 4
    nothing = drawn.take(np.zeros(12, dtype=bool))
    assert exact_duplicates(nothing, test).tolist() == [False] * 4
    assert exact_duplicates(train, nothing).shape == (0,)


def test_one_different_pixel_is_another_picture(drawn):
    changed = drawn.pictures.copy()
    changed[:, 47, 47, 2] ^= 1
    assert not exact_duplicates(drawn, replace(drawn, pictures=changed)).any()
    wide = np.zeros((24, 96, 3), "uint8")
    assert pixel_digest(wide) != pixel_digest(wide.reshape(48, 48, 3))


def test_decoded_pictures_count_not_files(drawn, tmp_path):
    names = []
    for index, suffix in enumerate(("png", "bmp", "tif", "webp")):
        names.append(f"{index}.{suffix}")
        Image.fromarray(drawn.pictures[index]).save(tmp_path / names[-1], lossless=True)
    files = replace(drawn.take([0, 1, 2, 3]), pictures=PictureFiles(tmp_path, names))
    assert exact_duplicates(files, drawn.take([3, 4, 0])).tolist() == [True, False, True]


def test_gray_arrays_are_found_in_gray_files(tmp_path, tree):
    tree("0.png", "1.png")
    gray = np.stack([np.asarray(Image.open(tmp_path / f"{name}.png")) for name in (1, 0)])
    drawn = load_dataset("synthetic", num_samples=2, size=16)
    arrays = replace(drawn, pictures=gray)
    files = replace(drawn, pictures=PictureFiles(tmp_path, ["0.png", "1.png"]))
    assert exact_duplicates(arrays, files).all() and exact_duplicates(files, arrays).all()


def test_unreadable_pictures_are_not_duplicates(drawn, tmp_path):
    (tmp_path / "page.png").write_text("<html>")
    bad = replace(drawn.take([0]), pictures=PictureFiles(tmp_path, ["page.png"]))
    assert exact_duplicates(drawn, bad).tolist() == [False]
    assert exact_duplicates(bad, drawn).sum() == 0


def test_a_file_is_decoded_once(drawn, tmp_path, tree, monkeypatch):
    """The second comparison decodes only the file that has changed."""
    tree("0.png", "1.png", "2.png")
    files = replace(
        drawn.take([0, 1, 2]), pictures=PictureFiles(tmp_path, ["0.png", "1.png", "2.png"])
    )
    assert exact_duplicates(files, files).all()
    decoded = []
    monkeypatch.setattr(
        Samples,
        "picture",
        lambda self, index, shortest: decoded.append(self.ids[index]) or drawn.pictures[0],
    )
    assert exact_duplicates(files, files).all() and decoded == []
    Image.new("L", (48, 48)).save(tmp_path / "1.png")
    assert exact_duplicates(files.take([0]), files).tolist() == [True, False, False]
    assert decoded == [files.ids[1]]


@pytest.fixture
def photographs(drawn, tmp_path):
    """Saves two faces with grain as files of several formats and sizes; returns samples of some."""

    def save(*names):
        for name in names:
            seed, width = int(name[0]), int(name[1:].split(".")[0])
            image = Image.fromarray(drawn.pictures[seed]).resize((1600, 1200))
            grain = np.random.default_rng(seed).normal(0, 5, (1200, 1600, 1))
            image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype("uint8"))
            image.resize((width, width * 3 // 4)).save(tmp_path / name, quality=60)
        return replace(
            drawn.take(np.arange(len(names))), pictures=PictureFiles(tmp_path, list(names))
        )

    return save


def test_large_photographs_are_found_in_other_formats_and_sizes(photographs):
    train = photographs("01600.jpg", "11024.webp")
    test = photographs("01600.png", "0800.jpg", "2800.jpg", "11024.jpg", "0640.png", "31600.jpg")
    assert exact_duplicates(train, test).tolist() == [True, True, False, True, False, False]
    assert exact_duplicates(test, train).tolist() == [True, True]


def test_large_photographs_are_compared_at_a_smaller_size(photographs, monkeypatch):
    samples, seen = photographs("01600.jpg", "01600.png", "11600.jpg"), []

    def record(picture):
        seen.append(picture.shape)
        return perceptual_hash(picture)

    monkeypatch.setattr("kerasfer.data.checks.duplicates.perceptual_hash", record)
    found = exact_duplicates(samples.take([0]), samples.take([1, 2]))
    assert found.tolist() == [True, False] and set(seen) == {(256, 341, 3)}


def test_files_of_other_sizes_are_not_decoded(drawn, tmp_path, monkeypatch):
    Image.new("L", (64, 48)).save(tmp_path / "wide.png")
    Image.new("L", (48, 64)).save(tmp_path / "high.png")
    files = replace(drawn.take([0, 1]), pictures=PictureFiles(tmp_path, ["wide.png", "high.png"]))
    monkeypatch.setattr(
        "kerasfer.data.samples.read_picture", lambda *_, **__: pytest.fail("decoded")
    )
    assert exact_duplicates(files, drawn).sum() == 0


def test_memory_does_not_grow_with_the_decoded_pictures(tmp_path, tree):
    """1,000 decoded pictures would take 7 MB."""
    tree("0.png", "1.png")
    number = np.arange(1000)
    many = Samples(
        name="many",
        class_names=("a", "b"),
        pictures=PictureFiles(tmp_path, [f"{one % 2}.png" for one in number]),
        labels=one_hot(number % 2, 2),
        ids=[str(one) for one in number],
    )
    exact_duplicates(many.take([0]), many.take([1]))  # what is imported only once
    tracemalloc.start()
    assert exact_duplicates(many, many).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


# Near duplicates


def test_the_hash_survives_another_size_and_quality(drawn):
    for picture in drawn.pictures[:6]:
        image = Image.fromarray(picture)
        versions = [
            np.asarray(image.resize((96, 96), Image.Resampling.BICUBIC)),
            (picture * 0.8).astype("uint8"),
            np.asarray(image.convert("L")),
        ]
        for version in versions:
            hashes = np.stack([perceptual_hash(picture), perceptual_hash(version)])
            assert near_duplicates(hashes).tolist() == [[0, 1]]


def test_the_hash_tells_faces_apart(drawn):
    hashes = np.stack([perceptual_hash(picture) for picture in drawn.pictures])
    assert hashes.shape == (12, 5) and hashes.dtype == np.uint64
    assert len(near_duplicates(hashes)) == 0


def hashes_of(*fine, coarse=0):
    """Hashes with equal 64 bits, and 256 bits that begin with these."""
    return np.array([[coarse, bits, 0, 0, 0] for bits in fine], dtype="uint64")


def test_pairs_by_hand():
    hashes = hashes_of(0b0, 0b1111, 0b11111, 0b1, 2**64 - 1)
    assert near_duplicates(hashes, distance=1).tolist() == [[0, 3], [1, 2]]
    assert near_duplicates(hashes, distance=0).tolist() == []
    assert near_duplicates(hashes[:2], hashes[2:], distance=4).tolist() == [[0, 1], [1, 0], [1, 1]]
    assert near_duplicates(hashes[:0]).shape == (0, 2)
    assert near_duplicates(hashes[:2], hashes[:0]).shape == (0, 2)


def test_the_coarse_hash_must_be_near_too():
    hashes = np.concatenate([hashes_of(0), hashes_of(0, coarse=2**8 - 1)])
    assert near_duplicates(hashes).tolist() == [[0, 1]]
    hashes[1, 0] = 2**9 - 1
    assert near_duplicates(hashes).tolist() == []


def test_blocks_and_a_loop_find_the_same_pairs(monkeypatch):
    monkeypatch.setattr("kerasfer.data.checks.duplicates.BLOCK", 7)
    fine = np.random.default_rng(0).integers(0, 2**12, 40).tolist()
    expected = [
        [i, j] for i in range(40) for j in range(i + 1, 40) if (fine[i] ^ fine[j]).bit_count() <= 3
    ]
    assert len(expected) > 20
    hashes = hashes_of(*fine)
    assert sorted(near_duplicates(hashes, distance=3).tolist()) == expected
    across = near_duplicates(hashes[:15], hashes[15:], distance=3).tolist()
    assert sorted(across) == [[i, j - 15] for i, j in expected if i < 15 <= j]
