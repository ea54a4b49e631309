"""Pretrained models that come with kerasfer."""

import json
from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.text import did_you_mean

WEIGHTS = Path(__file__).with_name("weights")

PRETRAINED = {
    "ferplus_lite0": "EfficientNet-Lite0 on the eight expressions of FER+, pictures of 64 px.",
    "fer2013_lite0": "EfficientNet-Lite0 on the seven expressions of FER2013, pictures of 80 px.",
}
DEFAULT = "ferplus_lite0"
AUTHOR, LICENSE = "The kerasfer authors", "Apache-2.0"


def list_pretrained():
    """Returns the names of the pretrained models, the default one first.

    Example:

    >>> list_pretrained()[0]
    'ferplus_lite0'
    """
    return sorted(PRETRAINED, key=lambda name: (name != DEFAULT, name))


def pretrained_path(name=DEFAULT):
    """Returns the `.keras` file of a pretrained model. Keras is not imported.

    Raises:
        RunError: If there is no such model.
    """
    if name not in PRETRAINED:
        raise RunError(
            f"The pretrained model must be one of {', '.join(list_pretrained())}. Received: "
            f"{name!r}.{did_you_mean(name, PRETRAINED)}"
        )
    return WEIGHTS / f"{name}.keras"


def load_pretrained(name=DEFAULT):
    """Loads a pretrained model, in float32 and not compiled.

    Args:
        name: A key of `PRETRAINED`.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`. The names of the classes are
        `model.layers[-1].class_names`.

    Raises:
        RunError: If there is no such model.

    Example:

    >>> load_pretrained("ferplus_lite0").output_shape
    (None, 8)
    """
    path = pretrained_path(name)
    from kerasfer.models.loading import load_model  # Imports Keras.

    return load_model(path)


def read_facts(name=DEFAULT):
    """Returns the measured facts of a pretrained model, as on its model card."""
    path = pretrained_path(name).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8"))


def read_card(name=DEFAULT):
    """Returns the model card of a pretrained model, in Markdown."""
    return pretrained_path(name).with_suffix(".md").read_text(encoding="utf-8")
