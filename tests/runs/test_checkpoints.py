"""Checkpoints are complete, verified when they are read, and kept twice."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kerasfer.errors import RunError
from kerasfer.runs.checkpoints import (
    TrainingState,
    finish,
    load_checkpoint,
    reopen,
    save_checkpoint,
)
from kerasfer.runs.folder import RunFolder


def model(optimizer, trained=True):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    if trained:
        for _ in range(3):
            model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    return model


def history(epochs):
    return [{"epoch": e, "val_loss": 1 / e, "seconds": 1.5} for e in range(1, epochs + 1)]


def values(owner):
    return [ops.convert_to_numpy(variable) for variable in owner.variables]


def same(owner, other):
    pairs = zip(values(owner), values(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.checkpoint.mkdir(parents=True)
    return run


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "averages": lambda: keras.optimizers.Adam(0.1, use_ema=True),
    "float16": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_continues_where_it_was(run, name):
    before, after = model(OPTIMIZERS[name]()), model(OPTIMIZERS[name](), trained=False)
    save_checkpoint(run, history(3), before)
    found = load_checkpoint(run)
    assert list(found.history) == history(3) and found.damaged == ()
    found.restore(after, with_optimizer=True)
    assert int(after.optimizer.iterations) == 3
    assert same(before, after) and same(before.optimizer, after.optimizer)
    # Both take the same step from here.
    for each in (before, after):
        keras.utils.set_random_seed(0)
        each.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    assert same(before, after) and same(before.optimizer, after.optimizer)


def test_a_new_optimizer_stays_new(run):
    before = model(OPTIMIZERS["momentum"]())
    after = model(OPTIMIZERS["float16"](), trained=False)
    save_checkpoint(run, history(1), before)
    load_checkpoint(run).restore(after, with_optimizer=False)
    assert same(before, after)
    assert int(after.optimizer.iterations) == 0


def test_a_checkpoint_of_another_model(run):
    save_checkpoint(run, history(1), model("sgd"))
    with pytest.raises(RunError, match="optimizer has 2 variables, which do not have the shapes"):
        load_checkpoint(run).restore(model("adam", trained=False), with_optimizer=True)


def test_the_last_two_are_kept(run):
    for epochs in (9, 10, 11):
        save_checkpoint(run, history(epochs), model("sgd"))
    names = sorted(path.name for path in run.checkpoint.iterdir())
    assert names == ["epoch_10.npz", "epoch_11.npz"]
    assert len(load_checkpoint(run).history) == 11


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "empty":
        content = b""
    elif kind == "cut off":
        content = content[: len(content) // 2]
    elif kind == "header of an array":
        content[content.index(b"{'descr'")] ^= 0xFF
    elif kind == "a value":
        content[content.index(b"\n", content.index(b"model_0.npy")) + 3] ^= 0x01
    elif kind == "directory":
        content[content.rindex(b"PK\x01\x02") + 10] ^= 0x63
    path.write_bytes(bytes(content))


KINDS = ["empty", "cut off", "header of an array", "a value", "directory"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(run, kind):
    first, second = model("sgd"), model("sgd")
    save_checkpoint(run, history(1), first)
    save_checkpoint(run, history(2), second)
    damage(run.checkpoint / "epoch_2.npz", kind)
    found = load_checkpoint(run)
    assert len(found.history) == 1 and [p.name for p in found.damaged] == ["epoch_2.npz"]
    other = model("sgd", trained=False)
    found.restore(other, with_optimizer=True)
    assert same(first, other)
    # Training continues, and the damaged file is replaced.
    save_checkpoint(run, history(2), other)
    assert len(load_checkpoint(run).history) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_all_checkpoints_are_damaged(run, kind):
    for epochs in (1, 2):
        save_checkpoint(run, history(epochs), model("sgd"))
        damage(run.checkpoint / f"epoch_{epochs}.npz", kind)
    with pytest.raises(RunError, match="cannot be resumed.*epoch_2.npz and .*are damaged") as error:
        load_checkpoint(run)
    assert "\n" not in str(error.value)


def test_no_checkpoint(run):
    assert load_checkpoint(run) is None


def test_a_checkpoint_of_an_earlier_version(run):
    """Its history was in a separate file."""
    save_checkpoint(run, history(2), model("sgd"))
    path = run.checkpoint / "epoch_2.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "history"}
    np.savez(path, **arrays)
    state = {"epoch": 2, "best": 0.5, "best_epoch": 2, "seconds": 3.0, "history": history(2)}
    run.checkpoint.joinpath("state.json").write_text(json.dumps(state))
    assert list(load_checkpoint(run).history) == history(2)
    run.checkpoint.joinpath("state.json").write_text('{"epo')
    with pytest.raises(RunError, match="epoch_2.npz is damaged"):
        load_checkpoint(run)


def test_a_finished_run_can_be_reopened(run):
    trained = model("sgd")
    for epochs in (1, 2):
        save_checkpoint(run, history(epochs), trained)
    finish(run)
    finish(run)
    assert [path.name for path in run.path.iterdir()] == ["last_epoch.npz"]
    run.checkpoint.mkdir()
    reopen(run)
    assert len(load_checkpoint(run).history) == 2


def test_an_interrupted_end_is_completed(run):
    save_checkpoint(run, history(1), model("sgd"))
    run.checkpoint.rename(run.path / ".partial.checkpoint")
    finish(run)
    assert [path.name for path in run.path.iterdir()] == ["last_epoch.npz"]


def test_a_planted_link_is_not_followed(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.joinpath("mine.txt").touch()
    run.path.joinpath(".partial.checkpoint").symlink_to(elsewhere)
    save_checkpoint(run, history(1), model("sgd"))
    finish(run)
    assert [path.name for path in elsewhere.iterdir()] == ["mine.txt"]
    assert [path.name for path in run.path.iterdir()] == ["last_epoch.npz"]


def test_a_run_without_its_last_checkpoint_cannot_be_reopened(run):
    with pytest.raises(RunError, match="cannot be trained further.*--set model.weights="):
        reopen(run)
    run.last_epoch.write_bytes(b"PK")
    with pytest.raises(RunError, match="last_epoch.npz is damaged"):
        reopen(run)


def test_the_state_of_a_training():
    state = TrainingState("val_accuracy")
    assert (state.epoch, state.best_epoch, state.seconds) == (0, None, 0)
    for epoch, accuracy in enumerate((0.2, 0.5, 0.5, 0.4), start=1):
        state = state.after({"epoch": epoch, "val_accuracy": accuracy, "seconds": 1.5})
    assert (state.epoch, state.best_epoch, state.seconds) == (4, 2, 6.0)
    assert TrainingState("val_loss", history(3)).best_epoch == 3
