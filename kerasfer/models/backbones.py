"""Feature extractors: ResNets of keras-hub, `kerasfer.models.networks`, or any `keras.Model`."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple, get_args

import keras

from kerasfer.errors import RunError
from kerasfer.layers import FusedBatchNormalization
from kerasfer.models.downloads import cached_if_offline
from kerasfer.models.networks import NETWORKS, TORCH, make_network
from kerasfer.models.options import Stage


class Stem(NamedTuple):
    """Describes the beginning of a ResNet: one convolution and optional max-pooling."""

    kernel_size: int
    strides: int
    pooled: bool

    @property
    def stride(self):
        """The total stride, in pixels."""
        return self.strides * (2 if self.pooled else 1)


STEMS = {"imagenet": Stem(7, 2, True), "half": Stem(3, 2, False), "small": Stem(3, 1, False)}
STAGES = get_args(Stage)

# Block counts, and the timm checkpoint with torchvision's ImageNet weights.
RESNETS = {
    "resnet18": ((2, 2, 2, 2), "hf://timm/resnet18.tv_in1k"),
    "resnet34": ((3, 4, 6, 3), "hf://timm/resnet34.tv_in1k"),
}


def preprocessing(backbone=None):
    """Returns the layer that scales RGB in [0, 255] as the weights of a backbone expect.

    Args:
        backbone: As in `make_backbone`. For all but `NETWORKS`, pixels are scaled as for ResNets.
    """
    known = isinstance(backbone, str) and backbone in NETWORKS
    pixels = NETWORKS[backbone].pixels if known else TORCH
    return keras.layers.Rescaling(
        scale=[1 / deviation for deviation in pixels.deviation],
        offset=[-mean / deviation for mean, deviation in zip(*pixels, strict=True)],
        name="preprocessing",
    )


def make_backbone(backbone, image_size, weights=None, stem="imagenet", stages=("P5",), name=None):
    """Builds a feature extractor: pictures → the feature map of one stage.

    The result is a plain functional model, so that a saved model needs no keras-hub to load.

    Args:
        backbone: `"resnet18"`, `"resnet34"`, one of `kerasfer.models.networks.NETWORKS`, or a
            built `keras.Model` that takes `(batch, image_size, image_size, 3)` and returns a
            feature map, such as the backbones of KerasCV. A model is used unchanged: `weights` and
            `stem` must keep their defaults. Except for ResNets and EfficientNet-Lite, each of
            `stages` must be `"P5"`, the output.
        image_size: Side of the pictures, in pixels.
        weights: `None` for random ones, `"imagenet"`, a keras-hub preset (`"hf://timm/…"`), or the
            path of a folder with a timm checkpoint (`config.json`, `model.safetensors`) or a
            keras-hub preset, which needs no network. For `NETWORKS` the path of a file of Keras
            weights, as in `kerasfer.models.networks.make_network`.
        stem: `"imagenet"`: 7 × 7 with stride 2, then max-pooling; a side of 224 becomes 7. For
            small pictures `"small"`: 3 × 3 with stride 1 and no pooling; a side of 48 becomes 6.
            Or `"half"`: 3 × 3 with stride 2 and no pooling; 48 becomes 3, at a quarter of the
            cost. The 3 × 3 kernel is always random, since ImageNet's does not fit. Of `NETWORKS`
            only AlexNet has a small one.
        stages: Which feature maps to return, of `"P2"` (the finest) to `"P5"` (the last).
        name: Name of the model.

    Returns:
        A `keras.Model`: `(batch, image_size, image_size, 3)`, preprocessed → `(batch, h, w, c)`,
        or a list of these if there are several stages.

    Raises:
        ValueError: If an argument is unknown or does not fit the backbone.
        RunError: If the weights cannot be loaded.

    Example:
        >>> make_backbone("resnet18", 48, stem="small").output_shape
        (None, 6, 6, 512)
    """
    if isinstance(backbone, keras.Model):
        if (weights, stem, set(stages)) != (None, "imagenet", {"P5"}):
            raise ValueError(
                "A backbone that is a `keras.Model` is used as it is, up to its output P5. "
                f"Received: weights={weights!r}, stem={stem!r}, stages={stages}."
            )
        output = backbone.outputs[0]
        return keras.Model(backbone.inputs, _one_or_all([output for _ in stages]), name=name)
    for argument, value, known in (
        ("backbone", backbone, (*RESNETS, *NETWORKS)),
        ("stem", stem, STEMS),
        *(("stage", stage, STAGES) for stage in stages),
    ):
        if value not in known:
            raise ValueError(
                f"`{argument}` must be one of {', '.join(known)}. Received: {value!r}."
            )
    if backbone in NETWORKS:
        features = NETWORKS[backbone].features
        if not set(stages) <= {*features, "P5"}:
            raise ValueError(
                f"Only ResNets and EfficientNet-Lite have the stages {', '.join(STAGES)}; of "
                f"{backbone} take P5, its last feature map. Received: {', '.join(stages)}."
            )
        model = make_network(backbone, image_size, weights, stem)
        outputs = [
            model.output if stage == "P5" else model.get_layer(features[stage]).output
            for stage in stages
        ]
        return keras.Model(model.input, _one_or_all(outputs), name=name)
    resnet = _resnet(backbone, image_size, weights)
    outputs = _one_or_all([resnet.pyramid_outputs[stage] for stage in stages])
    return _rebuild(keras.Model(resnet.input, outputs, name=name), weights, stem)


def _one_or_all(outputs):
    return outputs[0] if len(outputs) == 1 else outputs


def _resnet(name, image_size, weights):
    from keras_hub.models import ResNetBackbone  # Slow to import, and only this needs it.

    blocks, imagenet = RESNETS[name]
    image_shape = (image_size, image_size, 3)
    if weights is None:
        return ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=list(blocks),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type="basic_block",
            image_shape=image_shape,
            data_format="channels_last",
        )
    from safetensors import SafetensorError  # keras-hub reads timm's checkpoints with it.

    preset = imagenet if weights == "imagenet" else os.path.expanduser(weights)
    if "://" not in preset and _looks_like_path(weights) and not Path(preset).is_dir():
        raise RunError(
            "model.weights must be null, imagenet, a keras-hub preset, a run folder, a .keras file "
            "or a folder with a timm checkpoint (config.json, model.safetensors). Received: "
            f"{weights}, which is not a folder."
        )
    try:
        with cached_if_offline() if "hf://" in preset else contextlib.nullcontext():
            resnet = ResNetBackbone.from_preset(
                preset, image_shape=image_shape, data_format="channels_last"
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(
            f"The weights {weights!r} of {name} could not be loaded from {preset}: {reason} "
            "Without a network, set model.weights to null for random weights, or to a folder that "
            "holds that checkpoint."
        ) from error
    if tuple(resnet.stackwise_num_blocks) != blocks or resnet.block_type != "basic_block":
        raise RunError(
            f"The weights {weights!r} must be of a {name}, with blocks {blocks}. Received: "
            f"{resnet.block_type}s {tuple(resnet.stackwise_num_blocks)}."
        )
    return resnet


def _looks_like_path(weights):
    return weights != "imagenet" and (os.sep in weights or weights.startswith((".", "~")))


def _rebuild(model, weights, stem):
    """Rebuilds a ResNet with fused normalization and the requested stem. It keeps its weights."""

    kernel_size, strides, pooled = STEMS[stem]
    edited = {"conv1_pad", "conv1_conv", "pool1_pad", "pool1_pool"}
    if missing := edited - {layer.name for layer in model.layers}:
        raise RuntimeError(
            f"This version of keras-hub builds ResNets without the layers {sorted(missing)}, which "
            "kerasfer changes by name. Install the version that pyproject.toml allows."
        )

    def rebuild(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization.from_config(config)
        if layer.name == "conv1_pad":
            config["padding"] = kernel_size // 2
        elif layer.name == "conv1_conv":
            config.update(kernel_size=kernel_size, strides=strides)
        elif layer.name in ("pool1_pad", "pool1_pool") and not pooled:
            return keras.layers.Identity(name=layer.name)
        return layer.__class__.from_config(config)

    clone = keras.models.clone_model(model, clone_function=rebuild)
    if weights is not None:
        for layer in clone.layers:
            if layer.weights and (stem == "imagenet" or layer.name != "conv1_conv"):
                layer.set_weights(model.get_layer(layer.name).get_weights())
    return clone
