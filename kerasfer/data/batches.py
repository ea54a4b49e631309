"""Makes batches for training and evaluation, which are the same in all runs and on all backends."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from kerasfer.data.augment import Augment, follow
from kerasfer.data.decoded import DecodedPictures
from kerasfer.data.prefetch import Prefetcher
from kerasfer.data.scanning import leave_out_bad_pictures
from kerasfer.data.shards import ShardedPictures
from kerasfer.errors import DataError

ORDER = 0  # The random stream of the order of an epoch. Batch i uses the streams of i + 1.
MIXUP = 1
PREFETCHED = 8  # Batches that are prepared ahead.


@dataclass(frozen=True, eq=False)
class Training:
    """Describes how the batches of training differ from those of evaluation.

    Args:
        augment: Mapping with the arguments of `kerasfer.data.augment.Augment`, or `None`.
        shuffle: Whether each epoch has its own random order.
        seed: int >= 0, for the order and the augmentation.
        sample_weights: float32 `(num_classes,)`, the weight of a sample of each class; `None` for
            batches without weights.
        multiple: The size of every batch is a multiple of this number, such as the number of
            devices. The samples at the end of an epoch that fill no multiple are left out.
        part: `(index, parts)`, the part of each batch that is prepared: the second half for
            `(1, 2)`. The parts of several processes together are the batches of one process.
    """

    augment: Mapping | None = None
    shuffle: bool = True
    seed: int = 0
    sample_weights: np.ndarray | None = None
    multiple: int = 1
    part: tuple[int, int] = (0, 1)


EVALUATION = Training(shuffle=False)


class Batches(keras.utils.PyDataset):
    """Feeds samples to `fit`, `evaluate` and `predict` as batches of pictures.

    The content of a batch depends only on the seed, the epoch and the index of the batch, never on
    threads or timing. A resumed run therefore sees the same batches as an uninterrupted one, on
    every backend. Pass `shuffle=False` to `fit`, because the order is determined here.

    `epoch` counts the finished passes of `fit` and may be set to resume or to repeat one. A last
    batch of a single sample, on which batch normalization cannot be trained, is joined with the
    batch before it.

    Args:
        samples: `kerasfer.data.samples.Samples`.
        image_size: int, the side of the pictures in pixels.
        batch_size: int.
        training: `Training`, or `None` for evaluation: all samples in their own order, without
            augmentation and weights.
        on_bad_image: `"error"`, or `"skip"`, which decodes every picture file once at the start,
            leaves the unreadable ones out of `samples` and lists them in `bad_images`.
        workers: int >= 0, the number of threads that prepare batches ahead; 0 prepares each batch
            when it is requested.

    Attributes:
        bad_images: Ids of the pictures that were left out.
        error: The first `DataError` that occurred, or `None`. TensorFlow replaces an error in its
            input pipeline by one of its own; see `original_errors`.

    Returns:
        Each item is `(images, labels)` or `(images, labels, weights)`: float32
        `(batch, image_size, image_size, 3)` in [0, 255], `(batch, num_classes)` and `(batch,)`.
        If the samples have landmarks, the images are a dict: `"pictures"`, and `"landmarks"` as
        float32 `(batch, points, 2)`, x and y as shares of the picture in [0, 1], or -1 where they
        are unknown.

    Raises:
        DataError: If a picture cannot be read, or if none can with `on_bad_image="skip"`.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> batches = Batches(load_dataset("synthetic", num_samples=20), image_size=48, batch_size=8)
    >>> images, labels = batches[0]
    >>> images.shape, labels.shape
    ((8, 48, 48, 3), (8, 7))
    """

    def __init__(
        self, samples, image_size, batch_size, *, training=None, on_bad_image="error", workers=1
    ):
        # Keras' own threads (workers > 1) repeat batches left over from an abandoned pass, such as
        # the one with which fit builds a model. One worker means none.
        super().__init__(workers=1)
        training = EVALUATION if training is None else training
        for name, value, least in (
            ("image_size", image_size, 1),
            ("batch_size", batch_size, 1),
            ("seed", training.seed, 0),
            ("workers", workers, 0),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")
        if len(samples) == 0:
            raise ValueError("`samples` must not be empty.")
        if on_bad_image not in ("error", "skip"):
            raise ValueError(
                f"`on_bad_image` must be 'error' or 'skip'. Received: {on_bad_image!r}."
            )
        if batch_size % training.multiple:
            raise ValueError(
                f"`batch_size` must be a multiple of {training.multiple}. Received: "
                f"batch_size={batch_size}."
            )
        index, parts = self.part = training.part
        if not 0 <= index < parts or training.multiple % parts:
            raise ValueError(
                "`part` must be an index below a number of parts that divides `multiple`. "
                f"Received: part={training.part}, multiple={training.multiple}."
            )
        self.sample_weights = _class_weights(training.sample_weights, samples)
        self.augment = None if training.augment is None else Augment(**training.augment)
        self.bad_images = []
        if on_bad_image == "skip":
            samples, self.bad_images = leave_out_bad_pictures(samples, workers)
        self.samples = samples
        self.image_size = image_size
        self.batch_size = batch_size
        self.shuffle = training.shuffle
        self.seed = training.seed
        self.on_bad_image = on_bad_image
        self.used = len(samples) // training.multiple * training.multiple
        if self.used == 0:
            raise DataError(
                f"Expected at least {training.multiple} pictures, one for each device. Received: "
                f"{len(samples)}."
            )
        self.epoch = 0
        self.error = None
        crop = None if self.augment is None else self.augment.crop or 1.0
        self.decoded = DecodedPictures(samples, image_size, crop)
        self._in_pass = self._took_last = False
        self._order = (None, None)  # An epoch and its order.
        self._prefetcher = Prefetcher(self._make, workers, PREFETCHED) if workers else None

    def __len__(self):
        full, rest = divmod(self.used, self.batch_size)
        joins = rest == 1 and self.batch_size > 1 and full > 0
        return full + (rest > 0 and not joins)

    def __getitem__(self, index):
        index = range(len(self))[index]
        try:
            if self._prefetcher is None:
                batch = self._make(self.epoch, index)
            else:
                batch = self._prefetcher.get(self.epoch, index, len(self))
        except DataError as error:
            self.error = self.error or error
            raise
        if index == len(self) - 1:
            self._took_last = True
        return batch

    def on_epoch_begin(self):
        self._in_pass, self._took_last = True, False

    def on_epoch_end(self):
        # Keras also calls this before the first epoch, and requests one or two batches to learn
        # their shapes. A pass counts if it began and reached its last batch. With a single batch
        # the two cannot be distinguished, so the caller has to set `epoch`.
        if self._in_pass and self._took_last:
            self.epoch += 1
        self._in_pass = False

    def _make(self, epoch, index):
        start = index * self.batch_size
        stop = self.used if index == len(self) - 1 else start + self.batch_size
        chosen = self._order_of(epoch)[start:stop]
        size = len(chosen) // self.part[1]
        own = np.arange(self.part[0] * size, (self.part[0] + 1) * size)
        if self.augment is None:
            images, landmarks, labels = self._decode(chosen[own])
        else:
            images, landmarks, labels = self._augment(chosen, own, epoch, index)
        if images.ndim == 3:  # Gray.
            images = np.repeat(images[..., None], 3, axis=-1)
        if landmarks is not None:
            # Phones cannot test for NaN, so -1 stands for unknown. Points outside of the picture
            # move to its edge.
            landmarks = np.where(np.isnan(landmarks), -1, landmarks.clip(0, 1))
            images = {"pictures": images, "landmarks": landmarks.astype("float32")}
        if self.sample_weights is None:
            return images, labels
        return images, labels, labels @ self.sample_weights

    def _decode(self, chosen):
        """Returns the pictures, landmarks and labels of some samples, without augmentation."""
        pictures, landmarks = self._pictures(chosen)
        if landmarks is not None:
            pairs = zip(landmarks, pictures, strict=True)
            landmarks = np.stack([follow(points, picture.shape) for points, picture in pairs])
        return np.stack(pictures).astype("float32"), landmarks, self.samples.labels[chosen]

    def _augment(self, chosen, own, epoch, index):
        """Returns the augmented pictures, landmarks and labels of the rows `own` of a batch.

        Only these pictures and their partners in mixup are decoded.
        """
        taken, partners = np.zeros(len(chosen), bool), None
        taken[own] = True
        if self.augment.mixup:
            share, partners = self.augment.draw_mixup(
                len(chosen), self._rng(epoch, index + 1, MIXUP)
            )
            taken[partners[own]] = True
        pictures, landmarks = self._pictures(chosen[taken])
        rng = self._rng(epoch, index + 1)
        images = self.augment(pictures, self.image_size, rng, landmarks, taken)
        labels, places = self.samples.labels[chosen[taken]], np.cumsum(taken) - 1
        if landmarks is not None:
            images, landmarks = images
            landmarks = landmarks[places[own]]  # If two pictures are mixed, those of the first.
        images = images.astype("float32")
        if partners is None:
            return images, landmarks, labels
        mixed = (
            share * part[places[own]] + (1 - share) * part[places[partners[own]]]
            for part in (images, labels)
        )
        images, labels = mixed
        return images, landmarks, labels

    def _pictures(self, chosen):
        """Returns the decoded pictures of some samples, and their landmarks in pixels or None."""
        pictures, scales = zip(*(self.decoded[sample] for sample in chosen), strict=True)
        if self.samples.landmarks is None:
            return pictures, None
        return pictures, self.samples.landmarks[chosen] * np.array(scales)[:, None]

    def _order_of(self, epoch):
        known, order = self._order
        if known != epoch:
            order = np.arange(len(self.samples))
            if self.shuffle and isinstance(self.samples.pictures, ShardedPictures):
                order = self.samples.pictures.shuffled(self._rng(epoch, ORDER))
            elif self.shuffle:
                self._rng(epoch, ORDER).shuffle(order)
            self._order = (epoch, order)
        return order

    def _rng(self, *stream):
        return np.random.default_rng([self.seed, *stream])


@contextlib.contextmanager
def original_errors(*loaders):
    """Raises the `DataError` of a loader instead of the error of the backend.

    TensorFlow reports an exception of its input pipeline as an error of its own, with two
    tracebacks in its message. JAX and PyTorch raise the original.

    Args:
        *loaders: The `Batches` in use.

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
    except Exception:  # The type depends on the backend.
        for loader in loaders:
            if loader.error is not None:
                raise loader.error from None
        raise


def _class_weights(weights, samples):
    if weights is None:
        return None
    weights = np.asarray(weights, dtype="float32")
    if weights.shape != (len(samples.class_names),):
        raise ValueError(
            f"`sample_weights` must have one weight for each of {len(samples.class_names)} "
            f"classes. Received shape: {weights.shape}."
        )
    return weights
