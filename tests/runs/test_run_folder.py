"""What a run folder holds, and who may train in it."""

import json

import pytest

from kerasfer.errors import RecipeError, RunError
from kerasfer.files import read_json
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.finding import find_run
from kerasfer.runs.folder import RunFolder
from kerasfer.runs.history import read_history, write_history
from kerasfer.runs.opening import check_run, open_folds, open_run, recipe_of_fold


def recipe(fold=None, **train):
    data = {"name": "synthetic", "protocol": "subjects", "num_folds": 3, "fold": fold}
    return Recipe.model_validate({"data": data, "model": {"name": "covpool"}, "train": train})


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def begin(run, recipe, epochs=1):
    """Leaves what an interrupted run leaves, as far as this room looks at it."""
    with pytest.raises(KeyboardInterrupt), open_run(run, recipe, resume=False):
        for epoch in range(1, epochs + 1):
            (run.checkpoint / f"epoch_{epoch}.npz").touch()
        raise KeyboardInterrupt


def finish(run, recipe):
    with open_run(run, recipe, resume=False):
        (run.checkpoint / "epoch_1.npz").touch()
        run.metrics.write_text("{}")


def test_names(run):
    begin(run, recipe(), epochs=11)
    assert run.exists and not run.is_finished
    assert [path.stem for path in run.checkpoints][:3] == ["epoch_11", "epoch_10", "epoch_9"]
    for number in (0, 2, 10):
        begin(run.fold(number), recipe())
    assert [fold.path.name for fold in run.folds] == ["fold_0", "fold_2", "fold_10"]
    for name in ("rafdb_test_none", "rafdb_test_none_pose30", "rafdb_test_flip"):
        run.evaluation(name).write_text("{}")
    assert list(run.evaluations("rafdb_test_none_")) == ["pose30"]
    assert len(run.evaluations()) == 3


def test_a_finished_run_keeps_its_last_checkpoint_only(run):
    finish(run, recipe())
    assert run.is_finished
    names = sorted(path.name for path in run.path.iterdir())
    assert names == ["last_epoch.npz", "metrics.json", "recipe.yaml"]
    with pytest.raises(RunError, match="already holds a finished run"):
        check_run(run, recipe(), resume=False)
    check_run(run, recipe(), resume=True)


def test_finished_by_another_process_in_the_meantime(run, monkeypatch):
    """The second check, under the lock, sees what happened since the first one."""
    import kerasfer.runs.opening as opening

    checks = []
    check = opening.check_run

    def check_and_finish(run, *arguments):
        check(run, *arguments)
        if not checks:
            checks.append(run)
            run.path.mkdir()
            run.recipe.write_text(dump(recipe()))
            run.metrics.write_text('{"accuracy": 1.0}')

    monkeypatch.setattr(opening, "check_run", check_and_finish)
    with pytest.raises(RunError, match="already holds a finished run"):
        open_run(run, recipe(), resume=False).__enter__()
    checks.clear()
    run.metrics.unlink()
    run.recipe.unlink()
    run.checkpoint.joinpath("lock").unlink()
    run.checkpoint.rmdir()
    run.path.rmdir()
    with pytest.raises(RunError, match="Another process has finished"):
        open_run(run, recipe(), resume=True).__enter__()
    assert read_json(run.metrics) == {"accuracy": 1.0}


def test_one_process_at_a_time(run):
    pytest.importorskip("fcntl", reason="Windows has no such locks")
    with open_run(run, recipe(), resume=False):
        with pytest.raises(RunError, match="Another process is writing into"):
            open_run(run, recipe(epochs=3), resume=False).__enter__()
        run.metrics.write_text("{}")
    assert run.load_recipe().train.epochs == 30


def test_killed_before_the_recipe_was_written(run):
    run.checkpoint.mkdir(parents=True)
    (run.checkpoint / "lock").touch()
    (run.path / ".partial.recipe.yaml").write_text("na")
    for resume in (False, True):
        check_run(run, recipe(), resume)
    (run.checkpoint / "mine.h5").touch()
    with pytest.raises(RunError, match="is not a run folder"):
        check_run(run, recipe(), resume=False)


def test_what_may_change_before_the_first_checkpoint(run):
    begin(run, recipe(), epochs=0)
    check_run(run, recipe(epochs=3), resume=False)


def test_what_may_change_when_a_run_is_resumed(run):
    begin(run, recipe(early_stopping=3))
    free = {"verbose": 0, "tensorboard": False, "early_stopping": 3}
    changed = recipe(**free).model_copy(update={"description": "Mine.", "name": "other"})
    check_run(run, changed, resume=True)
    with pytest.raises(RunError, match=r"The values of train\.seed, train\.epochs|epochs.*seed"):
        check_run(run, recipe(epochs=3, seed=1, early_stopping=3), resume=True)
    with pytest.raises(RunError, match=r"The values of train\.seed differ\."):
        check_run(run, recipe(seed=1, early_stopping=3), resume=True)


def test_a_recipe_of_an_earlier_version_lacks_new_keys(run):
    begin(run, recipe())
    text = dump(recipe())
    assert "  label_smoothing: 0.0\n" in text
    run.recipe.write_text(text.replace("  label_smoothing: 0.0\n", ""))
    check_run(run, recipe(), resume=True)
    with pytest.raises(RunError, match=r"train\.label_smoothing differ"):
        check_run(run, recipe(label_smoothing=0.1), resume=True)


def test_a_run_may_be_trained_longer_but_not_shorter(run):
    finish(run, recipe(epochs=4, early_stopping=2))
    assert check_run(run, recipe(epochs=4, early_stopping=2), resume=True) == {}
    longer = {"train.epochs": (4, 6)}
    assert check_run(run, recipe(epochs=6, early_stopping=2), resume=True) == longer
    longer["train.early_stopping"] = (2, None)
    assert check_run(run, recipe(epochs=6), resume=True) == longer
    for values in ({"epochs": 3, "early_stopping": 2}, {"epochs": 6, "early_stopping": 1}):
        with pytest.raises(RunError, match="was started with another recipe"):
            check_run(run, recipe(**values), resume=True)


def test_folds(run):
    folds = open_folds(run, recipe(), resume=False)
    assert [fold.path.name for fold in folds.values()] == ["fold_0", "fold_1", "fold_2"]
    assert "fold:" not in run.recipe.read_text()
    assert recipe_of_fold(recipe(), 2) == recipe(fold=2)
    assert list(open_folds(run, recipe(fold=1), resume=False)) == [1]


def test_a_refusal_comes_before_the_first_fold(run):
    folds = open_folds(run, recipe(), resume=False)
    begin(folds[2], recipe(fold=2))
    with pytest.raises(RunError, match="fold_2 holds an interrupted run. Add --resume"):
        open_folds(run, recipe(), resume=False)
    assert list(open_folds(run, recipe(), resume=True)) == [0, 1, 2]
    (folds[2].path / "metrics.json").write_text(json.dumps({}))
    for path in folds[2].checkpoints:
        path.unlink()
    with pytest.raises(RunError, match=r"holds finished folds \(fold_2\). Add --resume"):
        open_folds(run, recipe(), resume=False)
    with pytest.raises(RunError, match="The values of train.seed differ"):
        open_folds(run, recipe(seed=3), resume=False)


# Finding a run


def test_find_run(run):
    begin(run, recipe())
    with pytest.raises(RunError, match="has no model.keras yet"):
        find_run(run.path)
    run.model.touch()
    found = find_run(run.path, ["train.epochs=2"])
    assert (found.model, found.recipe.train.epochs) == (run.model, 2)
    assert found.folder.path == run.path
    assert find_run(run.model).recipe == recipe().model_copy(update={"name": "recipe"})
    alone = run.model.rename(run.path / "other.keras")
    assert find_run(alone) == (alone, None) and find_run(alone).folder is None


def test_find_run_says_what_is_missing(run, tmp_path):
    with pytest.raises(RunError, match=r"Expected a run folder with recipe.yaml and model.keras"):
        find_run(tmp_path)
    begin(run, recipe())
    run.recipe.write_text("")
    with pytest.raises(RecipeError, match="an empty file"):
        find_run(run.path)
    for number in (0, 1):
        begin(run.fold(number), recipe())
        run.fold(number).model.touch()
    with pytest.raises(RunError, match=r"in each of its folds \(fold_0, fold_1\). Name one of"):
        find_run(run.path)


# What is written


def test_history_comes_back_exactly(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2, "val_loss": 1 / 3}]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"a"', b"[" * 100_000])
def test_damaged_json_is_one_line(tmp_path, content):
    path = tmp_path / "metrics.json"
    with pytest.raises(RunError, match=r"Cannot read .*metrics\.json.*No such file"):
        read_json(path)
    path.write_bytes(content)
    with pytest.raises(
        RunError, match=r"Cannot read .*metrics\.json, which must be a JSON"
    ) as error:
        read_json(path)
    assert "\n" not in str(error.value)
