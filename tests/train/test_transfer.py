"""Training that begins with the weights of another run."""

import hashlib
import json

import keras
import numpy as np
import pytest
import tiny_models

from kerasfer.errors import RecipeError, RunError
from kerasfer.models import MODELS, classifier, obsr
from kerasfer.recipe import load_recipe
from kerasfer.train import train
from kerasfer.train.transfer import copy_weights, is_own

pytestmark = pytest.mark.usefixtures("seed")

RECIPE = """
data: {name: synthetic, protocol: frames, num_samples: 70, image_size: 16, batch_size: 16}
model: {name: tiny}
optimizer: {name: sgd, learning_rate: 1.0e-9}
train: {epochs: 1, tensorboard: false, verbose: 2}
"""


def weights_of(model, name):
    return model.get_layer(name).get_weights()


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def randomized(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def test_the_same_classes_keep_the_classifier():
    source = randomized(tiny_models.tiny(("a", "b"), 16))
    model = tiny_models.tiny(("a", "b"), 32)
    assert copy_weights(model, source) == (["backbone", "logits"], [])
    assert_equal(model.get_weights(), source.get_weights())


@pytest.mark.parametrize("classes", [("b", "a"), ("a", "b", "c")])
def test_other_classes_begin_with_a_new_classifier(classes):
    source = randomized(tiny_models.tiny(("a", "b"), 16))
    model = tiny_models.tiny(classes, 16)
    logits = weights_of(model, "logits")
    assert copy_weights(model, source) == (["backbone"], ["logits"])
    assert_equal(weights_of(model, "backbone"), weights_of(source, "backbone"))
    assert_equal(weights_of(model, "logits"), logits)


def test_a_classifier_initializes_both_extractors_of_obsr():
    source = randomized(tiny_models.tiny(("a", "b"), 16))
    model = obsr(("a", "b"), 16, tiny_models.tiny_backbone(16))
    assert copy_weights(model, source) == (["extractor_a", "extractor_b"], ["logits"])
    for name in ("extractor_a", "extractor_b"):
        assert_equal(weights_of(model, name), weights_of(source, "backbone"))


def test_another_feature_extractor_is_refused():
    source = classifier(("a", "b"), 63, "alexnet")
    with pytest.raises(RunError, match="its feature extractor must have the same layers as this"):
        copy_weights(tiny_models.tiny(("a", "b"), 16), source)


def test_models_that_share_nothing_are_refused():
    def flat(name):
        pictures = keras.Input((16, 16, 3))
        x = keras.layers.Dense(2, name=name)(keras.layers.Flatten()(pictures))
        model = keras.Model(pictures, keras.layers.Softmax()(x))
        model.layers[-1].class_names = ("a", "b")
        return model

    with pytest.raises(RunError, match="it must share layers with this model: set model.name"):
        copy_weights(flat("one"), flat("two"))


def begun(class_names, image_size, weights=None):
    assert weights is None  # The weights of a run are not the builder's business.
    return tiny_models.tiny(class_names, image_size)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "tiny", begun)
    for figure in tiny_models.FIGURES:
        monkeypatch.setattr(figure, lambda *args, **kwargs: None)
    tmp_path.joinpath("first.yaml").write_text(RECIPE)
    train(load_recipe("first.yaml"))
    return tmp_path


def test_a_run_begins_with_another_runs_weights(place, capsys):
    train(load_recipe("first.yaml", ["name=second", "model.weights=runs/first"]))
    assert "Weights from runs/first: backbone, logits.\n" in capsys.readouterr().out
    first, second = (
        keras.saving.load_model(f"runs/{name}/model.keras") for name in ("first", "second")
    )
    # A vanishing learning rate leaves the kernels where they began.
    ours, theirs = (model.get_layer("backbone").get_layer("conv_0") for model in (first, second))
    np.testing.assert_allclose(ours.get_weights()[0], theirs.get_weights()[0], atol=1e-6)
    recorded = json.loads((place / "runs/second/environment.json").read_text())["weights"]
    digest = hashlib.sha256((place / "runs/first/model.keras").read_bytes()).hexdigest()
    assert recorded == {
        "path": "runs/first",
        "sha256": digest,
        "taken": ["backbone", "logits"],
        "fresh": [],
    }


def test_weights_can_be_read_from_a_file(place, capsys):
    (place / "runs/first/model.keras").rename(place / "trained.keras")
    train(load_recipe("first.yaml", ["name=second", "model.weights=trained.keras"]))
    assert "Weights from trained.keras: backbone, logits.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["model.weights=nowhere.keras"], RunError, "^model.weights: .* nowhere.keras, which does"),
        (
            ["model.weights=runs/first", "train.seed=1"],
            RecipeError,
            r"^model.weights: runs/first was trained on \d+ of this run's 12 test pictures\.",
        ),
        (
            ["model.weights=runs/first", "model.name=classifier", "model.backbone=alexnet"]
            + ["data.image_size=64"],
            RunError,
            "^model.weights: its feature extractor must have the same layers as .* backbone: set",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(place, settings, error, message):
    with pytest.raises(error, match=message) as refusal:
        train(load_recipe("first.yaml", ["name=second", *settings]))
    assert "\n" not in str(refusal.value)
    assert not (place / "runs/second").exists()


def test_names_and_folders_of_checkpoints_are_left_to_the_builder(tmp_path):
    assert not is_own(None)
    assert not is_own("imagenet")
    assert not is_own("hf://timm/resnet18.tv_in1k")
    assert not is_own(str(tmp_path))
    (tmp_path / "recipe.yaml").touch()
    assert is_own(str(tmp_path))
