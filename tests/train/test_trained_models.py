"""The trained models that a training builds on, and the check for seen test pictures."""

from dataclasses import replace

import pytest
import tiny_models

from kerasfer.data.loading import load_dataset, load_fold
from kerasfer.errors import RecipeError, RunError
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.train.trained_models import load_trained

DATA = {"name": "synthetic", "protocol": "frames", "num_samples": 70}


def finished_run(folder, data=DATA):
    """Writes the files of a run that this check needs: the recipe and a model."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    recipe = Recipe.model_validate({"data": data, "model": {"name": "covpool"}})
    run.recipe.write_text(dump(recipe))
    tiny_models.tiny(("happy", "sad"), 16).save(run.model)
    return run, recipe


@pytest.fixture
def finished(tmp_path):
    return finished_run(tmp_path / "run")


def test_a_model_of_the_same_split_is_loaded(finished):
    run, recipe = finished
    found, model = load_trained("model.weights", run.path, load_fold(recipe.data, 0, None))
    assert found.model == run.model and found.recipe.data == recipe.data
    assert model.layers[-1].class_names == ("happy", "sad")


def test_seen_test_pictures_are_refused(finished):
    run, recipe = finished
    ours, theirs = (load_fold(recipe.data, seed, None) for seed in (1, 0))
    seen = set(theirs.train.ids) & set(ours.test.ids)
    assert 0 < len(seen) < len(ours.test)
    with pytest.raises(
        RecipeError,
        match=f"^distill.teacher: .* was trained on {len(seen)} of this run's {len(ours.test)} ",
    ):
        load_trained("distill.teacher", run.path, ours)
    # The model file without its run is not checked.
    alone = run.model.rename(run.path.parent / "alone.keras")
    assert load_trained("distill.teacher", alone, ours)[0].recipe is None


def test_test_pictures_in_the_own_training_split_are_not_counted(finished):
    run, recipe = finished
    ours = load_fold(recipe.data, 1, None)
    ours = replace(ours, train=load_dataset("synthetic", num_samples=70))
    assert load_trained("model.weights", run.path, ours)[0].folder.path == run.path


def test_the_model_of_the_same_fold_is_used(finished, tmp_path):
    run, recipe = finished
    finished_run(tmp_path / "run" / "fold_2")
    fold = load_fold(recipe.data, 0, None)
    assert load_trained("model.weights", run.path, fold, number=2)[0].model == run.fold(2).model
    assert load_trained("model.weights", run.path, fold, number=1)[0].model == run.model


def test_missing_training_pictures_are_reported(tmp_path):
    run, _ = finished_run(tmp_path / "run", {"name": "folder", "path": str(tmp_path / "gone")})
    ours = load_fold(
        Recipe.model_validate({"data": DATA, "model": {"name": "covpool"}}).data, 0, None
    )
    with pytest.raises(
        RecipeError, match=r"^model.weights: the training data of .* cannot be loaded"
    ):
        load_trained("model.weights", run.path, ours)


def test_a_missing_model_is_named_with_its_key(tmp_path):
    with pytest.raises(RunError, match=r"^distill.teacher: .*nothing.keras"):
        load_trained("distill.teacher", tmp_path / "nothing.keras", None)
