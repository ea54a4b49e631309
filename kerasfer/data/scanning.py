"""Applies functions to every picture of a dataset, which are decoded in threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kerasfer.errors import DataError
from kerasfer.text import usable_cores

SMALL = 64  # Pixels of pictures that are decoded only to see whether they can be.
STEP = 16  # Pictures between two reports of progress.
BLOCK = 512  # Pictures in progress at a time, which bounds the memory.


def scan(samples, function, *, shortest=None, workers=None, progress=None):
    """Applies a function to every picture, in the samples' order.

    Args:
        samples: `Samples`.
        function: Takes a uint8 picture `(height, width)` or `(height, width, 3)`. It is called
            from several threads.
        shortest: As for `kerasfer.data.pictures.read_picture`, to shrink large pictures.
        workers: int >= 1, the number of threads; `None` for the usable cores, at most 8.
        progress: Is called with the number of finished pictures, a few times per second or less.

    Yields:
        The result of the function, or the `DataError` if a picture cannot be read.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> list(scan(load_dataset("synthetic", num_samples=2), lambda picture: picture.shape))
    [(64, 64, 3), (64, 64, 3)]
    """
    workers = min(usable_cores(), 8) if workers is None else workers

    def decode(index):
        try:
            return function(samples.picture(index, shortest))
        except DataError as error:
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="kerasfer-scan") as pool:
        for start in range(0, len(samples), BLOCK):
            stop = min(start + BLOCK, len(samples))
            for done, result in enumerate(pool.map(decode, range(start, stop)), start + 1):
                if progress is not None and (done % STEP == 0 or done == stop):
                    progress(done)
                yield result


def check_readable(samples, workers=None):
    """Decodes every picture file once.

    Args:
        samples: `Samples`.
        workers: As for `scan`.

    Raises:
        DataError: If a picture cannot be read.
    """
    if not isinstance(samples.pictures, np.ndarray):
        for error in scan(samples, lambda picture: None, workers=workers):
            if error is not None:
                raise error


def leave_out_bad_pictures(samples, workers=1):
    """Decodes every picture file once and leaves out those that cannot be read.

    Args:
        samples: `Samples`.
        workers: int, the number of threads.

    Returns:
        The readable samples, and the ids of the others.

    Raises:
        DataError: If none is readable.
    """
    if isinstance(samples.pictures, np.ndarray):
        return samples, []
    results = scan(samples, lambda picture: True, shortest=SMALL, workers=max(1, workers))
    readable = np.fromiter((result is True for result in results), bool, len(samples))
    if not readable.any():
        raise DataError(
            f"None of the {len(samples)} pictures of {samples.name} can be read, "
            f"{samples.ids[0]} among them. Unpack the dataset again."
        )
    bad_images = [samples.ids[index] for index in np.flatnonzero(~readable)]
    return samples.take(readable), bad_images
