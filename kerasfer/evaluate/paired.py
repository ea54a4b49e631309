"""Compares two models on the same test pictures."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class PairedDifference(NamedTuple):
    """The difference of two accuracies on the same pictures.

    Args:
        difference: The first accuracy minus the second one, in [-1, 1].
        interval: Its 95 % interval.
        p_value: The probability of a difference at least as large if both models are equally
            accurate.
        by_seed: The difference of each pair of trainings.
    """

    difference: float
    interval: tuple
    p_value: float
    by_seed: tuple


def paired_difference(correct, others_correct):
    """Computes the difference of two accuracies, its interval and McNemar's test.

    A test of two models on the same pictures is more sensitive than a comparison of their
    intervals, because pictures that are easy or difficult for both cancel out. For a single pair of
    trainings, the p-value is that of McNemar's test without continuity correction. For several
    pairs, such as one for each seed, the mean over the pairs is one observation of a picture. The
    interval and the p-value describe the choice of test pictures, and not how much accuracies vary
    between trainings; `by_seed` shows that.

    Args:
        correct: bool `(seeds, n)`, whether the first model classifies a picture correctly.
        others_correct: The same for the second model, with the same seeds and pictures.

    Returns:
        `PairedDifference`.

    Raises:
        ValueError: If the shapes differ or there are no pictures.

    Example:

    >>> result = paired_difference([[True, True, True, False]], [[True, False, False, True]])
    >>> result.difference, round(result.p_value, 3)
    (0.25, 0.564)

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, 1947.
    """
    first, second = (np.asarray(values, dtype=float) for values in (correct, others_correct))
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(
            "`correct` and `others_correct` must have the same shape `(seeds, n)`. "
            f"Received: {first.shape} and {second.shape}."
        )
    differences = (first - second).mean(axis=0)
    mean, normal = float(differences.mean()), NormalDist()
    half_width = normal.inv_cdf(0.975) * float(differences.std()) / math.sqrt(len(differences))
    spread = math.sqrt(float(np.square(differences).sum()))
    p_value = 2 * normal.cdf(-abs(float(differences.sum())) / spread) if spread else 1.0
    by_seed = tuple(float(value) for value in (first - second).mean(axis=1))
    return PairedDifference(mean, (mean - half_width, mean + half_width), p_value, by_seed)


def paired_interval(before, after):
    """Computes the 95 % interval of the change of a rate on the same samples.

    Unlike that of `paired_difference`, the interval has a width even if nothing changes, which few
    samples or rare changes require. It is for a single pair of models.

    Args:
        before, after: bool `(n,)`, whether each sample is correct.

    Returns:
        The lower and the upper end of `after`'s rate minus that of `before`.

    Example:

    >>> before = np.array([True, True, True, False] * 50)
    >>> low, high = paired_interval(before, ~before)
    >>> round(low, 2), round(high, 2)
    (-0.61, -0.38)

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data, 2012.
    """
    count = len(before) + 2
    gained = (np.sum(after & ~before) + 1) / count
    lost = (np.sum(before & ~after) + 1) / count
    change = gained - lost
    margin = 1.96 * np.sqrt((gained + lost - change**2) / count)
    return float(max(change - margin, -1.0)), float(min(change + margin, 1.0))
