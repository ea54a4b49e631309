import json

import keras
import numpy as np
import pytest
from keras import ops

from kerasfer.errors import RunError
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder, open_folds, recipe_of_fold


def recipe(fold=None, **train):
    data = {"name": "synthetic", "num_folds": 3, "fold": fold}
    return Recipe.model_validate({"data": data, "model": {"name": "covpool"}, "train": train})


def model(optimizer, trained=True):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    if trained:
        for _ in range(3):
            model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    return model


def state(epoch):
    return {"epoch": epoch, "history": []}


def values(owner):
    return [ops.convert_to_numpy(variable) for variable in owner.variables]


def same(owner, other):
    pairs = zip(values(owner), values(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "averages": lambda: keras.optimizers.Adam(0.1, use_ema=True),
    "float16": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_goes_on_where_it_was(tmp_path, name):
    run = RunFolder(tmp_path / "run")
    before, after = model(OPTIMIZERS[name]()), model(OPTIMIZERS[name](), trained=False)
    with run.open(recipe(), resume=False):
        run.save_state(state(3), before)
    with run.open(recipe(), resume=True) as found:
        assert found["epoch"] == 3
        run.load_weights(after, found, with_optimizer=True)
    assert int(after.optimizer.iterations) == 3
    assert same(before, after) and same(before.optimizer, after.optimizer)
    # Both go the same way from here.
    for each in (before, after):
        keras.utils.set_random_seed(0)
        each.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    assert same(before, after) and same(before.optimizer, after.optimizer)


def test_a_fresh_optimizer_stays_fresh(tmp_path):
    run = RunFolder(tmp_path / "run")
    before = model(OPTIMIZERS["momentum"]())
    after = model(OPTIMIZERS["float16"](), trained=False)
    with run.open(recipe(), resume=False):
        run.save_state(state(1), before)
        run.load_weights(after, state(1), with_optimizer=False)
    assert same(before, after)
    assert int(after.optimizer.iterations) == 0


def test_a_checkpoint_of_another_model(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        run.save_state(state(1), model("sgd"))
        message = "optimizer has 2 variables, and not the shapes of the 6"
        with pytest.raises(RunError, match=message):
            run.load_weights(model("adam", trained=False), state(1), with_optimizer=True)


def test_only_the_last_checkpoint_is_kept(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        for epoch in (1, 2):
            run.save_state(state(epoch), model("sgd"))
    names = sorted(path.name for path in run.checkpoint.iterdir())
    assert names[:2] == ["epoch_2.npz", "lock"] or names[:2] == ["epoch_2.npz", "state.json"]


def test_a_damaged_state(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        run.save_state(state(1), model("sgd"))
    (run.checkpoint / "epoch_1.npz").unlink()
    with pytest.raises(RunError, match="is missing, so the run cannot go on"):
        run.open(recipe(), resume=True).__enter__()
    run.state.write_text('{"epo')
    with pytest.raises(RunError, match="is damaged, so the run cannot go on"):
        run.open(recipe(), resume=True).__enter__()


def test_one_program_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="Windows has no such locks")
    with RunFolder(tmp_path / "run").open(recipe(), resume=False):
        other = RunFolder(tmp_path / "run").open(recipe(epochs=3), resume=False)
        with pytest.raises(RunError, match="Another program is training"):
            other.__enter__()
    assert "epochs: 30" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_closing_leaves_nothing_of_the_checkpoint(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        run.save_state(state(1), model("sgd"))
    run.metrics.write_text("{}")
    assert not run.is_finished
    run.close()
    run.close()
    assert run.is_finished
    assert sorted(path.name for path in run.path.iterdir()) == ["metrics.json", "recipe.yaml"]


def test_killed_before_the_recipe_was_written(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.checkpoint.mkdir(parents=True)
    (run.checkpoint / "lock").touch()
    (run.path / ".partial.recipe.yaml").write_text("na")
    for resume in (False, True):
        run.check(recipe(), resume)
    (run.checkpoint / "mine.h5").touch()
    with pytest.raises(RunError, match="is no run's folder"):
        run.check(recipe(), resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_what_may_change(tmp_path, resume):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        if resume:
            run.save_state(state(1), model("sgd"))
    run.check(recipe(verbose=0, tensorboard=False), resume)
    if resume:
        with pytest.raises(RunError, match=r"differs: train\.epochs, train\.seed\. "):
            run.check(recipe(epochs=3, seed=1), resume)
    else:  # Nothing was kept yet that another recipe would mix with.
        run.check(recipe(epochs=3), resume)


def test_folds(tmp_path):
    runs = open_folds(tmp_path / "run", recipe(), resume=False)
    assert [run.path.name for run in runs.values()] == ["fold_0", "fold_1", "fold_2"]
    assert "fold:" not in (tmp_path / "run" / "recipe.yaml").read_text()
    assert recipe_of_fold(recipe(), 2) == recipe(fold=2)
    one = open_folds(tmp_path / "run", recipe(fold=1), resume=False)
    assert list(one) == [1]


def test_a_refusal_comes_before_the_first_fold(tmp_path):
    runs = open_folds(tmp_path / "run", recipe(), resume=False)
    with runs[2].open(recipe(fold=2), resume=False):
        runs[2].save_state(state(1), model("sgd"))
    with pytest.raises(RunError, match="fold_2 holds an interrupted run: add --resume"):
        open_folds(tmp_path / "run", recipe(), resume=False)
    assert list(open_folds(tmp_path / "run", recipe(), resume=True)) == [0, 1, 2]
    runs[2].metrics.write_text(json.dumps({}))
    runs[2].close()
    with pytest.raises(RunError, match=r"holds finished folds \(fold_2\): add --resume"):
        open_folds(tmp_path / "run", recipe(), resume=False)
    with pytest.raises(RunError, match="what differs: train.epochs"):
        open_folds(tmp_path / "run", recipe(epochs=3), resume=False)


def test_runs_of_older_versions_and_with_another_description_are_resumable(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open(recipe(), resume=False):
        run.save_state(state(1), model("sgd"))
    older = run.recipe.read_text().replace("  label_smoothing: 0.0\n", "")
    run.recipe.write_text(older.replace("description: ''", "description: What it was for."))
    assert "What it was for" in run.recipe.read_text()
    run.check(recipe(verbose=0), resume=True)
    with pytest.raises(RunError, match="what differs: train.label_smoothing"):
        run.check(recipe(label_smoothing=0.1), resume=True)
