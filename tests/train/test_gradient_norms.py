"""The gradient's norm at a layer, step by step."""

import csv

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops

from kerasfer.errors import RecipeError, RunError
from kerasfer.models import MODELS
from kerasfer.recipe import load_recipe
from kerasfer.train import train
from kerasfer.train.gradient_norms import (
    KeepGradientNorms,
    read_gradient_norms,
    recording,
    weights_of,
)

RECIPE = """
data: {name: synthetic, num_samples: 70, image_size: 16, batch_size: 16}
model: {name: tiny_spd}
optimizer: {name: gc_adam, learning_rate: 0.01, clip_norm: 0.001}
train: {epochs: 2, tensorboard: false, verbose: 0, log_gradient_norm: spd_attention}
"""


def test_norms_by_hand(seed):
    """Of y = w x + b and a loss of y, the gradient is the mean of x, and 1."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="line")])
    optimizer = recording(keras.optimizers.SGD)(1.0, global_clipnorm=0.1)
    optimizer.record(weights_of(model, "line"), steps=2)
    model.compile(optimizer, loss=lambda _, y: ops.mean(y))
    x = np.array([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [2.0, 1.0]], "float32")
    model.fit(x, x[:, :1], batch_size=2, shuffle=False, verbose=0)
    expected = [np.sqrt(9 + 1), np.sqrt(1 + 1 + 1)]  # not the clipped 0.1
    assert np.allclose(ops.convert_to_numpy(optimizer.norms), expected, atol=1e-5)


def test_weights_of_a_layer():
    model = tiny_models.tiny_spd(("happy", "sad"), 16)
    paths = [model.trainable_variables[i].path for i in weights_of(model, "spd_attention")]
    assert len(paths) == 3 and all("spd_attention" in path for path in paths)
    assert [model.trainable_variables[i].path for i in weights_of(model, "bimap")] == [
        path for path in paths if "bimap" in path
    ]
    with pytest.raises(RecipeError, match="such as spd_attention, logits. Received: 'spd'"):
        weights_of(model, "spd")


def test_two_layers_of_the_same_name():
    """Two feature extractors have layers of the same names."""
    inputs = keras.Input((2,))
    parts = []
    for number in range(2):
        inner = keras.Input((2,))
        part = keras.Model(inner, keras.layers.Dense(3, name="line")(inner), name=f"part_{number}")
        parts.append(part(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.concatenate(parts)))
    assert weights_of(model, "line") == [0, 1, 2, 3]


def test_a_step_that_float16_skips_has_no_norm(tmp_path, seed):
    """The rows after it are not shifted."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="line")])
    inner = recording(keras.optimizers.SGD)(1e-3)
    inner.record(weights_of(model, "line"), steps=4)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0)
    model.compile(optimizer, loss=lambda _, y: ops.mean(y))
    model.optimizer.build(model.trainable_variables)
    x = np.array([[3.0], [np.inf], [4.0], [5.0]] * 2, "float32")
    callback = KeepGradientNorms(tmp_path / "gradient_norm.csv")
    model.fit(x[:4], x[:4], batch_size=1, shuffle=False, epochs=2, verbose=0, callbacks=[callback])
    norms = read_gradient_norms(callback.path)
    expected = np.sqrt(np.square([3, np.nan, 4, 5, 3, np.nan, 4, 5]) + 1)
    assert np.allclose(norms, expected, atol=1e-4, equal_nan=True)
    with open(callback.path) as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert [row["norm"] for row in rows][1] == ""


@pytest.fixture
def recipe(tmp_path, monkeypatch, plain):
    monkeypatch.setitem(MODELS, "tiny_spd", tiny_models.tiny_spd)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return load_recipe(path)


def test_a_run_logs_every_step(recipe, tmp_path, monkeypatch):
    run = tmp_path / "whole" / "tiny"
    train(recipe, output_dir=run.parent)
    norms = read_gradient_norms(run / "gradient_norm.csv")
    assert norms.shape == (6,)  # 49 pictures make 3 batches, the last of 17
    assert (norms > 0).all() and len(set(norms)) == 6
    with open(run / "gradient_norm.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 7)]

    # Interrupted after its second epoch was logged, and before it was kept, it ends up the same.
    def interrupt(self, epoch, logs=None):
        log(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    log = KeepGradientNorms.on_epoch_end
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(KeepGradientNorms, "on_epoch_end", interrupt)
        train(recipe, output_dir=tmp_path / "parts")
    assert len(read_gradient_norms(tmp_path / "parts/tiny/gradient_norm.csv")) == 6
    train(recipe, output_dir=tmp_path / "parts", resume=True)
    resumed = read_gradient_norms(tmp_path / "parts/tiny/gradient_norm.csv")
    assert np.allclose(resumed, norms, rtol=1e-3)


def test_gradient_norms_are_off_by_default(recipe, tmp_path):
    settings = recipe.train.model_copy(update={"log_gradient_norm": None, "epochs": 1})
    train(recipe.model_copy(update={"train": settings}), output_dir=tmp_path)
    assert not (tmp_path / "tiny" / "gradient_norm.csv").exists()
    with pytest.raises(RunError, match="Train with train.log_gradient_norm set to"):
        read_gradient_norms(tmp_path / "tiny" / "gradient_norm.csv")
