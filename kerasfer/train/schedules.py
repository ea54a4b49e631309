"""Learning-rate schedules that Keras lacks."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasfer")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate linearly before another schedule begins.

    Args:
        schedule: A `LearningRateSchedule`, or a float for a constant rate. Its step 0 is the end
            of the warm-up.
        warmup_steps: The number of steps, at least 1. Step 0 uses 1 / warmup_steps of the first
            rate of `schedule`.

    Example:

    >>> schedule = LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 9000), 1000)
    >>> round(float(schedule(499)), 4)
    0.05
    """

    def __init__(self, schedule, warmup_steps):
        super().__init__()
        if warmup_steps < 1:
            raise ValueError(
                f"`warmup_steps` must be at least 1. Received: warmup_steps={warmup_steps}."
            )
        self.schedule = schedule
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = self._rate(ops.maximum(step - self.warmup_steps, 0.0))
        return ops.minimum((step + 1) / self.warmup_steps, 1.0) * after

    def _rate(self, step):
        return self.schedule(step) if callable(self.schedule) else self.schedule

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {"schedule": schedule, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config):
        schedule = config["schedule"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(schedule, config["warmup_steps"])
