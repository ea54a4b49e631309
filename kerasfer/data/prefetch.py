"""Prepares batches in threads before they are needed."""

import threading
from concurrent.futures import ThreadPoolExecutor


class Prefetcher:
    """Prepares the batches that follow the requested one.

    Args:
        make: A function `(epoch, index) -> batch`, which gives the same batch whenever it is
            called. Batches that were prepared for an abandoned pass can therefore be dropped.
        workers: int >= 1, the number of threads.
        depth: int >= 1, the number of batches to prepare ahead.
    """

    def __init__(self, make, workers, depth):
        self.make = make
        self.depth = depth
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="kerasfer-batches")
        self.lock = threading.Lock()
        self.futures = {}

    def get(self, epoch, index, num_batches):
        """Returns the batch `index` of an epoch, which has `num_batches`."""
        wanted = [(epoch, near) for near in range(index, min(index + self.depth + 1, num_batches))]
        with self.lock:
            for key in self.futures.keys() - set(wanted):
                self.futures.pop(key).cancel()
            for key in wanted:
                if key not in self.futures:
                    self.futures[key] = self.pool.submit(self.make, *key)
            future = self.futures.pop(wanted[0])
        return future.result()
