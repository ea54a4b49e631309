import keras
import numpy as np
import pytest
import tiny_models
from keras import ops

from kerasfer.recipe.schema import Optimizer
from kerasfer.train.compiling import OPTIMIZERS, compile_model, make_optimizer, make_schedule

CLASSES = ("happy", "sad", "calm")


def compiled(model="tiny", averages=True, **optimizer):
    settings = Optimizer.model_validate(optimizer)
    model = getattr(tiny_models, model)(CLASSES, 16)
    schedule = make_schedule(settings, steps_per_epoch=10, epochs=4)
    compile_model(model, make_optimizer(model, settings, schedule, averages=averages))
    return model


def rates(steps, **optimizer):
    schedule = make_schedule(Optimizer.model_validate(optimizer), steps_per_epoch=10, epochs=4)
    if not callable(schedule):
        return [schedule] * len(steps)
    return [float(ops.convert_to_numpy(schedule(step))) for step in steps]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(name):
    model = compiled(name=name, learning_rate=0.01, clip_norm=1.0, weight_decay=1e-3, ema=0.9)
    assert isinstance(model.optimizer, OPTIMIZERS[name])
    x, y = np.ones((4, 16, 16, 3), "float32"), np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    assert np.isfinite(model.train_on_batch(x, y)[0])


def test_the_first_step_makes_no_variables():
    model = compiled(name="gc_adamw", learning_rate=0.01, ema=0.9)
    made = [v.path for v in (*model.optimizer.variables, *model.metrics_variables)]
    model.train_on_batch(np.ones((1, 16, 16, 3), "float32"), np.eye(3, dtype="float32")[:1])
    assert [v.path for v in (*model.optimizer.variables, *model.metrics_variables)] == made


def test_options_that_are_not_set_keep_the_optimizers_defaults():
    assert compiled(name="adamw").optimizer.weight_decay == 0.004
    optimizer = compiled(name="gc_sgd", momentum=0.5, conv_only=True, location="update").optimizer
    assert (optimizer.momentum, optimizer.conv_only, optimizer.location) == (0.5, True, "update")


def test_gradients_are_centralized_if_the_recipe_asks_for_it():
    x = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    drift = {}
    for name in ("gc_sgd", "sgd"):
        model = compiled(name=name, learning_rate=0.1)
        kernel = model.get_layer("logits").kernel
        before = ops.convert_to_numpy(kernel)
        model.train_on_batch(x, np.eye(3, dtype="float32"))
        step = ops.convert_to_numpy(kernel) - before
        drift[name] = np.abs(step.mean(axis=0)).max() / np.abs(step).max()
    assert drift["gc_sgd"] < 1e-5 < 1e-3 < drift["sgd"]


def test_constant():
    assert rates([0, 25], learning_rate=0.1) == [0.1, 0.1]


def test_step():
    found = rates(
        [0, 19, 20, 39],
        learning_rate=0.1,
        schedule={"name": "step", "every_epochs": 2, "factor": 0.1},
    )
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_cosine_ends_at_its_minimum():
    found = rates([0, 20, 40, 50], learning_rate=0.1, schedule={"name": "cosine", "minimum": 0.02})
    assert found == pytest.approx([0.1, 0.06, 0.02, 0.02])


def test_cosine_after_a_warmup():
    found = rates(
        [0, 9, 10, 25, 40], learning_rate=0.1, schedule={"name": "cosine", "warmup_epochs": 1}
    )
    assert found == pytest.approx([0.01, 0.1, 0.1, 0.05, 0.0], abs=1e-8)


def test_averages_can_be_left_out():
    assert compiled(name="sgd", ema=0.9).optimizer.use_ema
    assert not compiled(name="sgd", ema=0.9, averages=False).optimizer.use_ema


def test_decay_spares_scales_shifts_and_the_manifold():
    model = compiled("tiny_spd", name="sgd", learning_rate=0.1, weight_decay=0.5)
    decayed = {v.path for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    assert {path.rsplit("/", 1)[1] for path in decayed} == {"kernel"}
    assert not any("bi_map" in path or "bimap" in path for path in decayed)
    assert "logits/kernel" in decayed


def test_float16_scales_the_loss():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(name="gc_adam", weight_decay=1e-3, ema=0.9)
    finally:
        keras.config.set_dtype_policy(before)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer.inner_optimizer.use_ema
