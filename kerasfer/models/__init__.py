"""Models by name: a new one is a file with a function from plain arguments to a `keras.Model`, and
a line here."""

import inspect
from difflib import get_close_matches

from kerasfer.errors import RecipeError
from kerasfer.models.backbones import make_backbone
from kerasfer.models.baselines import (
    alexnet,
    classifier,
    densenet121,
    inception_resnet_v1,
    mobilenet_v3_large,
    mobilenet_v3_small,
    resnet18,
    resnet34,
    vgg16,
    vgg19,
)
from kerasfer.models.covpool import covpool
from kerasfer.models.deep_emotion import deep_emotion
from kerasfer.models.obsr import obsr
from kerasfer.models.res_masking import res_masking
from kerasfer.models.slim import slim_spd
from kerasfer.models.spd_attention import spd_attention
from kerasfer.models.spdnet import spdnet

__all__ = [
    "MODELS",
    "alexnet",
    "build_model",
    "check_options",
    "classifier",
    "covpool",
    "deep_emotion",
    "densenet121",
    "inception_resnet_v1",
    "make_backbone",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "obsr",
    "res_masking",
    "resnet18",
    "resnet34",
    "slim_spd",
    "spd_attention",
    "spdnet",
    "vgg16",
    "vgg19",
]

MODELS = {
    "alexnet": alexnet,
    "classifier": classifier,
    "covpool": covpool,
    "deep_emotion": deep_emotion,
    "densenet121": densenet121,
    "inception_resnet_v1": inception_resnet_v1,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    "obsr": obsr,
    "res_masking": res_masking,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "slim_spd": slim_spd,
    "spd_attention": spd_attention,
    "vgg16": vgg16,
    "vgg19": vgg19,
}


def build_model(name, class_names, image_size, **options):
    """Builds a model by name, with the options of a recipe's `model` section.

    Args:
        name: A key of `MODELS`.
        class_names: One string a class.
        image_size: Side of the pictures, in pixels.
        **options: Arguments of the model's function.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Raises:
        RecipeError: Where the model or an option is unknown, or a value does not fit.

    Example:
        >>> build_model("resnet18", ("happy", "sad"), 48, stem="small")
    """
    check_options(name, options)
    try:
        return MODELS[name](tuple(class_names), image_size, **options)
    except ValueError as error:
        # A value out of range for this network, such as a BiMap wider than its input.
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RecipeError(f"The model {name} cannot be built: {reason}") from error


def check_options(name, options):
    """Checks the name of a model and those of its options, which takes no time.

    Args:
        name: A key of `MODELS`.
        options: Names of arguments of the model's function.

    Raises:
        RecipeError: Where one is unknown.

    Example:
        >>> check_options("resnet18", ["stem"])
    """
    if name not in MODELS:
        nearest = get_close_matches(name, MODELS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise RecipeError(
            f"model.name must be one of {', '.join(MODELS)}. Received: {name!r}.{hint}"
        )
    taken = list(inspect.signature(MODELS[name]).parameters)[2:]
    for option in options:
        if option not in taken:
            raise RecipeError(
                f"The model {name} does not take model.{option}; it takes {', '.join(taken)}."
            )
