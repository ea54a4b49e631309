"""Compares an exported model with the model that it was made from."""

import numpy as np

from kerasfer.errors import RunError

LEAST_AGREEMENT = 0.999  # share of pictures with the same top class
LEAST_AGREEMENT_QUANTIZED = 0.99
MOST_DIFFERENCE = 1e-3  # of any probability, in float32


def compare(probabilities, reference, targets=None):
    """Compares the predictions of an exported model with those of the model, picture by picture.

    Args:
        probabilities: float32 `(n, num_classes)`, predictions of the exported model.
        reference: float32 `(n, num_classes)`, predictions of the model in float32.
        targets: int `(n,)`, the true classes, or `None` if they are unknown.

    Returns:
        A dict with `num_pictures`, `top1_agreement`, `max_probability_difference`,
        `mean_probability_difference` and, with targets, `accuracy` of both models.

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
    result = {
        "num_pictures": len(reference),
        "top1_agreement": float(np.mean(answers == expected)),
        "max_probability_difference": float(difference.max()),
        "mean_probability_difference": float(difference.mean()),
    }
    if targets is not None:
        result["accuracy"] = {
            "model": float(np.mean(expected == targets)),
            "exported": float(np.mean(answers == targets)),
        }
    return result


def find_mismatch(compared, quantize):
    """Describes how an export differs more from its model than it may.

    Args:
        compared: The dict of `compare`.
        quantize: `"none"`, or the quantization, for which the limits are wider.

    Returns:
        A sentence, or `None` if the export agrees.
    """
    least = LEAST_AGREEMENT if quantize == "none" else LEAST_AGREEMENT_QUANTIZED
    agreement = compared["top1_agreement"]
    difference = compared["max_probability_difference"]
    found = []
    if agreement < least:
        flipped = round((1 - agreement) * compared["num_pictures"])
        found.append(
            f"{flipped} of {compared['num_pictures']} pictures get another class "
            f"({agreement:.2%} agreement, at least {least:.1%} expected)"
        )
    if quantize == "none" and difference > MOST_DIFFERENCE:
        found.append(
            f"a probability differs by {difference:.2g} (at most {MOST_DIFFERENCE:g} expected)"
        )
    return "; ".join(found) or None
