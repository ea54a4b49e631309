"""Registers the models by name.

A new model is a file with a function `(class_names, image_size, **options)` that returns a
`keras.Model`, and an entry in `MODELS`. Keras is imported when a model is first used.
"""

import inspect

from kerasfer.errors import RecipeError
from kerasfer.models.options import (
    AlexNet,
    Classifier,
    CovPool,
    Frozen,
    LiteNetwork,
    Network,
    Obsr,
    SlimSPD,
    SPDAttention,
    StemmedNetwork,
)
from kerasfer.options import Registered, function_of
from kerasfer.text import did_you_mean

MODELS = {
    "alexnet": Registered("kerasfer.models.baselines.alexnet", AlexNet),
    "classifier": Registered("kerasfer.models.baselines.classifier", Classifier),
    "covpool": Registered("kerasfer.models.covpool_net.covpool", CovPool),
    "deep_emotion": Registered("kerasfer.models.deep_emotion_net.deep_emotion", Frozen),
    "densenet121": Registered("kerasfer.models.baselines.densenet121", Network),
    "efficientnet_lite0": Registered("kerasfer.models.baselines.efficientnet_lite0", LiteNetwork),
    "efficientnet_lite0_cut": Registered(
        "kerasfer.models.baselines.efficientnet_lite0_cut", LiteNetwork
    ),
    "efficientnet_lite0_stride16": Registered(
        "kerasfer.models.baselines.efficientnet_lite0_stride16", LiteNetwork
    ),
    "inception_resnet_v1": Registered("kerasfer.models.baselines.inception_resnet_v1", Network),
    "mobilenet_v3_large": Registered("kerasfer.models.baselines.mobilenet_v3_large", Network),
    "mobilenet_v3_small": Registered("kerasfer.models.baselines.mobilenet_v3_small", Network),
    "obsr": Registered("kerasfer.models.obsr_net.obsr", Obsr),
    "res_masking": Registered("kerasfer.models.res_masking_net.res_masking", StemmedNetwork),
    "resnet18": Registered("kerasfer.models.baselines.resnet18", StemmedNetwork),
    "resnet34": Registered("kerasfer.models.baselines.resnet34", StemmedNetwork),
    "slim_spd": Registered("kerasfer.models.slim.slim_spd", SlimSPD),
    "spd_attention": Registered("kerasfer.models.spd_attention_net.spd_attention", SPDAttention),
    "vgg16": Registered("kerasfer.models.baselines.vgg16", Network),
    "vgg19": Registered("kerasfer.models.baselines.vgg19", Network),
}

# Functions that do not build a classifier of pictures, so recipes cannot name them.
BUILDERS = {
    "make_backbone": Registered("kerasfer.models.backbones.make_backbone"),
    "spdnet": Registered("kerasfer.models.spd_network.spdnet"),
}

__all__ = ["MODELS", "build_model", "register_model", *BUILDERS, *MODELS]


def __getattr__(name):
    if name in BUILDERS or name in MODELS:
        return function_of((BUILDERS | MODELS)[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]


def register_model(name, build, options=None):
    """Registers a model, so that recipes can name it.

    Args:
        name: The model's name in recipes.
        build: Function `(class_names, image_size, **options)` that returns a `keras.Model`. The
            model takes RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] and ends in a
            `kerasfer.layers.ClassProbabilities`.
        options: `kerasfer.options.Section` class with the options that recipes may set, each with
            its range and description. `None` derives it from the arguments of `build`.

    Raises:
        ValueError: If another model has that name.

    Example:

    ```python
    def small(class_names, image_size, units: int = 32):
        pictures = keras.Input((image_size, image_size, 3))
        x = keras.layers.Rescaling(1 / 255)(pictures)
        x = keras.layers.Conv2D(units, 3, activation="relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        logits = keras.layers.Dense(len(class_names))(x)
        return keras.Model(pictures, kerasfer.layers.ClassProbabilities(class_names)(logits))

    register_model("small", small)
    train(load_recipe("quickstart", ["model={name: small, units: 16, bimap_units: null}"]))
    ```
    """
    if name in MODELS:
        raise ValueError(f"`name` must not be one of the registered models. Received: {name!r}.")
    MODELS[name] = build if options is None else Registered(build, options)


def build_model(name, class_names, image_size, **options):
    """Builds a model by name, with the options of a recipe's `model` section.

    Args:
        name: A key of `MODELS`.
        class_names: One string per class.
        image_size: Side of the pictures, in pixels.
        **options: Arguments of the model's function.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Raises:
        RecipeError: If the model or an option is unknown, or a value does not fit.

    Example:

    >>> model = build_model("resnet18", ("happy", "sad"), 48, stem="small")
    >>> model.output_shape
    (None, 2)
    """
    if name not in MODELS:
        raise RecipeError(
            f"model.name must be one of {', '.join(MODELS)}. Received: {name!r}."
            f"{did_you_mean(name, MODELS)}"
        )
    build = function_of(MODELS[name])
    taken = list(inspect.signature(build).parameters)[2:]
    for option in options:
        if option not in taken:
            raise RecipeError(
                f"The model {name} does not take model.{option}; it takes {', '.join(taken)}."
            )
    try:
        return build(tuple(class_names), image_size, **options)
    except ValueError as error:
        # A value that is out of range for this network, such as a BiMap wider than its input.
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RecipeError(f"The model {name} cannot be built: {reason}") from error
