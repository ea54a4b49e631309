"""Batches for training and evaluation: decoded, varied, weighted, and the same on every run."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from kerasfer.data.augment import Augment, follow, views
from kerasfer.data.pictures import resize
from kerasfer.data.scanning import scan
from kerasfer.errors import DataError

__all__ = ["Batches", "original_errors", "views"]

ORDER = 0  # the random stream of an epoch's order; batch i has the streams of i + 1
MIXUP = 1


class Batches(keras.utils.PyDataset):
    """Feeds samples to `fit`, `evaluate` and `predict` as batches of pictures.

    What a batch holds depends on `seed`, the epoch and the batch's index alone, never on threads
    or timing: a resumed run sees what an uninterrupted one would have seen, on every backend.
    Pass `shuffle=False` to `fit`: the order is made here.

    `epoch` counts the finished passes of `fit` and may be set, to resume or to replay. A last batch
    of a single sample, which batch normalization cannot train on, joins the batch before it.

    Args:
        samples: `kerasfer.data.samples.Samples`.
        image_size: int, side of the pictures in pixels.
        batch_size: int.
        augment: mapping with the arguments of `kerasfer.data.augment.Augment`, or None.
        shuffle: whether each epoch has its own random order.
        seed: int >= 0.
        sample_weights: float32 `(num_classes,)`, the weight of a sample of each class; None for
            batches without weights.
        on_bad_image: `"error"`, or `"skip"`: every picture file is decoded once at the start and
            those that cannot be are left out of `samples` and listed in `bad_images`.
        workers: int >= 0, threads that prepare batches ahead; 0 to prepare each when it is asked.
        max_queue_size: int >= 1, how many batches to prepare ahead.

    Attributes:
        bad_images: ids of the pictures left out.
        error: the first `DataError` met, or None. TensorFlow turns an error in its input pipeline
            into one of its own; see `original_errors`.

    Returns:
        Each item is `(images, labels)` or `(images, labels, weights)`: float32
        `(batch, image_size, image_size, 3)` in [0, 255], `(batch, num_classes)` and `(batch,)`.
        Where the samples have landmarks, a dict in place of the images: `"pictures"`, and
        `"landmarks"` as float32 `(batch, points, 2)`, x and y as shares of the picture in [0, 1],
        or -1 where they are unknown.

    Raises:
        DataError: a picture cannot be read, or none can.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> batches = Batches(load_dataset("synthetic", num_samples=20), image_size=48, batch_size=8)
    >>> images, labels = batches[0]
    >>> images.shape, labels.shape
    ((8, 48, 48, 3), (8, 7))
    """

    def __init__(
        self,
        samples,
        image_size,
        batch_size,
        *,
        augment=None,
        shuffle=False,
        seed=0,
        sample_weights=None,
        on_bad_image="error",
        workers=1,
        max_queue_size=8,
    ):
        # Keras' own threads (workers > 1) replay batches left over from a pass that was given up,
        # such as the one with which fit builds a model. So Keras gets one, which is none.
        super().__init__(workers=1, max_queue_size=max_queue_size)
        for name, value, least in (
            ("image_size", image_size, 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("workers", workers, 0),
            ("max_queue_size", max_queue_size, 1),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")
        if len(samples) == 0:
            raise ValueError("`samples` must not be empty.")
        if on_bad_image not in ("error", "skip"):
            raise ValueError(
                f"`on_bad_image` must be 'error' or 'skip'. Received: {on_bad_image!r}."
            )
        if sample_weights is not None:
            sample_weights = np.asarray(sample_weights, dtype="float32")
            if sample_weights.shape != (len(samples.class_names),):
                raise ValueError(
                    f"`sample_weights` must have one weight for each of {len(samples.class_names)} "
                    f"classes. Received shape: {sample_weights.shape}."
                )
        self.bad_images = []
        if on_bad_image == "skip":
            samples, self.bad_images = leave_out_bad_pictures(samples, workers)
        self.samples = samples
        self.image_size = image_size
        self.batch_size = batch_size
        self.augment = None if augment is None else Augment(**augment)
        self.shuffle = shuffle
        self.seed = seed
        self.sample_weights = sample_weights
        self.on_bad_image = on_bad_image
        self.epoch = 0
        self.error = None
        self._in_pass = self._took_last = False
        self._order = (None, None)  # an epoch and its order
        self._ahead = _Ahead(self._make, workers, max_queue_size) if workers else None

    def __len__(self):
        full, rest = divmod(len(self.samples), self.batch_size)
        joins = rest == 1 and self.batch_size > 1 and full > 0
        return full + (rest > 0 and not joins)

    def __getitem__(self, index):
        index = range(len(self))[index]
        try:
            if self._ahead is None:
                batch = self._make(self.epoch, index)
            else:
                batch = self._ahead.get(self.epoch, index, len(self))
        except DataError as error:
            self.error = self.error or error
            raise
        if index == len(self) - 1:
            self._took_last = True
        return batch

    def on_epoch_begin(self):
        self._in_pass, self._took_last = True, False

    def on_epoch_end(self):
        # Keras also calls this before the first epoch, and looks at a first batch or two to learn
        # their shapes: a pass is one that began and came to its last batch. Of a single batch, a
        # look cannot be told from a pass; there the caller has to set `epoch`.
        if self._in_pass and self._took_last:
            self.epoch += 1
        self._in_pass = False

    def _make(self, epoch, index):
        start = index * self.batch_size
        stop = len(self.samples) if index == len(self) - 1 else start + self.batch_size
        chosen = self._order_of(epoch)[start:stop]
        pictures = [self.samples.picture(sample) for sample in chosen]
        labels = self.samples.labels[chosen]
        landmarks = None if self.samples.landmarks is None else self.samples.landmarks[chosen]
        if self.augment is None:
            images = np.stack([resize(picture, self.image_size) for picture in pictures])
            images = images.astype("float32")
            if landmarks is not None:
                pairs = zip(landmarks, pictures, strict=True)
                landmarks = np.stack([follow(points, picture.shape) for points, picture in pairs])
        else:
            rng = self._rng(epoch, index + 1)
            images = self.augment(pictures, self.image_size, rng, landmarks)
            if landmarks is not None:
                images, landmarks = images
            # Of two pictures mixed, the first one's landmarks hold.
            images, labels = self.augment.mix(
                images.astype("float32"), labels, self._rng(epoch, index + 1, MIXUP)
            )
        if images.ndim == 3:  # grey
            images = np.repeat(images[..., None], 3, axis=-1)
        if landmarks is not None:
            # Not NaN: phones cannot tell it. What left the picture is looked for at its edge.
            landmarks = np.where(np.isnan(landmarks), -1, landmarks.clip(0, 1))
            images = {"pictures": images, "landmarks": landmarks.astype("float32")}
        if self.sample_weights is None:
            return images, labels
        return images, labels, labels @ self.sample_weights

    def _order_of(self, epoch):
        known, order = self._order
        if known != epoch:
            order = np.arange(len(self.samples))
            if self.shuffle:
                self._rng(epoch, ORDER).shuffle(order)
            self._order = (epoch, order)
        return order

    def _rng(self, *stream):
        return np.random.default_rng([self.seed, *stream])


@contextlib.contextmanager
def original_errors(*loaders):
    """Raises the `DataError` of a loader in place of what a backend made of it.

    TensorFlow reports an exception of its input pipeline as an error of its own, with two
    tracebacks in its message; JAX and PyTorch let it through.

    Args:
        *loaders: the `Batches` in use.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> train = Batches(load_dataset("synthetic", num_samples=8), image_size=48, batch_size=4)
    >>> model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(7)])
    >>> model.compile(loss="mse")
    >>> with original_errors(train):
    ...     history = model.fit(train, shuffle=False, verbose=0)
    """
    try:
        yield
    except Exception:  # whatever it is: the cause is known
        for loader in loaders:
            if loader.error is not None:
                raise loader.error from None
        raise


def leave_out_bad_pictures(samples, workers=1):
    """Decodes every picture file once and leaves out those that cannot be.

    Returns:
        The usable samples, and the ids of the others.

    Raises:
        DataError: none is usable.
    """
    if isinstance(samples.pictures, np.ndarray):
        return samples, []
    readable = scan(samples, lambda picture: True, workers=max(1, workers))
    usable = np.fromiter((result is True for result in readable), bool, len(samples))
    if not usable.any():
        raise DataError(
            f"None of the {len(samples)} pictures of {samples.name} can be read, "
            f"{samples.pictures[0]} among them. Unpack the dataset again."
        )
    bad_images = [samples.ids[index] for index in np.flatnonzero(~usable)]
    return samples.take(usable), bad_images


class _Ahead:
    """Prepares the batches after the one asked for, in threads.

    `make(epoch, index)` gives the same batch whenever it is called, so what was prepared for a
    pass that was given up is simply dropped.
    """

    def __init__(self, make, workers, depth):
        self.make = make
        self.depth = depth
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="kerasfer-batches")
        self.lock = threading.Lock()
        self.futures = {}

    def get(self, epoch, index, num_batches):
        wanted = [(epoch, near) for near in range(index, min(index + self.depth + 1, num_batches))]
        with self.lock:
            for key in self.futures.keys() - set(wanted):
                self.futures.pop(key).cancel()
            for key in wanted:
                if key not in self.futures:
                    self.futures[key] = self.pool.submit(self.make, *key)
            future = self.futures.pop(wanted[0])
        return future.result()
