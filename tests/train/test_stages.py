import csv

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops

from kerasfer.data import load_dataset
from kerasfer.data.batches import Batches
from kerasfer.data.protocols import make_folds
from kerasfer.errors import RecipeError
from kerasfer.models.loading import load_model
from kerasfer.recipe.schema import Optimizer, Recipe, Train
from kerasfer.runs.checkpoints import TrainingState
from kerasfer.runs.folder import RunFolder
from kerasfer.runs.opening import open_run
from kerasfer.train.callbacks import Record, StopEarly, averaged_weights
from kerasfer.train.compiling import compile_model, make_optimizer
from kerasfer.train.stages import check_warmup, fit, trainable_extractors
from kerasfer.train.tensorboard import TensorBoard


@pytest.fixture(scope="module")
def fold():
    return make_folds(load_dataset("synthetic", num_samples=70))[0]


@pytest.fixture
def fitted(fold, tmp_path, seed):
    """Fits a tiny model; returns it, the state and the run folder."""

    def fitted(model="tiny", optimizer=None, frozen=False, **train):
        recipe = Recipe.model_validate(
            {
                "data": {"name": "synthetic"},
                "model": {"name": "covpool"},
                "optimizer": {"learning_rate": 0.01, **(optimizer or {})},
                "train": {"tensorboard": False, "verbose": 0, **train},
            }
        )
        options = {"frozen": True} if frozen else {}
        network = getattr(tiny_models, model)(fold.train.class_names, 16, dropout=0.2, **options)
        batches = [Batches(part, 16, 16) for part in (fold.train, fold.validation)]
        run = RunFolder(tmp_path / "run")
        with open_run(run, recipe, resume=False) as checkpoint:
            state = fit(network, batches, recipe.train, recipe.optimizer, run, checkpoint)
        return network, state, run

    return fitted


def column(run, name):
    with open(run.history) as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def weights(model):
    return {v.path: ops.convert_to_numpy(v) for v in model.variables}


def test_history_and_best_model(fitted, fold):
    _, state, run = fitted(epochs=3, monitor="val_loss")
    losses = column(run, "val_loss")
    assert [row["val_loss"] for row in state.history] == losses
    assert state.best_epoch == losses.index(min(losses)) + 1
    model = load_model(run.model)
    model.compile(loss="categorical_crossentropy")
    kept = model.evaluate(Batches(fold.validation, 16, 64), verbose=0)
    assert kept == pytest.approx(min(losses), rel=1e-5)


def test_learning_rates_are_recorded(fitted):
    schedule = {"name": "step", "every_epochs": 1, "factor": 0.5}
    _, _, run = fitted(epochs=3, optimizer={"name": "sgd", "schedule": schedule})
    assert column(run, "learning_rate") == pytest.approx([0.01, 0.005, 0.0025])


def test_the_classifier_is_trained_first(fitted):
    """The extractor and its batch statistics do not change in the warm-up."""
    _, _, run = fitted(epochs=1, warmup_epochs=1)
    warm = weights(load_model(run.model))
    keras.utils.set_random_seed(0)
    fresh = weights(tiny_models.tiny(("a",) * 7, 16, dropout=0.2))
    for path, value in fresh.items():
        if path.startswith(("conv", "norm")):
            assert np.array_equal(value, warm[path]), path
    assert not np.array_equal(fresh["logits/kernel"], warm["logits/kernel"])


def test_then_everything_is_trained_by_a_new_optimizer(fitted):
    model, state, run = fitted(
        epochs=3, warmup_epochs=1, optimizer={"schedule": {"name": "cosine"}, "ema": 0.5}
    )
    assert state.epoch == 3
    # A constant rate, then the cosine over the remaining epochs.
    assert column(run, "learning_rate") == pytest.approx([0.01, 0.01, 0.005])
    assert int(model.optimizer.iterations) == 2 * 3
    moved = weights(model)
    keras.utils.set_random_seed(0)
    for path, value in weights(tiny_models.tiny(("a",) * 7, 16, dropout=0.2)).items():
        if path.startswith(("conv", "norm")):
            assert not np.array_equal(value, moved[path]), path


def test_a_frozen_extractor_stays_frozen(fitted):
    model, _, _ = fitted(epochs=2, warmup_epochs=1, frozen=True)
    keras.utils.set_random_seed(0)
    for path, value in weights(tiny_models.tiny(("a",) * 7, 16, dropout=0.2)).items():
        if path.startswith(("conv", "norm")):
            assert np.array_equal(value, weights(model)[path]), path
    assert trainable_extractors(model) == []


def test_a_model_without_an_extractor_has_nothing_to_warm_up():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="whole")
    check_warmup(model, Train(epochs=2))
    with pytest.raises(RecipeError, match="whole has no separate feature extractor. Set it to 0"):
        check_warmup(model, Train(epochs=2, warmup_epochs=1))


def test_validates_on_averages_and_keeps_them(fitted, fold):
    _, state, run = fitted("tiny_spd", epochs=1, optimizer={"ema": 0.8, "name": "sgd"})
    kept = load_model(run.model)
    kept.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = kept.evaluate(Batches(fold.validation, 16, 64), verbose=0)
    row = state.history[0]
    assert (row["val_loss"], row["val_accuracy"]) == pytest.approx((loss, accuracy), rel=1e-4)


def test_averages_come_and_go_unrounded():
    settings = Optimizer(name="sgd", learning_rate=0.5, ema=0.7)
    model = tiny_models.tiny_spd(("happy", "sad"), 16)
    compile_model(model, make_optimizer(model, settings, 0.5))
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.uniform(0, 255, (4, 16, 16, 3)).astype("float32")
        model.train_on_batch(x, np.eye(2, dtype="float32")[[0, 1, 0, 1]])
    before = weights(model)
    with averaged_weights(model):
        averages = weights(model)
    assert all(np.array_equal(value, before[path]) for path, value in weights(model).items())
    assert not np.array_equal(averages["logits/kernel"], before["logits/kernel"])
    (stiefel,) = (v for v in averages.values() if v.shape == (4, 16))
    assert np.abs(stiefel @ stiefel.T - np.eye(4)).max() < 1e-5


def test_stops_early(fitted):
    # A rate of almost zero: the accuracy of the first epoch is never exceeded.
    _, state, run = fitted(
        epochs=9, early_stopping=2, optimizer={"name": "sgd", "learning_rate": 1e-12}
    )
    assert (state.epoch, state.best_epoch) == (3, 1)
    assert len(column(run, "loss")) == 3


def test_patience_begins_after_the_warmup():
    stop = StopEarly(Record(TrainingState("val_loss")), patience=2, warmup_epochs=4)
    assert not stop.is_due()
    stops = []
    for epoch in range(1, 9):
        stop.record.state = stop.record.state.after({"epoch": epoch, "val_loss": float(epoch)})
        stops += [epoch] * stop.is_due()
    assert stops == [6, 7, 8]


def test_tensorboard_has_every_epoch_once(fitted):
    _, _, run = fitted(epochs=3, warmup_epochs=1, tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def steps():
        events = EventAccumulator(str(run.logs)).Reload()
        return [event.step for event in events.Scalars("val_loss")]

    assert steps() == [1, 2, 3]
    # As in a run that was killed after its first epoch was written, and resumed.
    record = Record(TrainingState("val_loss", ({"epoch": 1, "val_loss": 0.5},)))
    logs = TensorBoard(run.logs, record)
    record.state = record.state.after({"epoch": 2, "val_loss": 0.25})
    logs.on_epoch_end(1)
    logs.on_train_end()
    assert steps() == [1, 2]
