"""Fits a model as a recipe says, in one stage or two, so that it can be resumed."""

import contextlib

import keras

from kerasfer.data.batches import original_errors
from kerasfer.errors import RecipeError
from kerasfer.train.callbacks import AveragedWeights, KeepState, diverged, should_stop
from kerasfer.train.compiling import compile_model
from kerasfer.train.gradient_norms import KeepGradientNorms

# As kerasfer.linalg says it, and as TensorFlow does from within a graph.
_EIGEN_FAILURES = ("eigendecomposition failed", "eigen decomposition was not successful")


def fit(model, train_batches, validation_batches, recipe, run, state=None):
    """Fits a model and keeps its best epoch as the run's `model.keras`.

    The first `train.warmup_epochs` train the classifier alone, with the feature extractors frozen;
    then everything is trained, with a fresh optimizer and the learning-rate schedule.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        train_batches, validation_batches: `kerasfer.data.batches.Batches`.
        recipe: `kerasfer.recipe.Recipe`.
        run: `kerasfer.runs.folder.RunFolder`, open.
        state: What `run.open` yielded; `None` to begin.

    Returns:
        The state after the last epoch: `{"epoch", "best", "best_epoch", "seconds", "history"}`.

    Raises:
        RecipeError: Where the model has no classifier apart to warm up.
        RunError: Where the training diverges.
        DataError: Where a picture cannot be read.
    """
    state = state or {"epoch": 0, "best": None, "best_epoch": None, "seconds": 0.0, "history": []}
    with contextlib.closing(KeepState(run, recipe.train, state, train_batches)) as keeper:
        _fit_stages(model, train_batches, validation_batches, recipe, run, keeper)
    return keeper.state


def _fit_stages(model, train_batches, validation_batches, recipe, run, keeper):
    resumed = keeper.state["epoch"] > 0
    epochs, warmup = recipe.train.epochs, recipe.train.warmup_epochs
    norms = [KeepGradientNorms(run.path)] if recipe.train.log_gradient_norm else []
    for first, last, alone in ((0, warmup, True), (warmup, epochs, False)):
        epoch = keeper.state["epoch"]
        if epoch >= last or should_stop(keeper.state, recipe.train):
            continue
        set_trainable(model, recipe, alone)
        compile_model(model, recipe, len(train_batches), last - first, alone)
        if resumed:
            # At the change of stages the optimizer begins anew.
            run.load_weights(model, keeper.state, with_optimizer=epoch > first)
            resumed = False
        with original_errors(train_batches, validation_batches), _explained(keeper):
            model.fit(
                train_batches,
                validation_data=validation_batches,
                initial_epoch=epoch,
                epochs=last,
                shuffle=False,
                callbacks=[AveragedWeights(), *norms, keeper],
                verbose=1 if keeper.shows_bars else 0,
            )


def set_trainable(model, recipe, alone=False):
    """Freezes a model's feature extractors, or sets them free, as the stage of training asks.

    Args:
        model: A functional `keras.Model` from `kerasfer.models`.
        recipe: `kerasfer.recipe.Recipe`.
        alone: Whether only the classifier is trained.

    Raises:
        RecipeError: Where the model has no classifier apart from its feature extractor.
    """
    extractors = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if alone and not extractors:
        raise RecipeError(
            f"train.warmup_epochs trains the classifier before the feature extractor, and "
            f"{recipe.model.name} has none apart. Set it to 0."
        )
    for extractor in extractors:
        extractor.trainable = not (alone or getattr(recipe.model, "frozen", None))


@contextlib.contextmanager
def _explained(keeper):
    """Says what a failed eigendecomposition in the middle of a training means."""
    try:
        yield
    except Exception as error:  # each backend has a class of its own for this
        if any(failure in str(error).lower() for failure in _EIGEN_FAILURES):
            raise diverged("a covariance matrix is not finite", keeper.state) from error
        raise
