"""Compares an exported model with the original model."""

import numpy as np

from kerasfer.errors import RunError
from kerasfer.evaluate.paired import paired_interval

LEAST_AGREEMENT = 0.999  # share of pictures with the same top class, in float32
MOST_DIFFERENCE = 1e-3  # of any probability, in float32
LEAST_CLEAR_AGREEMENT = 0.99  # the same without near ties, if quantized
NEAR_TIE = 0.1  # lead of the model's class, as a probability, that a quantized export may overturn
MOST_LOSS = 0.02  # of accuracy, that the pictures must rule out


def compare(probabilities, reference, targets=None):
    """Compares the predictions of an exported model with those of the model, picture by picture.

    Args:
        probabilities: float32 `(n, num_classes)`, predictions of the exported model.
        reference: float32 `(n, num_classes)`, predictions of the model in float32.
        targets: int `(n,)`, the true classes, or `None` if they are unknown.

    Returns:
        A dict with `num_pictures`, `top1_agreement`, `clear_agreement`, where changes of near ties
        do not count, `max_probability_difference`, `mean_probability_difference`, `changed_lead`
        and, with targets, `accuracy` of both models. `changed_lead` contains the median and the
        maximum lead, in the model's probabilities, of the answers that changed, or is `None` if
        none changed. The `accuracy` includes the `change` from the model to the export and its 95 %
        `interval`.

    Raises:
        RunError: If probabilities are not finite or have the wrong shape.

    Example:

    >>> compare(np.array([[0.6, 0.4]]), np.array([[0.7, 0.3]]))["top1_agreement"]
    1.0
    """
    if probabilities.shape != reference.shape or not np.isfinite(probabilities).all():
        raise RunError(
            f"Expected finite probabilities of shape {reference.shape} from the exported model. "
            f"Received: shape {probabilities.shape}, "
            f"{np.isfinite(probabilities).mean():.0%} of them finite."
        )
    difference = np.abs(probabilities.astype("float64") - reference)
    answers, expected = probabilities.argmax(axis=-1), reference.argmax(axis=-1)
    rows = np.arange(len(reference))
    lead = (reference[rows, expected] - reference[rows, answers]).astype("float64")
    changed = lead[answers != expected]
    result = {
        "num_pictures": len(reference),
        "top1_agreement": float(np.mean(answers == expected)),
        "clear_agreement": float(np.mean(lead <= NEAR_TIE)),
        "max_probability_difference": float(difference.max()),
        "mean_probability_difference": float(difference.mean()),
        "changed_lead": {"median": float(np.median(changed)), "max": float(changed.max())}
        if len(changed)
        else None,
    }
    if targets is not None:
        right, right_before = answers == targets, expected == targets
        low, high = paired_interval(right_before, right)
        result["accuracy"] = {
            "model": float(np.mean(right_before)),
            "exported": float(np.mean(right)),
            "change": float(np.mean(right) - np.mean(right_before)),
            "interval": [low, high],
        }
    return result


def find_mismatch(compared, quantize):
    """Describes how an export is worse than its model.

    A float32 export must compute the same probabilities. A quantized export may change near ties,
    and is evaluated by its accuracy. If the interval of the change is entirely negative, the export
    is less accurate. If the interval excludes a loss of 2 points, the export is accepted. If it is
    wider, or the true classes are unknown, at least 99 % of the answers must be unchanged or
    changes of near ties.

    Args:
        compared: The dict of `compare`.
        quantize: `"none"`, or the quantization.

    Returns:
        A sentence, or `None` if the export is as good as the model.
    """
    if quantize == "none":
        return _find_difference(compared)
    if "accuracy" in compared:
        accuracy = compared["accuracy"]
        low, high = accuracy["interval"]
        if high < 0:
            return (
                f"the accuracy changes from {accuracy['model']:.1%} to {accuracy['exported']:.1%} "
                f"(95 % interval of the change: {100 * low:+.1f} to {100 * high:+.1f} points)"
            )
        if low >= -MOST_LOSS:
            return None
    if compared["clear_agreement"] < LEAST_CLEAR_AGREEMENT:
        changed = round((1 - compared["clear_agreement"]) * compared["num_pictures"])
        return (
            f"{changed} of {compared['num_pictures']} pictures get another class although the "
            f"model's led by more than {NEAR_TIE} ({compared['clear_agreement']:.2%} agreement "
            f"without near ties, at least {LEAST_CLEAR_AGREEMENT:.1%} expected)"
        )
    return None


def _find_difference(compared):
    agreement, difference = compared["top1_agreement"], compared["max_probability_difference"]
    found = []
    if agreement < LEAST_AGREEMENT:
        changed = round((1 - agreement) * compared["num_pictures"])
        found.append(
            f"{changed} of {compared['num_pictures']} pictures get another class "
            f"({agreement:.2%} agreement, at least {LEAST_AGREEMENT:.1%} expected)"
        )
    if difference > MOST_DIFFERENCE:
        found.append(
            f"a probability differs by {difference:.2g} (at most {MOST_DIFFERENCE:g} expected)"
        )
    return "; ".join(found) or None
