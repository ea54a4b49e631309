"""Fits a model in one or two stages, so that it can be resumed after any epoch."""

import contextlib
from typing import NamedTuple

import keras

from kerasfer.data.batches import original_errors
from kerasfer.errors import RecipeError
from kerasfer.runs.checkpoints import TrainingState
from kerasfer.train.callbacks import Record, StopEarly, diverged, make_callbacks, shows_bars
from kerasfer.train.compiling import compile_model, make_optimizer, make_schedule
from kerasfer.train.interrupts import NoticeInterrupts

# The messages of kerasfer.linalg, and of TensorFlow inside a graph.
_EIGEN_FAILURES = ("eigendecomposition failed", "eigen decomposition was not successful")


class Stage(NamedTuple):
    """A part of a training with its own optimizer.

    Args:
        first: The number of epochs before it.
        last: The number of epochs after it.
        classifier_only: Whether the feature extractors are frozen.
    """

    first: int
    last: int
    classifier_only: bool


def fit(model, batches, settings, optimizer, run, checkpoint=None):
    """Fits a model and keeps its best epoch as the run's `model.keras`.

    In the first `train.warmup_epochs` only the classifier is trained, with a constant learning
    rate and frozen feature extractors. Then all layers are trained, with a new optimizer and the
    learning-rate schedule.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        batches: A pair of `kerasfer.data.batches.Batches`, for training and validation.
        settings: The recipe's `train` section.
        optimizer: The recipe's `optimizer` section.
        run: `kerasfer.runs.folder.RunFolder`, open.
        checkpoint: The `Checkpoint` that `open_run` yielded; None to begin.

    Returns:
        The `TrainingState` after the last epoch.

    Raises:
        RecipeError: If the model has no separate classifier to warm up.
        RunError: If the training diverges.
        DataError: If a picture cannot be read.
    """
    stages, extractors = _stages(settings), trainable_extractors(model)
    state = TrainingState(settings.monitor, checkpoint.history if checkpoint else ())
    record = Record(state)
    interrupts = NoticeInterrupts()
    callbacks = [interrupts, *make_callbacks(run, settings, record, batches[0])]
    patience = StopEarly(record, settings.early_stopping, settings.warmup_epochs)
    for stage in stages:
        if record.state.epoch >= stage.last or patience.is_due():
            continue
        for extractor in extractors:
            extractor.trainable = not stage.classifier_only
        _compile(model, stage, len(batches[0]), settings, optimizer)
        if checkpoint:
            # Each stage begins with a new optimizer.
            checkpoint.restore(model, with_optimizer=record.state.epoch > stage.first)
            checkpoint = None
        with original_errors(*batches), _explained(record), interrupts.active():
            model.fit(
                batches[0],
                validation_data=batches[1],
                initial_epoch=record.state.epoch,
                epochs=stage.last,
                shuffle=False,
                callbacks=callbacks,
                verbose=1 if shows_bars(settings.verbose) else 0,
            )
    if settings.verbose and record.state.epoch < settings.epochs:
        print(f"Stopped early: no improvement since epoch {record.state.best_epoch}.", flush=True)
    return record.state


def trainable_extractors(model):
    """Returns the feature extractors of a model that are not frozen permanently."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model) and layer.trainable]


def check_warmup(model, settings):
    """Checks that a model has a separate classifier, if the recipe has a warm-up.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        settings: The recipe's `train` section.

    Raises:
        RecipeError: If the model has no separate feature extractor.
    """
    if settings.warmup_epochs and not any(isinstance(layer, keras.Model) for layer in model.layers):
        raise RecipeError(
            "train.warmup_epochs trains the classifier before the feature extractor, but "
            f"{model.name} has no separate feature extractor. Set it to 0."
        )


def _stages(settings):
    epochs, warmup = settings.epochs, settings.warmup_epochs
    return Stage(0, warmup, classifier_only=True), Stage(warmup, epochs, classifier_only=False)


def _compile(model, stage, steps_per_epoch, settings, optimizer):
    rate = optimizer.learning_rate
    if not stage.classifier_only:
        rate = make_schedule(optimizer, steps_per_epoch, stage.last - stage.first)
    made = make_optimizer(
        model,
        optimizer,
        rate,
        averages=not stage.classifier_only,
        recorded=settings.log_gradient_norm,
        steps=steps_per_epoch,
    )
    compile_model(model, made, settings.label_smoothing)


@contextlib.contextmanager
def _explained(record):
    """Explains errors of an eigendecomposition during a training."""
    try:
        yield
    except Exception as error:  # Each backend has a different class for this error.
        if any(failure in str(error).lower() for failure in _EIGEN_FAILURES):
            raise diverged("a covariance matrix is not finite", record.state) from error
        raise
