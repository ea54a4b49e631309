"""Builds convolutional networks other than ResNets, each up to its last feature map."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
from keras import layers

from kerasfer.errors import RunError
from kerasfer.models.efficientnet_lite import (
    CUT,
    FEATURES,
    STRIDE_16,
    efficientnet_lite0_features,
)
from kerasfer.models.inception_resnet import inception_resnet_v1_features

WEIGHT_FILES = (".h5", ".hdf5")  # Includes .weights.h5.


class Pixels(NamedTuple):
    """The mean and standard deviation of R, G and B in [0, 255] that a network expects."""

    mean: tuple
    deviation: tuple


TORCH = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Pixels((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
TENSORFLOW = Pixels((127.5,) * 3, (127.5,) * 3)
FACENET = Pixels((127.5,) * 3, (128.0,) * 3)
EFFICIENTNET_LITE = Pixels((127.0,) * 3, (128.0,) * 3)


@dataclass(frozen=True)
class Network:
    """Describes how a network is built, and the input of its published weights.

    Args:
        build: `(image_size, stem, weights)` → `keras.Model`; `weights` is `None` or `"imagenet"`.
        smallest: For each stem that the network has, the smallest side of a picture, in pixels.
        pixels: How its input is scaled.
        imagenet: Whether `build` supports ImageNet weights.
        bgr: Whether published weights are for pictures in BGR order.
        features: For each stage before the last one that can feed a head, the layer whose output
            it is.
    """

    build: Callable
    smallest: dict
    pixels: Pixels
    imagenet: bool = True
    bgr: bool = False
    features: dict = field(default_factory=dict)


def make_network(name, image_size, weights=None, stem="imagenet"):
    """Builds one of `NETWORKS` without its classifier.

    Args:
        name: A key of `NETWORKS`.
        image_size: Side of the pictures, in pixels.
        weights: `None` for random weights, `"imagenet"`, or the path of a file with the weights of
            the network without its classifier, as Keras publishes and writes them (`.h5`,
            `.weights.h5`). Those of VGG are for pictures in BGR order.
        stem: One of those that the network has.

    Returns:
        A `keras.Model`: `(batch, image_size, image_size, 3)`, RGB scaled as the network's `pixels`
        say → `(batch, h, w, c)`.

    Raises:
        ValueError: If the pictures are too small, or the network has no such stem.
        RunError: If the weights cannot be loaded.

    Example:
        >>> make_network("vgg16", 48).output_shape
        (None, 1, 1, 512)
    """
    network = NETWORKS[name]
    if stem not in network.smallest:
        raise ValueError(
            f"`stem` of {name} must be {' or '.join(network.smallest)}. Received: {stem!r}."
        )
    smallest = network.smallest[stem]
    if image_size < smallest:
        small = " Or take `stem` small." if "small" in network.smallest and stem != "small" else ""
        raise ValueError(
            f"{name} needs pictures of at least {smallest} px: raise data.image_size, pictures are "
            f"enlarged to it.{small} Received: image_size={image_size}."
        )
    if weights == "imagenet":
        model = _with_imagenet(name, network, image_size, stem)
    else:
        model = network.build(image_size, stem, None)
        if weights is not None:
            _load(model, name, weights)
    if network.bgr and weights is not None:
        # Reversed once here instead of in every picture.
        first = next(layer for layer in model.layers if layer.weights)
        kernel, *rest = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], *rest])
    return model


def _with_imagenet(name, network, image_size, stem):
    if not network.imagenet:
        raise RunError(
            f"Keras has no ImageNet weights of {name}: set model.weights to null, or to a file "
            "with weights of this network. Received: imagenet."
        )
    try:
        with warnings.catch_warnings():
            # MobileNetV3 warns that its weights are for 224 px, but they fit all sizes.
            warnings.filterwarnings("ignore", ".*`input_shape` is undefined or non-square")
            return network.build(image_size, stem, "imagenet")
    except Exception as error:  # Keras raises this class if a download fails.
        if not str(error).startswith("URL fetch failure"):
            raise
        raise RunError(
            f"The ImageNet weights of {name} could not be downloaded: {str(error).splitlines()[0]} "
            "Without a network, set model.weights to null for random weights, or to the path of "
            "that file."
        ) from error


def _load(model, name, weights):
    path = Path(os.path.expanduser(weights))
    if not path.is_file() or path.suffix not in WEIGHT_FILES:
        raise RunError(
            f"model.weights of {name} must be null{', imagenet' * NETWORKS[name].imagenet} or a "
            f"file with its weights without the classifier (.h5, .weights.h5). Received: {weights}"
            f"{'' if path.is_file() else ', which is no file'}."
        )
    try:
        with warnings.catch_warnings():
            # Keras gives many warnings about layers that do not match before it fails.
            warnings.filterwarnings("ignore", "Skipping nested container")
            model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RunError(
            f"The weights of {name} without its classifier could not be loaded from {weights}: "
            f"{reason}"
        ) from error


def alexnet_features(image_size, stem="imagenet", weights=None):
    """Builds the five convolutions of AlexNet in one tower. The small stem has no first pooling.

    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014.
    """
    pictures = keras.Input((image_size, image_size, 3))
    if stem == "small":
        x = layers.Conv2D(64, 3, padding="same", activation="relu", name="conv_1")(pictures)
    else:
        x = layers.ZeroPadding2D(2, name="pad_1")(pictures)
        x = layers.Conv2D(64, 11, 4, activation="relu", name="conv_1")(x)
        x = layers.MaxPooling2D(3, 2, name="pool_1")(x)
    x = layers.Conv2D(192, 5, padding="same", activation="relu", name="conv_2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool_2")(x)
    for number, filters in ((3, 384), (4, 256), (5, 256)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
    return keras.Model(pictures, layers.MaxPooling2D(3, 2, name="pool_5")(x))


def _application(name, **options):
    """Returns the builder of a network in keras.applications."""

    def build(image_size, stem, weights):
        shape = (image_size, image_size, 3)
        make = getattr(keras.applications, name)
        return make(include_top=False, weights=weights, input_shape=shape, **options)

    return build


_FROM_32 = {"imagenet": 32}  # Smallest side that keras.applications supports.
_LITE_SIDES = {"imagenet": 32, "small": 16}
_RAW = {"include_preprocessing": False}

NETWORKS = {
    "alexnet": Network(alexnet_features, {"imagenet": 63, "small": 7}, TORCH, imagenet=False),
    "densenet121": Network(_application("DenseNet121"), _FROM_32, TORCH),
    "efficientnet_lite0": Network(
        efficientnet_lite0_features, _LITE_SIDES, EFFICIENTNET_LITE, features=FEATURES
    ),
    "efficientnet_lite0_cut": Network(
        partial(efficientnet_lite0_features, last=CUT),
        _LITE_SIDES,
        EFFICIENTNET_LITE,
        features=FEATURES,
    ),
    "efficientnet_lite0_stride16": Network(
        partial(efficientnet_lite0_features, last=STRIDE_16),
        _LITE_SIDES,
        EFFICIENTNET_LITE,
        features=FEATURES,
    ),
    "inception_resnet_v1": Network(
        inception_resnet_v1_features, {"imagenet": 75}, FACENET, imagenet=False
    ),
    "mobilenet_v3_large": Network(_application("MobileNetV3Large", **_RAW), _FROM_32, TENSORFLOW),
    "mobilenet_v3_small": Network(_application("MobileNetV3Small", **_RAW), _FROM_32, TENSORFLOW),
    "vgg16": Network(_application("VGG16"), _FROM_32, CAFFE, bgr=True),
    "vgg19": Network(_application("VGG19"), _FROM_32, CAFFE, bgr=True),
}
