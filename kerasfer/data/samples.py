"""Labeled pictures of a dataset, before any of them is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from kerasfer.data.layout import FolderLayout
from kerasfer.data.picture_files import Names, PictureFiles
from kerasfer.data.pictures import read_picture
from kerasfer.data.shards import ShardedPictures
from kerasfer.options import Split
from kerasfer.text import printable

SPLITS = get_args(Split)
WHOLE = "whole"  # Represents the split of a dataset without splits.


@dataclass(frozen=True, eq=False)
class Samples:
    """Holds the labeled pictures of one dataset, or of a part of it.

    All datasets have this form, so that protocols, batches and reports do not depend on releases
    and file formats.

    Args:
        name: The name of the dataset, such as `"fer2013"`.
        class_names: The classes, in the order of the label columns.
        pictures: uint8 array `(n, height, width)` or `(n, height, width, 3)`, or a list of n paths
            that are decoded when a batch needs them.
        labels: float32 array `(n, num_classes)` whose rows sum to 1: one-hot, or soft labels.
        ids: n distinct names, such as `"fer2013.csv:17"`. They can be encoded as UTF-8: bytes of
            file names that are not valid UTF-8 become escapes such as `\\xe9`.
        splits: n times `"train"`, `"validation"` or `"test"`, if the release has official splits.
        subjects: n names of the persons pictured, if they are known.
        protocol: The default protocol of the dataset, a key of `kerasfer.data.protocols.PROTOCOLS`.
        landmarks: float32 `(n, points, 2)`, x and y in pixels of the decoded pictures, NaN where
            unknown; see `kerasfer.data.landmarks`.
        source: Where the pictures come from, with the options that select them, such as
            `"/data/ferplus, labels=majority"`. Two datasets are the same only if their `name` and
            `source` are equal.
        drawn_splits: The splits that were drawn at random, because the folder does not have them.
        notes: Lines for the user about what was skipped or assumed when the dataset was loaded.
        layout: How `kerasfer data prepare` lays out a copy of the dataset.

    Raises:
        ValueError: If the lengths, the labels or the names do not fit together.

    Example:

    >>> samples = Samples(
    ...     name="tiny", class_names=("happy", "sad"), pictures=np.zeros((2, 48, 48), "uint8"),
    ...     labels=one_hot([1, 0], 2), ids=("a.png", "b.png"))
    >>> samples.targets
    array([1, 0])
    """

    name: str
    class_names: tuple[str, ...]
    pictures: Sequence
    labels: np.ndarray
    ids: Sequence[str]
    splits: np.ndarray | None = None
    subjects: np.ndarray | None = None
    protocol: str = "official"
    landmarks: np.ndarray | None = None
    source: str = ""
    drawn_splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    layout: FolderLayout = field(default_factory=FolderLayout)

    def __post_init__(self):
        expected = (len(self.pictures), len(self.class_names))
        if self.labels.shape != expected or self.labels.dtype != np.float32:
            raise ValueError(
                "`labels` must be float32 of shape (pictures, classes). "
                f"Received: {self.labels.dtype} {self.labels.shape}, expected shape {expected}."
            )
        if not np.allclose(self.labels.sum(axis=1), 1.0, atol=1e-4):
            raise ValueError("Each row of `labels` must sum to 1.")
        for column in ("ids", "splits", "subjects", "landmarks"):
            values = getattr(self, column)
            if values is not None and len(values) != len(self):
                raise ValueError(
                    f"`{column}` must have one entry for each picture. "
                    f"Received: {len(values)} entries for {len(self)} pictures."
                )
        if not isinstance(self.ids, Names):
            object.__setattr__(self, "ids", _printable_ids(self.ids))
        if len(set(self.ids)) != len(self):
            raise ValueError("`ids` must differ from one another.")
        if self.splits is not None and not set(self.splits) <= set(SPLITS):
            raise ValueError(f"`splits` must be among {SPLITS}. Received: {set(self.splits)}.")

    def __len__(self):
        return len(self.pictures)

    @property
    def targets(self):
        """Returns the most likely class of each picture, int `(n,)`."""
        return self.labels.argmax(axis=1)

    def picture(self, index, shortest=None):
        """Decodes one picture: uint8 `(height, width)` or `(height, width, 3)`.

        Args:
            index: int.
            shortest: As for `kerasfer.data.pictures.read_picture`, which decodes the files.
        """
        picture = self.pictures[index]
        if isinstance(picture, np.ndarray):
            return picture
        return read_picture(picture, shortest=shortest)

    def take(self, indices):
        """Returns the samples at `indices`, an int or boolean array, in that order."""
        indices = np.arange(len(self))[np.asarray(indices)]

        def pick(values):
            if values is None or isinstance(values, np.ndarray):
                return values if values is None else values[indices]
            if isinstance(values, Names | PictureFiles | ShardedPictures):
                return values.take(indices)
            return [values[index] for index in indices]

        return replace(
            self,
            pictures=pick(self.pictures),
            labels=self.labels[indices],
            ids=pick(self.ids),
            splits=pick(self.splits),
            subjects=pick(self.subjects),
            landmarks=pick(self.landmarks),
        )


def source_of(place, **options):
    """Describes the source of samples: a location, and the options that are set.

    Example:

    >>> source_of("/data/ferplus", labels="majority", release=None)
    '/data/ferplus, labels=majority'
    """
    chosen = [
        f"{key}={value}"
        for key, value in options.items()
        if value is not None and value is not False
    ]
    return ", ".join([printable(place), *chosen])


def _printable_ids(names):
    """Makes names encodable as UTF-8, and numbers those that become equal."""
    ids, taken = [], set(names)
    for name in names:
        shown = name if isinstance(name, str) and name.isascii() else printable(name)
        while shown != name and shown in taken:
            shown += "_"
        taken.add(shown)
        ids.append(shown)
    return ids


def one_hot(targets, num_classes):
    """Turns class indices `(n,)` into float32 labels `(n, num_classes)`."""
    return np.eye(num_classes, dtype="float32")[np.asarray(targets, dtype="int64")]


def stratified_order(targets, seed):
    """Orders the samples so that every beginning of the order is stratified.

    The first samples are one of each class. After them each class appears in proportion to its
    size. The first k samples of the order are thus a stratified subset, which contains every class
    if k is large enough.

    Args:
        targets: int array `(n,)`.
        seed: int. The same seed gives the same order.

    Returns:
        int `(n,)`, a permutation of the sample indices.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(targets))
    turn = np.empty(len(targets))  # when a sample's turn comes, from 0 to 1
    for target in np.unique(targets):
        members = shuffled[targets[shuffled] == target]
        turn[members] = (np.arange(len(members)) + 0.5) / len(members)
        turn[members[0]] = 0.0
    return shuffled[np.argsort(turn[shuffled], kind="stable")]


def limit(samples, num_samples, seed=0):
    """Keeps a stratified subset of `num_samples` samples, in their original order.

    All samples are kept if there are fewer, or if `num_samples` is `None`.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> len(limit(load_dataset("synthetic", num_samples=50), 20))
    20
    """
    if num_samples is None or num_samples >= len(samples):
        return samples
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}.")
    return samples.take(np.sort(stratified_order(samples.targets, seed)[:num_samples]))


def class_weights(labels, mode):
    """Weighs the classes so that the mean weight over the training samples is 1.

    Args:
        labels: float32 `(n, num_classes)`, the labels of the training samples. Soft labels count
            by their shares.
        mode: `"balanced"`, inverse to the frequency of the class, so that all classes have the
            same influence; `"proportional"`, the literal reading of the SPD-Attention paper,
            which favors frequent classes; or `"none"`.

    Returns:
        float32 `(num_classes,)`, or `None` for `"none"`. A class without samples has weight 0.

    Example:

    >>> class_weights(one_hot([0, 0, 0, 1], 2), "balanced")
    array([0.6666667, 2.       ], dtype=float32)
    """
    if mode not in CLASS_WEIGHTS:
        raise ValueError(f"`mode` must be one of {CLASS_WEIGHTS}. Received: {mode!r}.")
    if mode == "none":
        return None
    counts = np.asarray(labels, dtype="float64").sum(axis=0)
    weights = counts.copy()
    if mode == "balanced":
        weights[counts > 0] = 1 / counts[counts > 0]
    return (weights * counts.sum() / (weights @ counts)).astype("float32")


CLASS_WEIGHTS = ("none", "balanced", "proportional")
