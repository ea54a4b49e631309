"""Compiles a model as a recipe says and fits it, epoch by epoch, so that it can be resumed."""

import contextlib
import csv
import io
import math
import sys
import time

import keras
import numpy as np
from keras import ops

from kerasfer import optimizers
from kerasfer.data.pipeline import original_errors
from kerasfer.errors import RecipeError, RunError
from kerasfer.files import write_text
from kerasfer.schedules import LinearWarmup

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

# Decay pulls weights to zero; scales, shifts and points on a manifold have other places to be.
_NOT_DECAYED = ("bias", "gamma", "beta", "bimap/kernel")


def fit(model, train_batches, validation_batches, recipe, run, state=None):
    """Fits a model and keeps its best epoch as the run's `model.keras`.

    The first `train.warmup_epochs` train the classifier alone, with the feature extractors frozen;
    then everything is trained, with a fresh optimizer and the learning-rate schedule.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        train_batches, validation_batches: `kerasfer.data.pipeline.Batches`.
        recipe: `kerasfer.recipe.Recipe`.
        run: `kerasfer.run_folder.RunFolder`, open.
        state: What `run.open` returned; `None` to begin.

    Returns:
        The state after the last epoch: `{"epoch", "best", "best_epoch", "seconds", "history"}`.

    Raises:
        RunError: Where the training diverges.
        DataError: Where a picture cannot be read.
    """
    state = state or {"epoch": 0, "best": None, "best_epoch": None, "seconds": 0.0, "history": []}
    epochs, warmup = recipe.train.epochs, recipe.train.warmup_epochs
    for first, last, alone in ((0, warmup, True), (warmup, epochs, False)):
        if first == last or state["epoch"] >= last or _should_stop(state, recipe.train):
            continue
        _set_trainable(model, recipe, alone)
        compile_model(model, recipe, len(train_batches), last - first, alone)
        if state["epoch"]:
            # At the change of stages the weights go on and the optimizer begins anew.
            run.load_weights(model, state, with_optimizer=state["epoch"] > first)
        state = _fit_stage(model, train_batches, validation_batches, recipe, run, state, last)
    return state


def _fit_stage(model, train_batches, validation_batches, recipe, run, state, last):
    keeper = KeepState(run, recipe.train, state, train_batches)
    callbacks = [keeper]
    if _inner(model.optimizer).use_ema:
        callbacks.insert(0, keras.callbacks.SwapEMAWeights())
    with original_errors(train_batches, validation_batches), _explained():
        model.fit(
            train_batches,
            validation_data=validation_batches,
            initial_epoch=state["epoch"],
            epochs=last,
            shuffle=False,
            callbacks=callbacks,
            verbose=_verbosity(recipe.train.verbose),
        )
    return keeper.state


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
    optimizer = optimizer_class(**options)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.train.label_smoothing),
        metrics=["accuracy"],
        jit_compile=_jit_compile(),
    )


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


class KeepState(keras.callbacks.Callback):
    """Writes the history, the best model and the checkpoint after each epoch.

    Args:
        run: `kerasfer.run_folder.RunFolder`.
        settings: The recipe's `train` section.
        state: The state before the first of these epochs.
        batches: The training `Batches`, whose epoch is set.
    """

    def __init__(self, run, settings, state, batches):
        super().__init__()
        self.run = run
        self.settings = settings
        self.state = state
        self.batches = batches
        self.logs = _TensorBoard(run.logs) if settings.tensorboard else None

    def on_epoch_begin(self, epoch, logs=None):
        # Order, augmentation, crops and dropout depend on seed and epoch alone, not on what ran
        # before, so that a resumed epoch is the one that was interrupted.
        self.batches.epoch = epoch
        _reseed(self.model, self.settings.seed, epoch)
        self.started = time.monotonic()
        self.learning_rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self.started
        row = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": self.learning_rate,
            "seconds": round(seconds, 3),
        }
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            raise _diverged(f"the loss of epoch {epoch + 1} is not a number")
        state = self.state
        value = row[self.settings.monitor]
        better = state["best"] is None or (
            value < state["best"] if self.settings.monitor == "val_loss" else value > state["best"]
        )
        self.state = {
            "epoch": epoch + 1,
            "best": value if better else state["best"],
            "best_epoch": epoch + 1 if better else state["best_epoch"],
            "seconds": state["seconds"] + seconds,
            "history": [*state["history"], row],
        }
        if better:
            with averaged_weights(self.model):
                self.run.save_model(self.model)
        write_text(self.run.history, _as_csv(self.state["history"]))
        self.run.save_state(self.state, self.model)
        if self.logs:
            self.logs.write(row)
        if _should_stop(self.state, self.settings):
            self.model.stop_training = True


@contextlib.contextmanager
def averaged_weights(model):
    """Puts the moving averages of the weights in their place, where the optimizer keeps them."""
    optimizer = _inner(model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables = optimizer._trainable_variables
    values = [ops.convert_to_numpy(variable) for variable in variables]
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class _TensorBoard:
    """Scalars by epoch for TensorBoard, through its own writer: Keras' needs TensorFlow."""

    def __init__(self, folder):
        from tensorboard.summary import Writer

        self.writer = Writer(str(folder))

    def write(self, row):
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()


def _set_trainable(model, recipe, alone):
    extractors = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if alone and not extractors:
        raise RecipeError(
            f"train.warmup_epochs trains the classifier before the feature extractor, and "
            f"{recipe.model.name} has none apart. Set it to 0."
        )
    for extractor in extractors:
        extractor.trainable = not (alone or recipe.model.frozen)


def _reseed(model, seed, epoch):
    generators = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    for number, state in enumerate(generators):
        rng = np.random.default_rng([seed, epoch, number])
        state.assign(rng.integers(0, 2**32, size=state.shape, dtype="uint32"))


def _inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)  # of LossScaleOptimizer, for float16


def _should_stop(state, settings):
    patience = settings.early_stopping
    return bool(patience and state["best_epoch"]) and (
        state["epoch"] - state["best_epoch"] >= patience
    )


def _jit_compile():
    """Leaves the choice to Keras, but for TensorFlow on a CPU.

    There XLA gains nothing on convolutions, and where it lacks oneDNN's kernels it loses: a
    ResNet18 at 48 px took 1.7 to 3 times as long a step as without.
    """
    devices = keras.distribution.list_devices()
    on_cpu = all("cpu" in device.lower() for device in devices)
    return False if on_cpu and keras.backend.backend() == "tensorflow" else "auto"


def _verbosity(verbose):
    # A bar that redraws itself turns a log file into noise.
    return 2 if verbose == 1 and not sys.stdout.isatty() else verbose


def _as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[-1], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _diverged(reason):
    return RunError(
        f"The training diverged: {reason}. Lower optimizer.learning_rate or set "
        "optimizer.clip_norm; the best epoch so far is kept in model.keras."
    )


@contextlib.contextmanager
def _explained():
    """Says what a failed eigendecomposition in the middle of a training means."""
    try:
        yield
    except Exception as error:  # each backend has a class of its own for this
        if "eigen" in str(error).lower():
            raise _diverged("a covariance matrix is not finite") from error
        raise
