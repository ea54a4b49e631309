"""From a recipe to a compiled model: its loss, its optimizer and its learning rate."""

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


def compile_model(model, recipe, steps_per_epoch, epochs, alone=False):
    """Compiles a model with the recipe's loss and optimizer.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        recipe: `kerasfer.recipe.Recipe`.
        steps_per_epoch: Batches in an epoch.
        epochs: Epochs that the learning-rate schedule spans.
        alone: Whether only the classifier is trained: at a constant rate, without averaging.
    """
    settings = recipe.optimizer
    optimizer_class = OPTIMIZERS[settings.name]
    options = {
        "learning_rate": settings.learning_rate
        if alone
        else make_schedule(settings, steps_per_epoch, epochs),
        "global_clipnorm": settings.clip_norm,
    }
    # What the recipe leaves open is the optimizer's own default.
    given = ("momentum", "weight_decay", "conv_only", "location")
    options |= {key: value for key in given if (value := getattr(settings, key)) is not None}
    if settings.ema is not None and not alone:
        options |= {"use_ema": True, "ema_momentum": settings.ema}
    if issubclass(optimizer_class, optimizers.GradientCentralization):
        options["axes"] = optimizers.centralization_axes(model)
    layer_name = recipe.train.log_gradient_norm
    if layer_name:
        optimizer_class = recording(optimizer_class)
    optimizer = optimizer_class(**options)
    if layer_name:
        optimizer.record(weights_of(model, layer_name), steps_per_epoch)
    # Decay pulls weights to zero; scales, shifts and points on a manifold have other places to be.
    kept = [v for v in model.trainable_variables if len(v.shape) < 2 or v.constraint is not None]
    optimizer.exclude_from_weight_decay(var_list=kept)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.train.label_smoothing),
        metrics=["accuracy"],
    )
    _make_variables(model)


def _make_variables(model):
    """Makes the variables of a model's optimizer and metrics, which Keras would in the first step.

    TensorFlow then traces that step once; else once to make them and once more to use them.
    """
    model.optimizer.build(model.trainable_variables)
    probabilities = ops.zeros((1, model.outputs[0].shape[-1]))
    model.compute_metrics(None, probabilities, probabilities)
    model.reset_metrics()


def make_schedule(settings, steps_per_epoch, epochs):
    """Returns the learning rate of a recipe's `optimizer` section, as a schedule over steps."""
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
