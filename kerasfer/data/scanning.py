"""Decodes every picture of a dataset once, in threads, and keeps only what is computed of it."""

import os
from concurrent.futures import ThreadPoolExecutor

from kerasfer.errors import DataError

BLOCK = 512  # pictures under way at a time: what is decoded never grows with the dataset


def scan(samples, function, *, workers=None, progress=None):
    """Applies a function to every picture, in the samples' order.

    Args:
        samples: `Samples`.
        function: takes a uint8 picture `(height, width)` or `(height, width, 3)`; called from
            several threads.
        workers: int >= 1, threads; None for the machine's cores, at most 8.
        progress: called with the number of pictures done, now and then.

    Yields:
        What the function returns, or the `DataError` where a picture cannot be read.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> list(scan(load_dataset("synthetic", num_samples=2), lambda picture: picture.shape))
    [(64, 64, 3), (64, 64, 3)]
    """
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers

    def decode(index):
        try:
            return function(samples.picture(index))
        except DataError as error:
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="kerasfer-scan") as pool:
        for start in range(0, len(samples), BLOCK):
            stop = min(start + BLOCK, len(samples))
            yield from pool.map(decode, range(start, stop))
            if progress is not None:
                progress(stop)


def first_error(results):
    """Yields results as they come, and raises the first that is a `DataError`."""
    for result in results:
        if isinstance(result, DataError):
            raise result
        yield result
