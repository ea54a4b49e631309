import keras
import pytest
from keras import ops

from kerasfer.optimizers import LinearWarmup


def rates(schedule, steps):
    return [float(ops.convert_to_numpy(schedule(step))) for step in range(steps)]


def test_raises_the_rate_linearly_then_follows_the_schedule():
    cosine = keras.optimizers.schedules.CosineDecay(0.4, 10)
    warm = LinearWarmup(cosine, warmup_steps=4)
    assert rates(warm, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates(warm, 14)[4:] == pytest.approx(rates(cosine, 10))


def test_constant_rate():
    assert rates(LinearWarmup(0.3, 3), 5) == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3])


def test_trains():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(LinearWarmup(1.0, 4)), "mse")
    for expected in (0.25, 0.5, 0.75, 1.0, 1.0):
        rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
        assert rate == pytest.approx(expected)
        model.train_on_batch(ops.ones((2, 2)), ops.ones((2, 1)))


@pytest.mark.parametrize(
    "schedule", [0.1, keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5, staircase=True)]
)
def test_config_round_trip(schedule):
    warm = LinearWarmup(schedule, 3)
    config = keras.saving.serialize_keras_object(warm)
    again = keras.saving.deserialize_keras_object(config)
    assert rates(again, 12) == rates(warm, 12)
    assert keras.saving.serialize_keras_object(again) == config


def test_needs_a_step():
    with pytest.raises(ValueError, match="at least 1. Received: warmup_steps=0"):
        LinearWarmup(0.1, 0)
