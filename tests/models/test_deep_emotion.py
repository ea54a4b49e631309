import keras
import numpy as np
import pytest

from kerasfer.errors import RecipeError
from kerasfer.layers.affine import IDENTITY
from kerasfer.models import build_model, deep_emotion
from kerasfer.recipe.schema import Recipe
from kerasfer.train import train

pytestmark = pytest.mark.usefixtures("seed")


def pictures(count=2, side=48):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")


def test_structure():
    model = deep_emotion(tuple("abcdefg"))
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 66_877
    assert model.get_layer("backbone").output_shape == (None, 9, 9, 10)
    assert model.get_layer("features").output.shape == (None, 810)
    assert model.input_shape == (None, 48, 48, 3)


def test_it_begins_by_looking_at_the_whole_picture():
    extractor = deep_emotion(("a", "b")).get_layer("backbone")
    inner = keras.Model(extractor.input, extractor.get_layer("spatial_transformer").output)
    x = pictures()[..., :1] / 255
    np.testing.assert_allclose(inner.predict(x, verbose=0), x, atol=1e-4)


def test_it_sees_gray():
    model = deep_emotion(("a", "b"))
    x = pictures()
    gray = np.repeat(x.mean(axis=-1, keepdims=True), 3, axis=-1)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.predict(gray, verbose=0), atol=1e-5
    )


def test_frozen_and_dropout():
    model = build_model("deep_emotion", ("a", "b"), 48, frozen=True, dropout=0.0)
    assert {w.path.split("/")[0] for w in model.trainable_weights} == {"dense", "logits"}
    assert "dropout" not in [layer.name for layer in model.layers]
    assert deep_emotion(("a", "b")).get_layer("dropout").rate == 0.5


@pytest.mark.parametrize("side", [18, 19, 49])
def test_other_sizes(side):
    model = deep_emotion(("a", "b", "c"), side)
    np.testing.assert_allclose(model.predict(pictures(side=side), verbose=0).sum(), 2, rtol=1e-5)


def test_too_small_is_a_recipe_error():
    with pytest.raises(RecipeError, match="at least 18 px: raise data.image_size. .*image_size=17"):
        build_model("deep_emotion", ("a", "b"), 17)


def test_it_learns_where_to_look_from_a_recipe(tmp_path, offline, plain):
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "data": {"name": "synthetic", "num_samples": 56, "image_size": 24, "batch_size": 16},
            "model": {"name": "deep_emotion"},
            "optimizer": {"name": "gc_adam", "learning_rate": 0.005},
            "train": {"epochs": 1, "verbose": 0},
        }
    )
    train(recipe, output_dir=tmp_path)
    model = keras.saving.load_model(tmp_path / "tiny" / "model.keras")
    kernel, bias = model.get_layer("backbone").get_layer("where").get_weights()
    assert np.abs(kernel).max() > 1e-4 and np.abs(bias - IDENTITY).max() > 1e-4
