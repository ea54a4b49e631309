"""Every recipe loads, builds and trains a step, and the quickstart runs."""

import json
from pathlib import Path

import keras
import pytest
from one_step import take_a_step

from kerasfer.data import DATASETS
from kerasfer.models import build_model
from kerasfer.recipe import load_recipe
from kerasfer.tables.cells import load_table
from kerasfer.train import train
from kerasfer.train.stages import check_warmup

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
# The recipes of tables are trained for one step in test_paper_tables.py.
IN_TABLES = {
    cell.recipe.name
    for path in (FOLDER / "tables").glob("*.yaml")
    for cell in load_table(path).cells
    if cell.recipe
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds(path, offline):
    recipe = load_recipe(path)
    assert recipe.name == path.stem and recipe.description
    assert recipe.data.name in DATASETS
    # The only part that needs a network is left out.
    options = recipe.model.model_dump(exclude={"name", "weights"}, exclude_none=True)
    size = recipe.data.image_size
    model = build_model(recipe.model.name, ("happy", "sad", "calm"), size, **options)
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, 3)
    check_warmup(model, recipe.train)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_published_recipes_name_the_published_result(path):
    recipe = load_recipe(path)
    published = path.stem.endswith(("_obsr", "_spd"))
    assert (recipe.reproduces is not None) == published


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
@pytest.mark.parametrize("name", sorted({path.stem for path in RECIPES} - IN_TABLES))
def test_recipe_trains_a_step(name, offline, seed):
    take_a_step(load_recipe(FOLDER / f"{name}.yaml"), ("happy", "sad", "calm"))


def test_quickstart_runs(tmp_path, offline):
    settings = ["data.num_samples=70", "train.epochs=1", "train.verbose=0", "data.image_size=32"]
    recipe = load_recipe(FOLDER / "quickstart.yaml", settings)
    metrics = train(recipe, output_dir=tmp_path)
    folder = tmp_path / "quickstart"
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == metrics["accuracy"]
    assert (folder / "report.html").stat().st_size > 50_000
