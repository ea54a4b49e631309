"""The callbacks of a training.

`make_callbacks` determines their order: the results of an epoch are first measured and checked,
then written, then shown. The checkpoint is written last, when all other files of the epoch exist.
"""

import contextlib
import math
import sys
import time

import keras
import numpy as np
from keras import ops

from kerasfer import keras_internals
from kerasfer.errors import RunError
from kerasfer.files import replace_file
from kerasfer.runs.checkpoints import save_checkpoint
from kerasfer.runs.history import write_history
from kerasfer.text import duration
from kerasfer.train.devices import without_synchronization
from kerasfer.train.gradient_norms import KeepGradientNorms
from kerasfer.train.processes import is_first
from kerasfer.train.tensorboard import TensorBoard


def make_callbacks(run, settings, record, train_batches):
    """Makes the callbacks of a training, in their order.

    If several processes train together, only the first one writes and prints.

    Args:
        run: `kerasfer.runs.folder.RunFolder`, open.
        settings: The recipe's `train` section.
        record: The `Record` of the training.
        train_batches: The training `Batches`.
    """
    callbacks = [
        SeedEpochs(settings.seed, train_batches),
        ValidateOnAverages(),
        MeasureEpochs(),
        StopOnDivergence(record),
        record,
        KeepBestModel(run, record),
    ]
    if is_first():
        callbacks.append(KeepHistory(run, record))
        if settings.log_gradient_norm:
            callbacks.append(KeepGradientNorms(run.gradient_norms))
        if settings.tensorboard:
            callbacks.append(TensorBoard(run.logs, record))
        callbacks.append(KeepCheckpoints(run, record))
    callbacks.append(StopEarly(record, settings.early_stopping, settings.warmup_epochs))
    if is_first() and settings.verbose and not shows_bars(settings.verbose):
        callbacks.append(PrintEpochs(record, settings.epochs))
    return callbacks


def shows_bars(verbose):
    """Returns whether Keras' progress bars are shown, which are unreadable in log files."""
    return verbose == 1 and sys.stdout is not None and sys.stdout.isatty()


class Record(keras.callbacks.Callback):
    """Adds each epoch to the state of the training, which other callbacks read.

    Args:
        state: The `kerasfer.runs.checkpoints.TrainingState` before the first of these epochs.
    """

    def __init__(self, state):
        super().__init__()
        self.state = state

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in logs.items()}
        self.state = self.state.after({"epoch": epoch + 1, **values})

    @property
    def improved(self):
        """Whether the last epoch is the best one so far."""
        return self.state.best_epoch == self.state.epoch


class SeedEpochs(keras.callbacks.Callback):
    """Makes everything random in an epoch depend on the seed and the epoch alone.

    The order, augmentation, crops and dropout do not depend on earlier epochs, so that a resumed
    epoch equals the interrupted one.

    Args:
        seed: The seed of the run.
        batches: The training `Batches`, whose epoch is set.
    """

    def __init__(self, seed, batches):
        super().__init__()
        self.seed = seed
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        # PyTorch's dropout draws from a generator of its own, which this sets. The other backends
        # have seed generators among the model's variables.
        keras.utils.set_random_seed(int(rng.integers(2**32)))
        for state in self.model.variables:
            if state.path.endswith("seed_generator_state"):
                state.assign(rng.integers(0, 2**31, size=state.shape, dtype="int64"))


class MeasureEpochs(keras.callbacks.Callback):
    """Adds the learning rate and the duration to the logs of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()
        self.learning_rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = self.learning_rate
        logs["seconds"] = round(time.monotonic() - self.started, 3)


class StopOnDivergence(keras.callbacks.Callback):
    """Ends the training with an error if the loss is not finite.

    Unlike `keras.callbacks.TerminateOnNaN` it covers the validation loss, and an epoch that
    diverged is not recorded.
    """

    def __init__(self, record):
        super().__init__()
        self.record = record

    def on_epoch_end(self, epoch, logs=None):
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            raise diverged(f"the loss of epoch {epoch + 1} is not finite", self.record.state)


class KeepBestModel(keras.callbacks.Callback):
    """Saves the model of the best epoch, with averaged weights if the optimizer keeps averages.

    `keras.callbacks.ModelCheckpoint` would overwrite the file in place and save what only the
    training needs.
    """

    def __init__(self, run, record):
        super().__init__()
        self.run = run
        self.record = record

    def on_epoch_end(self, epoch, logs=None):
        if self.record.improved:
            with averaged_weights(self.model):  # All processes set their weights together.
                if is_first():
                    save_model(self.model, self.run.model)


class KeepHistory(keras.callbacks.Callback):
    """Writes `history.csv`.

    `keras.callbacks.CSVLogger` appends rows, so that a killed epoch could occur twice.
    """

    def __init__(self, run, record):
        super().__init__()
        self.run = run
        self.record = record

    def on_epoch_end(self, epoch, logs=None):
        write_history(self.run.history, self.record.state.history)


class KeepCheckpoints(keras.callbacks.Callback):
    """Writes a checkpoint, from which the next epoch can be trained by another process."""

    def __init__(self, run, record):
        super().__init__()
        self.run = run
        self.record = record

    def on_epoch_end(self, epoch, logs=None):
        save_checkpoint(self.run, self.record.state.history, self.model)


class StopEarly(keras.callbacks.Callback):
    """Stops the training after some epochs without improvement.

    `keras.callbacks.EarlyStopping` loses its count when a training is interrupted.

    Args:
        record: The `Record` of the training.
        patience: The number of epochs, or None to never stop.
        warmup_epochs: The number of epochs that train the classifier alone, during which the
            training does not stop.
    """

    def __init__(self, record, patience, warmup_epochs):
        super().__init__()
        self.record = record
        self.patience = patience
        self.warmup_epochs = warmup_epochs

    def on_epoch_end(self, epoch, logs=None):
        if self.is_due():
            self.model.stop_training = True

    def is_due(self):
        """Returns whether the training should stop now."""
        state = self.record.state
        if self.patience is None or not state.epoch:
            return False
        return state.epoch - max(state.best_epoch, self.warmup_epochs) >= self.patience


class PrintEpochs(keras.callbacks.Callback):
    """Prints a line for each epoch with its result and the estimated remaining time.

    Args:
        record: The `Record` of the training.
        epochs: The number of epochs.
        interval: The time in seconds after which a line is printed within a long epoch.
    """

    def __init__(self, record, epochs, interval=30.0):
        super().__init__()
        self.record = record
        self.epochs = epochs
        self.interval = interval

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.printed = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if batch == 0:  # The first step takes longer, so it is left out of the estimate.
            self.begun = now
        if now - self.printed < self.interval:
            return
        self.printed = now
        done, steps = batch + 1, self.params["steps"]
        left = (now - self.begun) / batch * (steps - done) if batch else 0
        print(
            f"epoch {self.epoch + 1}/{self.epochs}  step {done:,} of {steps:,}  "
            f"loss {float(logs['loss']):.4f}"
            + (f"  {duration(left)} left in this epoch" if left else ""),
            flush=True,
        )

    def on_epoch_end(self, epoch, logs=None):
        state = self.record.state
        row = state.history[-1]
        left = state.seconds / state.epoch * (self.epochs - state.epoch)
        print(
            f"epoch {row['epoch']}/{self.epochs}  "
            f"loss {row['loss']:.4f}  accuracy {100 * row['accuracy']:.1f} %  "
            f"validation: loss {row['val_loss']:.4f}  accuracy {100 * row['val_accuracy']:.1f} %"
            f"{' (best)' if self.record.improved else ''}  "
            f"{duration(row['seconds'])}" + (f", {duration(left)} left" if left else ""),
            flush=True,
        )


class ValidateOnAverages(keras.callbacks.Callback):
    """Validates with the moving averages of the weights, if the optimizer keeps them.

    `keras.callbacks.SwapEMAWeights` adds and subtracts; this restores the weights unrounded.
    """

    def on_test_begin(self, logs=None):
        self.swapped = contextlib.ExitStack()
        self.swapped.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self.swapped.close()


@contextlib.contextmanager
def averaged_weights(model):
    """Replaces the weights by their moving averages, if the optimizer keeps them."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # for float16
    if not optimizer.use_ema:
        yield
        return
    pairs = keras_internals.variables_and_averages(optimizer)
    # Copies, since JAX donates the memory of a variable in each step.
    values = [np.array(ops.convert_to_numpy(variable)) for variable, _ in pairs]
    for variable, average in pairs:
        # The mean of points on a manifold is not on it.
        constraint = variable.constraint or ops.convert_to_tensor
        variable.assign(constraint(np.array(ops.convert_to_numpy(average))))
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, values, strict=True):
            variable.assign(value)


def save_model(model, path):
    """Saves a model without the outputs that only its training needs."""
    with replace_file(path) as temporary, without_synchronization(model):
        # The first output is that of the model. Others are only used for training.
        keras.Model(model.input, model.outputs[0], name=model.name).save(temporary)


def diverged(reason, state):
    """Returns the `RunError` of a training that diverged."""
    best = state.best_epoch
    kept = "." if best is None else f"; model.keras holds epoch {best}, the best so far."
    return RunError(
        f"The training diverged: {reason}. Lower optimizer.learning_rate or set "
        f"optimizer.clip_norm, and train under another name{kept}"
    )
