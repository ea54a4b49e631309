"""Finds duplicates among pictures, with identical or similar pixels.

A model that was trained on a test picture can remember its label, so duplicates make the accuracy
too high. They are common in faces collected from the web, where several searches find the same
photograph.
"""

import os
from hashlib import blake2b

import numpy as np
from PIL import Image

from kerasfer.data.picture_files import FaceInPicture
from kerasfer.data.pictures import picture_size
from kerasfer.data.scanning import scan
from kerasfer.errors import DataError

NEAR = 40  # Of 256 bits. See `near_duplicates`.
CANDIDATE = 8  # Of the 64 bits that are compared first.
SHORTEST = 256  # Pixels of large pictures when they are compared.
WORDS = 5  # Of a hash: one of the 64 bits, four of the 256.
BLOCK = 2048  # Pictures compared at a time with 2048 others, which takes 40 MB.
_KNOWN = {}  # The digests of files that were decoded before.


def exact_duplicates(train, test, *, workers=None):
    """Finds the test pictures that are also in the training set, with identical pixels.

    The decoded pictures are compared, so a picture that was saved again without loss is found, and
    a gray picture equals an RGB picture with three equal channels. Files with a shorter side of at
    least 512 pixels are compared at 256 pixels, which is many times faster, but finds no copies in
    another file format. Files are decoded only if a picture of the same size is in the other set.
    A digest of 16 bytes is cached for each picture, so an unchanged file is decoded only once per
    process.

    Args:
        train: `Samples` that a model was trained on.
        test: `Samples`, of the same or another dataset.
        workers: int >= 1, threads that decode; `None` for the cores of the machine, at most 8.

    Returns:
        bool `(len(test),)`. Pictures that cannot be read are not duplicates.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> samples = load_dataset("synthetic", num_samples=5)
    >>> exact_duplicates(samples.take([0, 1, 2]), samples.take([2, 3])).tolist()
    [True, False]
    """
    trained_on = _digests(train, _sizes(test), workers)
    tested = _digests(test, _sizes(train), workers)
    known = {digest for digest in trained_on if digest is not None}
    return np.array([digest in known for digest in tested], dtype=bool)


def _sizes(samples):
    """Returns the sizes of all pictures, in either orientation."""
    if isinstance(samples.pictures, np.ndarray):
        height, width = samples.pictures.shape[1:3]
        return {(width, height), (height, width)}
    sizes = {picture_size(path) for path in samples.pictures} - {None}
    return sizes | {size[::-1] for size in sizes}


def _digests(samples, sizes, workers):
    """Lists the digest of each picture with one of these sizes, and `None` for the others."""
    digests, keys, left = [None] * len(samples), [None] * len(samples), []
    files = not isinstance(samples.pictures, np.ndarray)
    for index in range(len(samples)):
        if files:
            picture = samples.pictures[index]
            if picture_size(picture) not in sizes:
                continue
            keys[index] = _file_key(picture)
        digests[index] = _KNOWN.get(keys[index])
        if digests[index] is None:
            left.append(index)
    left = np.array(left, dtype=int)
    found = scan(samples.take(left), pixel_digest, shortest=SHORTEST, workers=workers)
    for index, digest in zip(left, found, strict=True):
        if isinstance(digest, DataError):
            continue
        digests[index] = digest
        if keys[index] is not None:
            _KNOWN[keys[index]] = digest
    return digests


def _file_key(picture):
    """Identifies a file, or a face in it, as long as it does not change; `None` if it is missing.

    The key is a digest of 16 bytes, since a dataset may have 300,000 files.
    """
    path, box = (picture.path, picture.box) if isinstance(picture, FaceInPicture) else (picture, "")
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, box)
    return blake2b(repr(facts).encode(), digest_size=16).digest()


def pixel_digest(picture):
    """Computes 16 bytes that differ if any pixel of two uint8 pictures differs."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    digest = blake2b(repr(picture.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture))
    return digest.digest()


def perceptual_hash(picture):
    """Computes bits of a uint8 picture that change little when it is scaled or saved again.

    This is `phash` of ImageHash with two sizes: which of the 8 x 8 lowest frequencies of the gray
    picture are above their median, and which of the 16 x 16 lowest.

    Returns:
        uint64 `(5,)`: one word of 64 bits, four words of 256.
    """
    import imagehash  # Slow to import, since it imports SciPy.

    gray = Image.fromarray(picture).convert("L")
    bits = [imagehash.phash(gray, hash_size=size).hash.ravel() for size in (8, 16)]
    return np.packbits(np.concatenate(bits)).view("uint64")


def near_duplicates(hashes, others=None, *, distance=NEAR):
    """Finds the pairs of pictures whose perceptual hashes differ in few bits.

    Every pair is compared, first by the 64 bits, of which at most 8 may differ, then by the 256
    bits. 35,711 pictures take three seconds, and 287,651 about three minutes. In a sample of pairs
    of FER2013 within 64 of 256 bits, all showed the same photograph, scaled, shifted or with a
    watermark. Synthetic faces have fewer details, and different ones can be as near as 40.

    Args:
        hashes: uint64 `(n, 5)`, from `perceptual_hash`.
        others: uint64 `(m, 5)`; `None` for the pairs among the n themselves, each once.
        distance: int >= 0, the largest number of different bits of the 256.

    Returns:
        int `(pairs, 2)`, the indices in `hashes` and in `others`; with `others=None`, the first
        index is the lower one.

    Example:

    >>> hashes = np.array([[0, 0, 0, 0, 0], [0xFF00FF, 0, 0, 0, 0], [1, 7, 7, 7, 7]], "uint64")
    >>> near_duplicates(hashes).tolist()
    [[0, 2]]
    """
    left = np.asarray(hashes, dtype="uint64").reshape(-1, WORDS)
    right = left if others is None else np.asarray(others, dtype="uint64").reshape(-1, WORDS)
    pairs = [np.empty((0, 2), dtype="int64")]
    for top in range(0, len(left), BLOCK):
        for start in range(top if others is None else 0, len(right), BLOCK):
            coarse = left[top : top + BLOCK, None, 0] ^ right[None, start : start + BLOCK, 0]
            found = np.argwhere(np.bitwise_count(coarse) <= CANDIDATE) + (top, start)
            if others is None:
                found = found[found[:, 0] < found[:, 1]]
            pairs.append(found[different_bits(left[found[:, 0]], right[found[:, 1]]) <= distance])
    return np.concatenate(pairs)


def different_bits(hashes, others):
    """Counts in how many of the 256 bits hashes `(..., 5)` differ, pair by pair."""
    return np.bitwise_count(hashes[..., 1:] ^ others[..., 1:]).sum(axis=-1, dtype="int64")
