"""Compiles a model with the loss, the optimizer and the learning rate of a recipe."""

import keras
from keras import ops

from kerasfer import optimizers
from kerasfer.optimizers import LinearWarmup
from kerasfer.train.gradient_norms import recording, weights_of

OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "gc_sgd": optimizers.GCSGD,
    "gc_adam": optimizers.GCAdam,
    "gc_adamw": optimizers.GCAdamW,
    "gc_rmsprop": optimizers.GCRMSprop,
}


def compile_model(model, optimizer, label_smoothing=0.0):
    """Compiles a model with the cross-entropy of its classes.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        optimizer: A `keras.optimizers.Optimizer`, such as `make_optimizer` returns.
        label_smoothing: The share of each label that is spread over all classes.
    """
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=["accuracy"],
    )
    # Keras would create these variables in the first step. TensorFlow would then trace that step
    # twice: once to create them and once to use them.
    model.optimizer.build(model.trainable_variables)
    probabilities = ops.zeros((1, model.outputs[0].shape[-1]))
    model.compute_metrics(None, probabilities, probabilities)
    model.reset_metrics()


def make_optimizer(model, settings, learning_rate, *, averages=True, recorded=None, steps=1):
    """Returns a new optimizer for a model.

    Args:
        model: The `keras.Model`, of which only the trainable layers will be trained.
        settings: The recipe's `optimizer` section.
        learning_rate: A float or a schedule, such as `make_schedule` returns.
        averages: Whether to keep moving averages of the weights if the settings have `ema`.
        recorded: The name of the layer whose gradient norm is recorded, or None.
        steps: The number of steps in an epoch, for `recorded`.

    Raises:
        RecipeError: If the model has no layer with the name `recorded`.
    """
    optimizer_class = OPTIMIZERS[settings.name]
    options = {"learning_rate": learning_rate, "global_clipnorm": settings.clip_norm}
    # Options that the recipe does not set have the default of the optimizer.
    given = ("momentum", "weight_decay", "conv_only", "location")
    options |= {key: value for key in given if (value := getattr(settings, key)) is not None}
    if settings.ema is not None and averages:
        options |= {"use_ema": True, "ema_momentum": settings.ema}
    if recorded is None:
        optimizer = optimizer_class(**options)
    else:
        optimizer = recording(optimizer_class)(**options)
        optimizer.record(weights_of(model, recorded), steps)
    # Weight decay is meant for kernels. It would distort biases, normalization scales and weights
    # on a manifold.
    kept = [v for v in model.trainable_variables if len(v.shape) < 2 or v.constraint is not None]
    optimizer.exclude_from_weight_decay(var_list=kept)
    return optimizer


def make_schedule(settings, steps_per_epoch, epochs):
    """Returns the learning rate of a recipe over the steps of a training.

    Args:
        settings: The recipe's `optimizer` section.
        steps_per_epoch: The number of batches in an epoch.
        epochs: The number of epochs that the schedule spans.

    Returns:
        A float for a constant rate, otherwise a
        `keras.optimizers.schedules.LearningRateSchedule`.
    """
    schedule, rate = settings.schedule, settings.learning_rate
    if schedule.name == "step":
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, schedule.every_epochs * steps_per_epoch, schedule.factor, staircase=True
        )
    elif schedule.name == "cosine":
        rest = max(1, (epochs - schedule.warmup_epochs) * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(rate, rest, alpha=schedule.minimum / rate)
    if schedule.warmup_epochs:
        rate = LinearWarmup(rate, schedule.warmup_epochs * steps_per_epoch)
    return rate
