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
from kerasfer.data.shards import PictureInShard
from kerasfer.errors import DataError

NEAR = 40  # Of 256 bits. See `near_duplicates`.
CANDIDATE = 8  # Of the 64 bits that are compared first.
LARGE = 512  # Pixels of the shorter side from which copies of other sizes are found.
COPY = 6  # Of 256 bits, between copies of a large picture; see `exact_duplicates`.
SHORTEST = 256  # Pixels of large pictures when they are compared.
WORDS = 5  # Of a hash: one of the 64 bits, four of the 256.
ROWS, BLOCK = 16, 4096  # Pictures and others compared at a time, which fit in a cache.
_KNOWN = {}  # The results for files that were decoded before.


def exact_duplicates(train, test, *, workers=None):
    """Finds the test pictures that are also in the training set.

    Decoded pictures with identical pixels are duplicates, so a picture that was saved again without
    loss is found, and a gray picture equals an RGB picture with three equal channels. Files are
    decoded only if a picture of the same size is in the other set.

    Photographs with a shorter side of at least 512 pixels are compared by their perceptual hashes,
    so that copies of another size or file format are found. Copies differ in at most 4 of 256 bits,
    and 6 are allowed. Of the 153 pairs of different FER2013 pictures within 6 bits, the 104 with
    the largest differences were inspected: all showed the same photograph.

    16 or 40 bytes of each picture are kept, also for the next call: a file that has not changed is
    decoded once in the life of the program.

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
    trained_on, tested = _sizes(train), _sizes(test)
    large = [[_is_large(size) for size in sizes] for sizes in (trained_on, tested)]
    small = [
        [size in _orientations(others) and not _is_large(size) for size in sizes]
        for sizes, others in ((trained_on, tested), (tested, trained_on))
    ]
    digests = _compute(pixel_digest, train, small[0], workers)
    known = {digest for digest in digests if digest is not None}
    found = [digest in known for digest in _compute(pixel_digest, test, small[1], workers)]
    found = np.array(found, dtype=bool)
    if any(large[0]) and any(large[1]):
        originals = _compute(perceptual_hash, train, large[0], workers)
        originals = [bits for bits in originals if bits is not None]
        hashes = _compute(perceptual_hash, test, large[1], workers)
        readable = [index for index, bits in enumerate(hashes) if bits is not None]
        pairs = near_duplicates([hashes[index] for index in readable], originals, distance=COPY)
        found[np.array(readable, dtype=int)[pairs[:, 0]]] = True
    return found


def _sizes(samples):
    """Lists the width and height of each picture, or `None`."""
    if isinstance(samples.pictures, np.ndarray):
        height, width = samples.pictures.shape[1:3]
        return [(width, height)] * len(samples)
    return [picture_size(path) for path in samples.pictures]


def _orientations(sizes):
    sizes = set(sizes) - {None}
    return sizes | {size[::-1] for size in sizes}


def _is_large(size):
    return size is not None and min(size) >= LARGE


def _compute(function, samples, chosen, workers):
    """Applies a function to the chosen pictures. The result is `None` for the others."""
    results, keys, left = [None] * len(samples), [None] * len(samples), []
    files = not isinstance(samples.pictures, np.ndarray)
    for index in np.flatnonzero(chosen):
        if files and (key := _file_key(samples.pictures[index])):
            keys[index] = function.__name__, key
        results[index] = _KNOWN.get(keys[index])
        if results[index] is None:
            left.append(index)
    left = np.array(left, dtype=int)
    found = scan(samples.take(left), function, shortest=SHORTEST, workers=workers)
    for index, result in zip(left, found, strict=True):
        if isinstance(result, DataError):
            continue
        results[index] = result
        if keys[index] is not None:
            _KNOWN[keys[index]] = result
    return results


def _file_key(picture):
    """Identifies a picture as long as its file does not change; `None` if that is missing.

    The key is a digest of 16 bytes, since a dataset may have 300,000 files.
    """
    path, place = picture, ""
    if isinstance(picture, FaceInPicture):
        path, place = picture.path, picture.box
    elif isinstance(picture, PictureInShard):
        path, place = picture.path, picture.row
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, place)
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
    rows, columns = np.ascontiguousarray(left[:, 0, None]), np.ascontiguousarray(right[None, :, 0])
    pairs = [np.empty((0, 2), dtype="int64")]
    for top in range(0, len(left), ROWS):
        for start in range(top if others is None else 0, len(right), BLOCK):
            coarse = rows[top : top + ROWS] ^ columns[:, start : start + BLOCK]
            close = np.bitwise_count(coarse) <= CANDIDATE
            if not close.any():
                continue
            found = np.argwhere(close) + (top, start)
            if others is None:
                found = found[found[:, 0] < found[:, 1]]
            pairs.append(found[different_bits(left[found[:, 0]], right[found[:, 1]]) <= distance])
    return np.concatenate(pairs)


def different_bits(hashes, others):
    """Counts in how many of the 256 bits hashes `(..., 5)` differ, pair by pair."""
    return np.bitwise_count(hashes[..., 1:] ^ others[..., 1:]).sum(axis=-1, dtype="int64")
