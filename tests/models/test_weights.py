"""timm checkpoints in local folders: each tensor lands where it belongs."""

import os

import keras
import numpy as np
import pytest
from timm_checkpoint import BLOCKS, resnet_forward, resnet_tensors, write_checkpoint

from kerasfer.errors import RecipeError, RunError
from kerasfer.models import build_model, make_backbone

pytestmark = pytest.mark.usefixtures("seed", "offline")


@pytest.fixture(scope="module", params=list(BLOCKS))
def checkpoint(request, tmp_path_factory):
    tensors = resnet_tensors(request.param)
    folder = tmp_path_factory.mktemp("timm") / request.param
    return request.param, tensors, write_checkpoint(folder, request.param, tensors)


def keras_places(name):
    """Names (layer, weight) in keras-hub's ResNet for each of timm's, but the classifier's."""
    pairs = [("conv1", "conv1_conv"), ("bn1", "conv1_bn")]
    for stage, blocks in enumerate(BLOCKS[name]):
        for block in range(blocks):
            timm, keras_name = f"layer{stage + 1}.{block}", f"stack{stage}_block{block}"
            for number in (1, 2):
                pairs.append((f"{timm}.conv{number}", f"{keras_name}_{number}_conv"))
                pairs.append((f"{timm}.bn{number}", f"{keras_name}_{number}_bn"))
            if block == 0 and stage > 0:
                pairs.append((f"{timm}.downsample.0", f"{keras_name}_0_conv"))
                pairs.append((f"{timm}.downsample.1", f"{keras_name}_0_bn"))
    return pairs


def check_layers(model, tensors, pairs):
    """Compares the layers and returns timm's names of the tensors that were found."""
    found = set()
    for timm, layer_name in pairs:
        layer = model.get_layer(layer_name)
        parts = {"weight": "kernel"}
        if layer_name.endswith("_bn"):
            parts = {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }
        for part, attribute in parts.items():
            expected = tensors[f"{timm}.{part}"]
            if expected.ndim == 4:  # (out, in, h, w) → (h, w, in, out)
                expected = expected.transpose(2, 3, 1, 0)
            value = keras.ops.convert_to_numpy(getattr(layer, attribute))
            np.testing.assert_array_equal(value, expected, err_msg=f"{timm}.{part}")
            found.add(f"{timm}.{part}")
    return found


def test_each_tensor_lands_where_it_belongs(checkpoint):
    name, tensors, folder = checkpoint
    model = make_backbone(name, 64, weights=str(folder))
    found = check_layers(model, tensors, keras_places(name))
    assert found == set(tensors) - {"fc.weight", "fc.bias"}
    # And nothing else has weights.
    assert len(model.weights) == len(found)


def test_features_equal_those_of_timm(checkpoint):
    pytest.importorskip("torch")
    name, tensors, folder = checkpoint
    model = make_backbone(name, 64, weights=str(folder))
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype("float32")
    features = model.predict(x, verbose=0)
    expected = resnet_forward(tensors, name, x)
    assert features.shape == expected.shape == (2, 2, 2, 512)
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("stem", "side"), [("half", 3), ("small", 6)])
def test_stems_for_small_pictures_keep_all_but_their_convolution(checkpoint, stem, side):
    name, tensors, folder = checkpoint
    model = make_backbone(name, 48, weights=str(folder), stem=stem)
    assert model.output_shape == (None, side, side, 512)
    rest = [pair for pair in keras_places(name) if pair[0] != "conv1"]
    assert len(check_layers(model, tensors, rest)) == len(model.weights) - 1
    assert model.get_layer("conv1_conv").kernel.shape == (3, 3, 3, 64)


def test_models_take_the_folder(checkpoint):
    name, tensors, folder = checkpoint
    if name == "resnet34":
        model = build_model("obsr", ("a", "b"), 32, weights=str(folder))
        extractors = ["extractor_a", "extractor_b"]
    else:
        model = build_model("spd_attention", ("a", "b"), 32, weights=str(folder), frozen=True)
        extractors = ["backbone"]
        assert not model.get_layer("backbone").trainable_variables
    for extractor in extractors:
        check_layers(model.get_layer(extractor), tensors, keras_places(name))


def test_a_home_folder_is_found(checkpoint, monkeypatch):
    name, tensors, folder = checkpoint
    monkeypatch.setenv("HOME", str(folder.parent))
    model = make_backbone(name, 32, weights=os.path.join("~", name))
    check_layers(model, tensors, [("conv1", "conv1_conv")])


def test_another_depth_is_an_error(checkpoint):
    name, _, folder = checkpoint
    other = {"resnet18": "resnet34", "resnet34": "resnet18"}[name]
    with pytest.raises(RunError, match=f"must be of a {other}, with blocks .* Received: basic_bl"):
        make_backbone(other, 48, weights=str(folder))


def test_a_checkpoint_that_lacks_tensors_is_an_error(tmp_path):
    # It says resnet34 but holds a resnet18.
    folder = write_checkpoint(tmp_path / "wrong", "resnet34", resnet_tensors("resnet18"))
    with pytest.raises(RunError, match="of resnet34 could not be loaded from .*layer1.2.conv1"):
        make_backbone("resnet34", 48, weights=str(folder))


def test_a_truncated_checkpoint_is_an_error(tmp_path):
    folder = write_checkpoint(
        tmp_path / "cut", "resnet18", {"conv1.weight": np.zeros((64, 3, 7, 7))}
    )
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="of resnet18 could not be loaded from"):
        make_backbone("resnet18", 48, weights=str(folder))


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(RunError, match="could not be loaded from"):
        make_backbone("resnet18", 48, weights=str(tmp_path))


@pytest.mark.parametrize("path", ["./nowhere", "~/nowhere", "/nowhere/resnet18"])
def test_a_missing_folder_is_an_error(path):
    with pytest.raises(RunError, match=f"folder with a timm checkpoint.* {path}, which is not a"):
        make_backbone("resnet18", 48, weights=path)


def test_without_a_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        RunError, match="Without a network, set model.weights to null for "
    ) as error:
        make_backbone("resnet34", 48, weights="imagenet")
    assert "hf://timm/resnet34.tv_in1k" in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_network_there_are_no_retries(offline, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxy in (
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "no_proxy",
    ):
        monkeypatch.delenv(proxy, raising=False)
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(RunError, match="Without a network, set model.weights to null for random"):
        make_backbone("resnet18", 48, weights="imagenet")
    assert sum(waits) < 1
    assert constants.HF_HUB_OFFLINE is False


def test_an_unknown_preset_is_an_error():
    with pytest.raises(RunError, match="'resnet_18_imagenets' of resnet18 could not be loaded"):
        make_backbone("resnet18", 48, weights="resnet_18_imagenets")


def test_recipes_say_it_as_run_errors():
    with pytest.raises(RunError, match="which is not a folder"):
        build_model("resnet18", ("a", "b"), 48, weights="./nowhere")
    with pytest.raises(RecipeError, match="resnet18 does not take model.shared"):
        build_model("resnet18", ("a", "b"), 48, shared=True)
