"""Decodes the pictures of a dataset at the size that batches need, and caches them."""

import math
import threading

import numpy as np

from kerasfer.data.pictures import picture_size, resize, shrink

CACHE_BYTES = 512 * 1024**2
LARGE = 1_000_000  # Pixels.
LOOKED_AT = 20  # Number of pictures whose size is read.
MARGIN = 2  # A picture is kept at twice the size of the input, so that rotated crops stay sharp.


class DecodedPictures:
    """Decodes pictures on request, shrinks large ones, and keeps them in memory up to a limit.

    Large photographs are shrunk while they are decoded, so that a batch never holds them at their
    full size. When the limit is reached, further pictures are decoded each time: an epoch reads
    every picture once, so replacing some of them by others would not help.

    Args:
        samples: `Samples`. Pictures in arrays are returned unchanged.
        image_size: int, the side of the model's input in pixels.
        crop: The smallest share of a picture's area that augmentation crops, in (0, 1]; or `None`
            without augmentation, where pictures are resized to `image_size` directly.
        most_bytes: int, the limit of the memory for kept pictures.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> decoded = DecodedPictures(load_dataset("synthetic", num_samples=7), 48, None)
    >>> picture, scale = decoded[0]
    >>> picture.shape, scale
    ((48, 48, 3), (0.75, 0.75))
    """

    def __init__(self, samples, image_size, crop, most_bytes=CACHE_BYTES):
        self.samples = samples
        self.image_size = image_size
        self.resizes = crop is None
        self.shortest = math.ceil(MARGIN * image_size / math.sqrt(crop or 1))
        self.most_bytes = most_bytes
        self.bytes = 0
        self._keeps = not isinstance(samples.pictures, np.ndarray)
        self._kept = {}
        self._lock = threading.Lock()

    def __getitem__(self, index):
        """Returns a uint8 picture and its scale (x, y), as shares of the original size."""
        index = int(index)
        if index in self._kept:
            return self._kept[index]
        decoded = self._decode(index)
        if self._keeps:
            with self._lock:
                if self.bytes + decoded[0].nbytes <= self.most_bytes and index not in self._kept:
                    self._kept[index] = decoded
                    self.bytes += decoded[0].nbytes
        return decoded

    def _decode(self, index):
        # Landmarks are in pixels of the original, whose size is known only when it is not shrunk.
        measured = self.samples.landmarks is not None
        picture = self.samples.picture(index, None if measured else self.shortest)
        height, width = picture.shape[:2]
        if self.resizes:
            picture = resize(picture, self.image_size)
        elif measured and min(height, width) >= 2 * self.shortest:
            picture = shrink(picture, self.shortest * max(height, width) / min(height, width))
        return picture, (picture.shape[1] / width, picture.shape[0] / height)


def describe_large(samples):
    """Yields a line with advice if the files of a dataset are large photographs.

    Args:
        samples: `Samples`.
    """
    if isinstance(samples.pictures, np.ndarray) or len(samples) == 0:
        return
    some = np.linspace(0, len(samples) - 1, LOOKED_AT).astype(int)
    sizes = [picture_size(samples.pictures[index]) for index in np.unique(some)]
    pixels = np.median([width * height for width, height in filter(None, sizes)] or [0])
    if pixels >= LARGE:
        yield (
            f"The pictures have about {pixels / 1e6:.1f} megapixels, so the first epoch is slow; "
            f"then up to {CACHE_BYTES >> 20} MiB of them are kept in memory. `kerasfer data "
            "prepare` crops the faces once, for all runs."
        )
