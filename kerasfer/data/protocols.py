"""Protocols, which divide the samples of a dataset into train, validation and test.

| protocol   | folds      | test split                    | use                                   |
|------------|------------|-------------------------------|---------------------------------------|
| `official` | 1          | the test split of the release | if the release has one                |
| `subjects` | num_folds  | persons who are not in train  | CK+: the meaningful accuracy          |
| `frames`   | 1          | frames drawn at random        | CK+ as in most papers: it leaks       |
"""

import warnings
from dataclasses import dataclass

import numpy as np

from kerasfer.data.samples import Samples, stratified_order
from kerasfer.errors import DataError, RecipeError

FRAMES_TEST_FRACTION = 1 / 6


@dataclass(frozen=True, eq=False)
class Fold:
    """Holds the three splits of one experiment.

    Args:
        train: The samples that the model is trained on.
        validation: The samples that select the best epoch and stop training.
        test: The samples that the model is evaluated on.
        protocol: The protocol that made the splits.
        leaking: Whether nearly identical pictures are in both train and test, so that the accuracy
            does not apply to new persons.
    """

    train: Samples
    validation: Samples
    test: Samples
    protocol: str
    leaking: bool


def make_folds(samples, protocol=None, *, seed=0, num_folds=10, validation_fraction=0.1):
    """Divides samples into the folds of a protocol.

    The same arguments give the same folds, and each split keeps the order of the samples.

    Args:
        samples: The whole dataset.
        protocol: `"official"`, `"subjects"` or `"frames"`; `None` for the default of the dataset.
        seed: int, for random draws.
        num_folds: The number of folds of `"subjects"`, at least 3.
        validation_fraction: The share of the training samples, in (0, 1), that become the
            validation split, if the protocol does not define one.

    Returns:
        A list of `Fold`, which has one item for `"official"` and `"frames"`.

    Raises:
        RecipeError: If the protocol is unknown.
        DataError: If the dataset does not suit the protocol, or is too small.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> fold, = make_folds(load_dataset("synthetic", num_samples=60), "frames")
    >>> len(fold.train), len(fold.validation), len(fold.test)
    (45, 5, 10)
    """
    protocol = samples.protocol if protocol is None else protocol
    if protocol not in PROTOCOLS:
        raise RecipeError(
            f"data.protocol must be one of {', '.join(PROTOCOLS)}. Received: {protocol!r}."
        )
    if num_folds < 3:
        raise ValueError(
            "`num_folds` must be at least 3: one fold tests, one validates, the others train. "
            f"Received: num_folds={num_folds}."
        )
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"`validation_fraction` must be in (0, 1). Received: {validation_fraction}."
        )
    parts = PROTOCOLS[protocol](samples, seed, num_folds, validation_fraction)
    for train, validation, test in parts:
        for part, indices in (("train", train), ("validation", validation), ("test", test)):
            if len(indices) == 0:
                raise DataError(
                    f"{samples.name} is too small for the protocol {protocol!r}: none of its "
                    f"{len(samples)} samples remains for {part}. Add pictures."
                )
    return [
        Fold(*map(samples.take, indices), protocol=protocol, leaking=protocol == "frames")
        for indices in parts
    ]


def split_off(targets, fraction, seed, *, every_class=False):
    """Draws a stratified share of samples.

    At least one sample of each class remains.

    Args:
        targets: int `(n,)`.
        fraction: The share to draw, in (0, 1).
        seed: int.
        every_class: Whether to draw at least one sample of each class that has two or more, which
            may draw a few samples more than the share.

    Returns:
        Two sorted index arrays: the samples that remain, and those drawn.
    """
    num_kept = len(targets) - round(fraction * len(targets))
    order = stratified_order(targets, seed)
    is_drawn = np.zeros(len(targets), dtype=bool)
    is_drawn[order[num_kept:]] = True
    for target in np.unique(targets) if every_class else ():
        members = order[targets[order] == target]
        if len(members) > 1 and not is_drawn[members].any():
            is_drawn[members[-1]] = True
    return np.flatnonzero(~is_drawn), np.flatnonzero(is_drawn)


def _official(samples, seed, num_folds, validation_fraction):
    if samples.splits is None:
        raise DataError(
            f"{samples.name} has no official splits. Set data.protocol to "
            f"{'subjects or frames' if samples.subjects is not None else 'frames'}."
        )
    train, validation, test = (
        np.flatnonzero(samples.splits == split) for split in ("train", "validation", "test")
    )
    if len(test) == 0:
        raise DataError(
            f"{samples.name} has no test split, which the protocol 'official' needs. "
            "Add one, or set data.protocol=frames."
        )
    if len(validation) == 0:
        kept, drawn = split_off(samples.targets[train], validation_fraction, seed)
        train, validation = train[kept], train[drawn]
    return [(train, validation, test)]


def _subjects(samples, seed, num_folds, validation_fraction):
    if samples.subjects is None:
        raise DataError(
            f"The subjects of {samples.name} are unknown, so they cannot be kept apart. "
            f"Set data.protocol to {'frames' if samples.splits is None else 'official'}."
        )
    num_subjects = len(np.unique(samples.subjects))
    largest_class = np.bincount(samples.targets).max()
    if min(num_subjects, largest_class) < num_folds:
        raise DataError(
            f"{samples.name} is too small for {num_folds} folds: {num_subjects} subjects, and "
            f"{largest_class} samples in the largest class. Set data.num_folds lower."
        )
    # scikit-learn is slow to import, and only this protocol needs it.
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is stratified as far as possible.
        warnings.filterwarnings("ignore", message="The least populated class")
        tests = [
            test for _, test in splitter.split(samples.targets, samples.targets, samples.subjects)
        ]
    everything = np.arange(len(samples))
    folds = []
    for number, test in enumerate(tests):
        validation = tests[(number + 1) % num_folds]
        train = np.setdiff1d(everything, np.concatenate([test, validation]))
        folds.append((train, validation, test))
    return folds


def _frames(samples, seed, num_folds, validation_fraction):
    rest, test = split_off(samples.targets, FRAMES_TEST_FRACTION, seed)
    kept, drawn = split_off(samples.targets[rest], validation_fraction, seed)
    return [(rest[kept], rest[drawn], test)]


PROTOCOLS = {"official": _official, "subjects": _subjects, "frames": _frames}
