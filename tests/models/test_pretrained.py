"""Compact files, pretrained models, and the conversion to gray."""

import keras
import numpy as np
import pytest

from kerasfer.errors import RunError
from kerasfer.models import build_model
from kerasfer.models.compact import save_compact
from kerasfer.models.loading import load_model
from kerasfer.models.pretrained import (
    DEFAULT,
    PRETRAINED,
    list_pretrained,
    load_pretrained,
    pretrained_path,
    read_card,
    read_facts,
)

pytestmark = pytest.mark.usefixtures("seed")


def predict(model, pictures):
    return keras.ops.convert_to_numpy(model(pictures, training=False))


def pictures(side):
    return np.random.default_rng(0).uniform(0, 255, (4, side, side, 3)).astype("float32")


def test_a_compact_file_has_half_the_size_and_the_same_predictions(tmp_path):
    model = build_model("efficientnet_lite0_cut", ("a", "b", "c"), 32)
    model.save(tmp_path / "whole.keras")
    save_compact(model, tmp_path / "compact.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("whole", "compact")]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = load_model(tmp_path / "compact.keras")
    assert {weight.dtype for weight in loaded.weights} == {"float32"}
    assert loaded.layers[-1].class_names == ("a", "b", "c")
    np.testing.assert_allclose(
        predict(loaded, pictures(32)), predict(model, pictures(32)), atol=0.01
    )
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        exact = len(ours.shape) < 2
        ours, theirs = map(keras.ops.convert_to_numpy, (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0 if exact else 1e-3, atol=1e-6 * (not exact))


def test_gray_models_ignore_color():
    model = build_model("classifier", ("a", "b"), 48, stem="half", gray=True)
    color = pictures(48)
    gray = np.repeat((color @ [0.299, 0.587, 0.114])[..., None], 3, axis=-1).astype("float32")
    assert not np.allclose(color, gray, atol=10)
    np.testing.assert_allclose(predict(model, color), predict(model, gray), atol=1e-5)
    plain = build_model("classifier", ("a", "b"), 48, stem="half")
    assert model.count_params() == plain.count_params() + 9
    assert len(model.trainable_weights) == len(plain.trainable_weights)


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_models_are_complete(name):
    assert pretrained_path(name).stat().st_size <= 5_000_000
    model = load_pretrained(name)
    facts = read_facts(name)
    assert facts["class_names"] == list(model.layers[-1].class_names)
    assert facts["num_parameters"] == model.count_params()
    size = model.input_shape[1]
    probabilities = predict(model, pictures(size))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    # The first pictures of the accuracy's record: noise, so that no face is needed.
    np.testing.assert_allclose(probabilities, facts["probabilities_of_noise"], atol=2e-3)
    card = read_card(name)
    assert f"{100 * facts['test']['accuracy']:.2f} %" in card
    assert "Art. 5(1)(f)" in card


def test_the_default_comes_first():
    assert list_pretrained()[0] == DEFAULT
    assert set(list_pretrained()) == set(PRETRAINED)


def test_unknown_names_are_refused():
    with pytest.raises(RunError, match="must be one of ferplus_lite0.*Received: 'ferplus_lite'"):
        load_pretrained("ferplus_lite")
