"""The tables of kerasfer contain the published values, and every row can be trained."""

from importlib import import_module
from pathlib import Path

import keras
import pytest
from click.testing import CliRunner
from one_step import take_a_step

from kerasfer.cli import main
from kerasfer.data import DATASETS
from kerasfer.recipe import load_recipe
from kerasfer.recipe.differences import differences
from kerasfer.tables.cells import load_table

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "recipes" / "tables").glob("*.yaml"))
CELLS = [cell for path in TABLES for cell in load_table(path).cells]
PUBLISHED = {
    **{("spd_attention", number): f"spd_table{number}" for number in (1, 2, 3, 4)},
    **{("obsr", number): f"obsr_table{number}" for number in (1, 2, 3, 4, 5)},
}


def test_all_tables_exist():
    assert {path.stem for path in TABLES} >= set(PUBLISHED.values())
    for (paper, number), name in PUBLISHED.items():
        file = load_table(ROOT / "recipes" / "tables" / f"{name}.yaml").file
        assert (file.paper, file.table) == (paper, number)
    # As many values as the papers print.
    counts = {
        path.stem: sum(c.paper is not None for c in load_table(path).cells) for path in TABLES
    }
    assert [counts[f"spd_table{number}"] for number in (1, 2, 3, 4)] == [30, 5, 6, 4]
    assert [counts[f"obsr_table{number}"] for number in (1, 2, 3, 4, 5)] == [21, 21, 9, 8, 8]


def test_rows_that_cannot_be_trained_are_quoted():
    quoted = {cell.row for cell in CELLS if cell.quoted}
    expected = {"GARAN", "VGNFL", "FERDL", "DeRL", "gACNN", "DLP-CNN", "Finetune"}
    assert quoted == expected
    assert all(cell.recipe is None for cell in CELLS if cell.quoted)


def test_runs_and_recipes_correspond_one_to_one():
    runs = {}
    for recipe in (cell.recipe for cell in CELLS if cell.recipe):
        assert not differences(recipe, runs.setdefault(recipe.name, recipe)), recipe.name
    names = list(runs)
    for number, name in enumerate(names):
        for other in names[:number]:
            assert differences(runs[name], runs[other]), f"{name} and {other} are the same"
    # Rows that are a headline recipe use its run.
    for path in (ROOT / "recipes").glob("*_spd.yaml"):
        assert not differences(load_recipe(path), runs[path.stem])


def test_published_values_of_tables_and_recipes_agree():
    for cell in CELLS:
        if (
            cell.recipe
            and not cell.list_name
            and cell.metric == "accuracy"
            and cell.recipe.reproduces
        ):
            assert cell.recipe.reproduces.accuracy == cell.paper, cell


def _networks():
    """Returns one recipe for each network and optimizer of the tables, by a description."""
    recipes, optimizers = {}, set()
    for recipe in (cell.recipe for cell in CELLS if cell.recipe):
        # The weight of a penalty and the initial weights do not change the network.
        model = recipe.model.model_dump(exclude={"logreg_weight", "weights"}, exclude_none=True)
        known = any(key[:-1] == (*model.values(),) for key in recipes)
        if not known or recipe.optimizer.name not in optimizers:
            recipes[*model.values(), recipe.optimizer.name] = recipe
            optimizers.add(recipe.optimizer.name)
    return {"-".join(map(str, key)): recipe for key, recipe in recipes.items()}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
@pytest.mark.parametrize("recipe", _networks().values(), ids=_networks())
def test_every_row_trains_a_step(recipe, offline, seed):
    assert recipe.data.name in DATASETS
    take_a_step(recipe, import_module(f"kerasfer.data.datasets.{recipe.data.name}").CLASS_NAMES)


def test_the_command_generates_the_page_of_results(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    page = tmp_path / "README.md"
    arguments = ["table", "recipes/tables", "--markdown", "--output", page]
    arguments += ["--output-dir", tmp_path]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert page.read_text() == (ROOT / "recipes" / "README.md").read_text()
