"""Checks keys that depend on each other: contradicting values, and keys without effect.

A default value is always accepted, because a resolved recipe contains all defaults.
Each function raises a `ValueError` that begins with the key in backticks.
"""

GC_OPTIMIZERS = ("gc_sgd", "gc_adam", "gc_adamw", "gc_rmsprop")
OPTIMIZERS_OF = {
    "momentum": ("sgd", "rmsprop", "gc_sgd", "gc_rmsprop"),
    "conv_only": GC_OPTIMIZERS,
    "location": GC_OPTIMIZERS,
}


def check_folds(data):
    """Checks the keys of a recipe's `data` section that depend on the protocol."""
    if data.fold is not None and data.protocol in ("official", "frames"):
        raise ValueError(
            "`data.fold` needs `data.protocol: subjects`, the only protocol with folds. "
            f"Received: fold={data.fold}, protocol={data.protocol}."
        )
    if data.fold is not None and data.fold >= data.num_folds:
        raise ValueError(
            f"`data.fold` counts from 0 and must be below `data.num_folds` ({data.num_folds}). "
            f"Received: {data.fold}."
        )
    if data.protocol in ("official", "frames"):
        _check_unused(data, "data", "num_folds", f"with protocol={data.protocol}")
    if data.protocol == "subjects":
        _check_unused(data, "data", "validation_fraction", "with protocol=subjects")


def check_schedule(schedule):
    """Checks that each key of `optimizer.schedule` has an effect on the selected schedule."""
    for key, name in (("every_epochs", "step"), ("factor", "step"), ("minimum", "cosine")):
        if schedule.name != name:
            reason = f"unless `optimizer.schedule.name` is {name}"
            _check_unused(schedule, "optimizer.schedule", key, reason)


def check_optimizer(optimizer):
    """Checks that the selected optimizer has each key that is set."""
    for key, names in OPTIMIZERS_OF.items():
        if getattr(optimizer, key) is not None and optimizer.name not in names:
            raise ValueError(
                f"`optimizer.{key}` belongs to {', '.join(names)}: set it to null or change "
                f"`optimizer.name`. Received: {key}={getattr(optimizer, key)}, "
                f"name={optimizer.name}."
            )
    if optimizer.schedule.minimum > optimizer.learning_rate:
        raise ValueError(
            "`optimizer.schedule.minimum` must not exceed `optimizer.learning_rate` "
            f"({optimizer.learning_rate:.10g}). Received: {optimizer.schedule.minimum:.10g}."
        )


def check_warmup(train):
    """Checks that the warm-up is not longer than the training."""
    if train.warmup_epochs > train.epochs:
        raise ValueError(
            f"`train.warmup_epochs` ({train.warmup_epochs}) must not exceed `train.epochs` "
            f"({train.epochs}), which include the warm-up. Change both, such as --set "
            f"train.epochs={train.epochs} --set train.warmup_epochs={min(1, train.epochs - 1)}."
        )


def check_stages(train, optimizer):
    """Checks that the learning-rate schedule fits into the epochs after the warm-up."""
    epochs = train.epochs - train.warmup_epochs
    warmup, name = optimizer.schedule.warmup_epochs, optimizer.schedule.name
    stage = f"`train.epochs` ({train.epochs})"
    if train.warmup_epochs:
        stage += f" without `train.warmup_epochs` ({train.warmup_epochs})"
    if warmup > epochs:
        raise ValueError(
            f"`optimizer.schedule.warmup_epochs` ({warmup}) must not exceed {stage}, since the "
            f"schedule acts in these {epochs} epochs only. Change both, such as --set "
            f"train.epochs={train.epochs} --set optimizer.schedule.warmup_epochs=0."
        )
    if epochs == 0 and (name != "constant" or optimizer.ema is not None):
        key = "optimizer.schedule.name" if name != "constant" else "optimizer.ema"
        raise ValueError(
            f"`{key}` has no effect, since `train.warmup_epochs` ({train.warmup_epochs}) takes all "
            f"of `train.epochs` ({train.epochs}) at a constant learning rate. Raise the epochs or "
            "remove the key."
        )


def check_distillation(distill):
    """Checks that each key of `distill` has an effect on the loss."""
    if distill.weight == 0 and distill.feature_weight == 0:
        raise ValueError(
            "`distill.weight` and `distill.feature_weight` are both 0, so that the teacher has no "
            "effect. Raise one of them, or remove the section."
        )
    if distill.weight == 0:
        _check_unused(distill, "distill", "temperature", "while `distill.weight` is 0")
    if distill.feature_weight == 0:
        _check_unused(distill, "distill", "features", "while `distill.feature_weight` is 0")


def check_landmarks(data, model, distill):
    """Checks that landmarks are given if and only if the model needs them."""
    crop_mode = getattr(model, "crop_mode", None)
    if crop_mode == "landmarks" and data.landmarks is None:
        raise ValueError(
            "`model.crop_mode: landmarks` needs `data.landmarks`, a file such as `kerasfer data "
            "prepare` writes. Received: null."
        )
    if crop_mode != "landmarks" and data.landmarks is not None:
        raise ValueError(
            "`data.landmarks` has no effect unless `model.crop_mode` is landmarks. Set it to null "
            f"or change the mode. Received: {data.landmarks}, crop_mode={crop_mode}."
        )
    if crop_mode == "landmarks" and distill:
        raise ValueError(
            "`distill` is not supported with `model.crop_mode: landmarks`, since the teacher gets "
            "no landmarks. Remove the section, or set the mode to random or fixed."
        )


def _check_unused(section, name, key, reason):
    default, value = type(section).model_fields[key].default, getattr(section, key)
    if value != default:
        raise ValueError(
            f"`{name}.{key}` has no effect {reason}. Remove it or set it to its default, "
            f"{default}. Received: {value}."
        )
