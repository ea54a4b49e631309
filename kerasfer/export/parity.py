"""Whether an exported file says the same as the model it came from."""

import numpy as np

from kerasfer.errors import RunError

LEAST_AGREEMENT = 0.999  # of the top class, on the same pictures
LEAST_AGREEMENT_QUANTIZED = 0.99
MOST_DIFFERENCE = 1e-3  # of any probability, in float32


def compare(probabilities, reference, targets=None):
    """Compares what was exported with the model, picture by picture.

    Args:
        probabilities: float32 `(n, num_classes)`, what the exported file answers.
        reference: float32 `(n, num_classes)`, what the model answers in float32.
        targets: int `(n,)`, the true classes, where they are known.

    Returns:
        A dict: `num_pictures`, `top1_agreement` (ties and near-ties count as they fall),
        `max_probability_difference`, `mean_probability_difference`, and `accuracy`, that of the
        model and that of the file.

    Raises:
        RunError: Where the file answers with NaN, or in another shape.

    Example:
        >>> compare(np.array([[0.6, 0.4]]), np.array([[0.7, 0.3]]))["top1_agreement"]
        1.0
    """
    if probabilities.shape != reference.shape or not np.isfinite(probabilities).all():
        raise RunError(
            f"Expected {reference.shape} finite probabilities of the exported file. Received: "
            f"{probabilities.shape}, {np.isfinite(probabilities).mean():.0%} of them finite."
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


def mismatch(compared, quantize):
    """Says what of a comparison is beyond what an export may differ by, or None.

    Args:
        compared: The dict of `compare`.
        quantize: `"none"`, or how the file was quantized, which may differ more.
    """
    least = LEAST_AGREEMENT if quantize == "none" else LEAST_AGREEMENT_QUANTIZED
    agreement = compared["top1_agreement"]
    difference = compared["max_probability_difference"]
    found = []
    if agreement < least:
        flipped = round((1 - agreement) * compared["num_pictures"])
        found.append(
            f"{flipped} of {compared['num_pictures']} pictures get another class, an agreement of "
            f"{agreement:.2%} where {least:.1%} is expected"
        )
    if quantize == "none" and difference > MOST_DIFFERENCE:
        found.append(
            f"a probability differs by {difference:.2g} where {MOST_DIFFERENCE:g} is allowed"
        )
    return "; ".join(found) or None
