"""Computes metrics of predicted probabilities, and summarizes several folds.

All metrics are derived from the confusion matrix, with the definitions of scikit-learn, so they are
defined in the same way for one test split and for pooled folds. Values are fractions in [0, 1] and
plain Python types that can be written as JSON.
"""

import math
import statistics

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from kerasfer.errors import RunError

FOLD_SCORES = ("accuracy", "macro_recall", "macro_f1")


def classification_metrics(
    probabilities,
    targets,
    class_names,
    *,
    dataset,
    split,
    protocol,
    leaking=False,
    duplicates=None,
):
    """Scores predicted probabilities against the true classes.

    The macro means are taken over the classes that occur in `targets`, since the recall of a class
    without pictures is undefined. In `per_class` such a class has support 0 and scores of 0.

    Args:
        probabilities: `(n, num_classes)`, rows summing to 1. The largest is the prediction.
        targets: `(n,)` integers in `[0, num_classes)`.
        class_names: The `num_classes` names, in the order of the columns.
        dataset: The name of the dataset, as in the recipe.
        split: What was evaluated, such as `"test"`.
        protocol: How the data were split: `"official"`, `"subjects"` or `"frames"`.
        leaking: Whether that protocol has frames of one sequence in both training and test.
        duplicates: bool `(n,)`, which of the pictures are in the training set too, or None if this
            is unknown.

    Returns:
        The dict of `metrics.json`. `accuracy_interval` is the 95 % Wilson interval. The rows of
        `confusion_matrix` are true classes, the columns predicted ones. With `duplicates`,
        `without_duplicates` holds num_samples, accuracy and accuracy_interval of the other
        pictures. If there are no others, the last two are None.

    Raises:
        ValueError: If the arguments do not fit together.
        RunError: If probabilities are not finite, because the training diverged.

    Example:

    >>> metrics = classification_metrics(
    ...     [[0.9, 0.1], [0.6, 0.4]], [0, 1], ["happy", "sad"],
    ...     dataset="folder", split="test", protocol="official",
    ... )
    >>> metrics["accuracy"], metrics["confusion_matrix"]
    (0.5, [[1, 0], [1, 0]])
    """
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    _check(probabilities, targets, class_names)
    labels = range(len(class_names))
    predictions = probabilities.argmax(axis=-1)
    confusion = confusion_matrix(targets, predictions, labels=labels)
    metrics = {
        "dataset": dataset,
        "split": split,
        "protocol": protocol,
        "leaking": bool(leaking),
        **_scores(confusion, class_names),
    }
    if duplicates is not None:
        hits = (predictions == targets)[~np.asarray(duplicates)]
        metrics["without_duplicates"] = _rate(int(hits.sum()), len(hits))
    return metrics


def wilson_interval(successes, n):
    """Computes the 95 % Wilson interval of a rate.

    Unlike the normal approximation it stays inside [0, 1] and is accurate for small `n` and rates
    near 1. It assumes independent trials, which pictures of the same person are not.

    Args:
        successes: The number of successes.
        n: The number of trials, at least 1.

    Returns:
        The two ends of the interval.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference*, 1927.

    Example:

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(
            "`successes` must lie between 0 and `n`, and `n` be positive. "
            f"Received: successes={successes}, n={n}."
        )
    z = statistics.NormalDist().inv_cdf(0.975)
    rate, scale = successes / n, 1 + z**2 / n
    center = (rate + z**2 / (2 * n)) / scale
    half_width = z / scale * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return max(0.0, center - half_width), min(1.0, center + half_width)


def summarize_folds(folds):
    """Pools the metrics of k folds and adds their mean and standard deviation.

    Args:
        folds: The dict of `classification_metrics` of each fold, over the same classes.

    Returns:
        The keys of `classification_metrics`, computed from the sum of the confusion matrices, and
        `num_folds`; `mean` and `sd` of accuracy, macro_recall and macro_f1 over the folds (`sd`
        with n − 1; None for a single fold); `folds`, those scores and num_samples of each; and
        `without_duplicates`, if all folds have it.

    Raises:
        ValueError: If there are no folds, or their classes differ.
    """
    if not folds:
        raise ValueError("`folds` must hold the metrics of at least one fold. Received none.")
    first = folds[0]
    for fold in folds:
        if fold["class_names"] != first["class_names"]:
            raise ValueError(
                "All folds must have the same classes. "
                f"Received: {first['class_names']} and {fold['class_names']}."
            )
    scores = {key: [fold[key] for fold in folds] for key in FOLD_SCORES}
    confusion = np.sum([fold["confusion_matrix"] for fold in folds], axis=0)
    others = [fold.get("without_duplicates") for fold in folds]
    pooled = {}
    if all(others):
        hits = sum(round((rate["accuracy"] or 0) * rate["num_samples"]) for rate in others)
        count = sum(rate["num_samples"] for rate in others)
        pooled = {"without_duplicates": _rate(hits, count)}
    return {
        **{key: first[key] for key in ("dataset", "split", "protocol")},
        "leaking": any(fold.get("leaking", False) for fold in folds),
        **_scores(confusion, first["class_names"]),
        **pooled,
        "num_folds": len(folds),
        "mean": {key: statistics.fmean(values) for key, values in scores.items()},
        "sd": {
            key: statistics.stdev(values) if len(folds) > 1 else None
            for key, values in scores.items()
        },
        "folds": [{key: fold[key] for key in ("num_samples", *FOLD_SCORES)} for fold in folds],
    }


def _rate(hits, count):
    """Describes the accuracy of `hits` among `count` pictures, where `count` may be 0."""
    return {
        "num_samples": count,
        "accuracy": hits / count if count else None,
        "accuracy_interval": list(wilson_interval(hits, count)) if count else None,
    }


def _scores(confusion, class_names):
    """Derives every score from a `(num_classes, num_classes)` table of counts."""
    num_samples, hits = int(confusion.sum()), int(confusion.trace())
    # Each cell is one weighted pair (true, predicted).
    true, predicted = np.indices(confusion.shape).reshape(2, -1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        true,
        predicted,
        labels=range(len(class_names)),
        sample_weight=confusion.ravel(),
        zero_division=0,
    )
    support = confusion.sum(axis=1)
    present = support > 0
    return {
        "num_samples": num_samples,
        "accuracy": hits / num_samples,
        "accuracy_interval": list(wilson_interval(hits, num_samples)),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(class_names)
        },
        "confusion_matrix": confusion.tolist(),
        "class_names": list(class_names),
    }


def _check(probabilities, targets, class_names):
    if (
        targets.ndim != 1
        or not len(targets)
        or probabilities.shape != (len(targets), len(class_names))
    ):
        raise ValueError(
            "`probabilities` must have the shape (n, num_classes) and `targets` (n,), with n ≥ 1. "
            f"Received: {probabilities.shape}, {targets.shape} and {len(class_names)} class names."
        )
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= len(class_names):
        raise ValueError(
            f"`targets` must be integers in [0, {len(class_names)}). "
            f"Received: {targets.dtype} in [{targets.min()}, {targets.max()}]."
        )
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities)).any(axis=-1).sum())
        raise RunError(
            f"Expected finite probabilities, but the model gave NaN or infinity for {bad} of "
            f"{len(targets)} pictures: training diverged. Lower optimizer.learning_rate, or set "
            "optimizer.clip_norm."
        )
