"""What happens in a run beside the steps: it is kept epoch by epoch, and validated on averages."""

import contextlib
import csv
import io
import math
import sys
import time

import keras
import numpy as np
from keras import ops

from kerasfer.errors import RunError
from kerasfer.files import write_text
from kerasfer.text import duration


class KeepState(keras.callbacks.Callback):
    """Writes the history, the best model and the checkpoint after each epoch, and says how it went.

    Args:
        run: `kerasfer.runs.folder.RunFolder`.
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
        self.logs = _TensorBoard(run.logs, state["history"]) if settings.tensorboard else None
        # A bar that redraws itself turns a log file into noise.
        self.shows_bars = settings.verbose == 1 and sys.stdout.isatty()

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
            raise diverged(f"the loss of epoch {epoch + 1} is not a number", self.state)
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
        if self.settings.verbose and not self.shows_bars:
            print(_line(self.state, self.settings.epochs), flush=True)
        if should_stop(self.state, self.settings):
            self.model.stop_training = True
            if self.settings.verbose:
                print(f"No better {self.settings.monitor} since epoch {self.state['best_epoch']}.")

    def close(self):
        if self.logs:
            self.logs.close()


class AveragedWeights(keras.callbacks.Callback):
    """Validates with the moving averages of the weights, where the optimizer keeps them.

    Unlike `keras.callbacks.SwapEMAWeights`, which adds and subtracts, it brings the weights back
    unrounded.
    """

    def on_test_begin(self, logs=None):
        self.swapped = contextlib.ExitStack()
        self.swapped.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self.swapped.close()


@contextlib.contextmanager
def averaged_weights(model):
    """Puts the moving averages of the weights in their place, where the optimizer keeps them."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # for float16
    if not optimizer.use_ema:
        yield
        return
    variables = optimizer._trainable_variables
    # Copies: JAX gives the memory of a variable away in each step.
    values = [np.array(ops.convert_to_numpy(variable)) for variable in variables]
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        # The mean of points on a manifold lies beside it.
        constraint = variable.constraint or ops.convert_to_tensor
        variable.assign(constraint(np.array(ops.convert_to_numpy(average))))
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class _TensorBoard:
    """Scalars by epoch for TensorBoard, in an ordinary file.

    Keras' callback needs TensorFlow, and TensorBoard's own writer imports it and hides a full disk
    in a thread. A resumed run writes its whole history anew, so that no epoch is missing or there
    twice.
    """

    def __init__(self, folder, history):
        from tensorboard.compat.proto.event_pb2 import Event  # Slow to import.
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.event, self.summary = Event, Summary
        folder.mkdir(exist_ok=True)
        for old in folder.glob("events.*"):
            old.unlink()
        # The number is how TensorBoard knows the order of files.
        self.file = (folder / f"events.out.tfevents.{int(time.time())}.kerasfer").open("wb")
        self.records = RecordWriter(self.file)
        self._record(file_version="brain.Event:2")
        for row in history:
            self.write(row)

    def write(self, row):
        scalars = [
            self.summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch"
        ]
        self._record(step=row["epoch"], summary=self.summary(value=scalars))

    def _record(self, **content):
        event = self.event(wall_time=time.time(), **content)
        self.records.write(event.SerializeToString())
        self.file.flush()

    def close(self):
        self.file.close()


def _reseed(model, seed, epoch):
    rng = np.random.default_rng([seed, epoch])
    # PyTorch's dropout draws from its own generator, which this sets; the others have states.
    keras.utils.set_random_seed(int(rng.integers(2**32)))
    for state in model.variables:
        if state.path.endswith("seed_generator_state"):
            state.assign(rng.integers(0, 2**31, size=state.shape, dtype="int64"))


def should_stop(state, settings):
    if settings.early_stopping is None or not state["history"]:
        return False
    # While the classifier is warmed up, nothing has been tried yet that could have failed.
    since = max(state["best_epoch"], settings.warmup_epochs)
    return state["epoch"] - since >= settings.early_stopping


def _line(state, epochs):
    """Says in one line what the last epoch brought, and how long the rest will take."""
    row = state["history"][-1]
    left = state["seconds"] / state["epoch"] * (epochs - state["epoch"])
    return (
        f"epoch {row['epoch']}/{epochs}  "
        f"loss {row['loss']:.4f}  accuracy {100 * row['accuracy']:.1f} %  "
        f"validation: loss {row['val_loss']:.4f}  accuracy {100 * row['val_accuracy']:.1f} %"
        f"{' (best)' if state['best_epoch'] == row['epoch'] else ''}  "
        f"{duration(row['seconds'])}" + (f", {duration(left)} left" if left else "")
    )


def _as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[-1], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def diverged(reason, state):
    kept = state["best_epoch"] is not None
    return RunError(
        f"The training diverged: {reason}. Lower optimizer.learning_rate or set "
        "optimizer.clip_norm, and train under another name"
        + (f"; model.keras keeps epoch {state['best_epoch']}, the best so far." if kept else ".")
    )
