import importlib

import keras
import numpy as np
import pytest
from test_models import NAMES, check_model, pictures

from kerasfer.errors import RecipeError
from kerasfer.models import build_model, make_backbone, res_masking
from kerasfer.models.res_masking_net import _mask

pytestmark = pytest.mark.usefixtures("seed")


@pytest.fixture
def narrow(monkeypatch):
    """Puts a ResNet of 2 to 16 channels in place of the ResNet34, whose masks have 116 million
    weights."""

    def backbone(name, image_size, weights, stem, stages):
        x = inputs = keras.Input((image_size, image_size, 3))
        outputs = []
        for number, filters in enumerate((2, 4, 8, 16)):
            strides = 4 if number == 0 else 2
            x = keras.layers.Conv2D(
                filters, 3, strides, "same", activation="relu", name=f"conv_{number}"
            )(x)
            outputs.append(x)
        return keras.Model(inputs, outputs)

    # By its full name the module is hidden behind the function.
    module = importlib.import_module("kerasfer.models.res_masking_net")
    monkeypatch.setattr(module, "make_backbone", backbone)


def test_it_trains_and_saves(narrow, tmp_path):
    check_model(build_model("res_masking", NAMES, 32, dropout=0.4), tmp_path)


def test_frozen(narrow):
    model = build_model("res_masking", NAMES, 32, frozen=True)
    assert {weight.path.split("/")[0] for weight in model.trainable_weights} == {"logits"}


def test_masks_raise_each_place_by_one_in_all():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, _mask(inputs, 3, "mask"))
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype("float32")
    masks = model.predict(x, verbose=0)
    assert masks.shape == x.shape and masks.min() > 0
    np.testing.assert_allclose(masks.sum(axis=-1), 1, rtol=1e-5)
    assert np.ptp(masks) > 0.01


def test_a_stage_is_multiplied_by_one_and_its_mask(narrow):
    extractor = build_model("res_masking", NAMES, 32).get_layer("backbone")
    stages = [extractor.get_layer(f"stage_P{number}") for number in (2, 3, 4, 5)]
    looks = keras.Model(
        extractor.input,
        [extractor.get_layer(f"mask_P{n}_up_0_relu_2").output for n in (2, 3, 4, 5)],
    )
    x = pictures() / 255 - 0.5
    expected = x
    for stage, logits in zip(stages, looks.predict(x, verbose=0), strict=True):
        expected = stage.predict(expected, verbose=0)
        mask = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        expected = expected * (1 + mask)
    np.testing.assert_allclose(extractor.predict(x, verbose=0), expected, rtol=1e-3, atol=1e-5)


def parameters_of_masks():
    """Counts the weights that training moves, block by block as the authors' code lists them."""

    def block(inputs, outputs):  # two 3 × 3, the shortcut's 1 × 1, three norms
        return 9 * inputs * outputs + 9 * outputs**2 + inputs * outputs + 6 * outputs

    total = 0
    for width, depth in ((64, 4), (128, 3), (256, 2), (512, 1)):
        sizes = [width * 2**level for level in range(depth + 1)]
        for small, large in zip(sizes[:-1], sizes[1:], strict=True):
            total += block(small, large) + block(large, small)  # joined, what comes up is as wide
        for small, large in zip(sizes[1:-1], sizes[2:], strict=True):
            total += 4 * small * large + 3 * small  # transposed 2 × 2 with bias, norm
    return total


def test_structure():
    model = res_masking(tuple("abcdefg"), 64)
    assert model.get_layer("backbone").output_shape == (None, 2, 2, 512)
    resnet = make_backbone("resnet34", 64)
    moving = sum(int(np.prod(weight.shape)) for weight in resnet.trainable_weights)
    expected = moving + parameters_of_masks() + 7 * 513
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == expected == 137_796_423


@pytest.mark.parametrize(
    ("size", "stem", "message"),
    [
        (48, "imagenet", "must be a multiple of 32 with the imagenet stem.* Received: 48"),
        (52, "small", "must be a multiple of 8 with the small stem.* Received: 52"),
        (64, "tiny", "`stem` must be one of imagenet, half, small. Received: 'tiny'"),
    ],
)
def test_invalid_options_raise_a_recipe_error(size, stem, message):
    with pytest.raises(RecipeError, match=message):
        build_model("res_masking", NAMES, size, stem=stem)
