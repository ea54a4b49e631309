"""Comparison of rows on the same test pictures, with run folders and summaries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerasfer.errors import RecipeError, RunError
from kerasfer.recipe import dump
from kerasfer.runs.predictions import write_predictions
from kerasfer.tables import fill_table, load_table, render_table, write_summary
from kerasfer.tables.comparing import compare_rows
from kerasfer.tables.figures import draw_figures
from kerasfer.tables.outcomes import Outcomes, pack, unpack
from kerasfer.tables.results import read_run, read_summary
from kerasfer.tables.running import list_jobs

TABLE = """
title: Compared
paper: obsr
recipe: ../tiny.yaml
seeds: [0, 1]
columns: {test: {}, turned: {list: pose30}}
rows:
  plain: {}
  more: {set: [train.epochs=2], against: plain}
figures: {time: {kind: accuracy_time}}
"""
RECIPE = "data: {name: synthetic}\nmodel: {name: covpool}\ntrain: {epochs: 1}\n"
NAMES = ("happy", "sad")
# Of eight pictures: the fourth and fifth are classified correctly by one row each.
CORRECT = {"tiny": [1, 1, 1, 0, 1, 0, 0, 0], "tiny-more": [1, 1, 1, 1, 0, 0, 0, 0]}
CORRECT |= {"tiny-seed1": [1, 1, 1, 0, 0, 0, 0, 0], "tiny-more-seed1": [1, 1, 1, 1, 1, 1, 0, 0]}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The table, in a separate folder."""
    monkeypatch.chdir(tmp_path)
    Path("recipes/tables").mkdir(parents=True)
    Path("recipes/tiny.yaml").write_text(RECIPE)
    Path("recipes/tables/compared.yaml").write_text(TABLE)
    return load_table("recipes/tables/compared.yaml")


def leave_run(recipe, correct, ids=None, list_name=None):
    """Writes the files of a finished run that a table reads."""
    folder = Path("runs", recipe.name)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"dataset": "synthetic", "split": "test", "protocol": "official"}
    metrics |= {"num_samples": len(correct), "accuracy": float(np.mean(correct))}
    metrics |= {"accuracy_interval": [0.25, 0.75], "macro_recall": 0.5}
    metrics |= {"data": {"source": "/home/me/faces"}} if list_name else {}
    stem = f"evaluation_synthetic_test_none_{list_name}" if list_name else "metrics"
    folder.joinpath(f"{stem}.json").write_text(json.dumps(metrics))
    folder.joinpath("recipe.yaml").write_text(dump(recipe))
    seconds = 10.0 * recipe.train.epochs
    facts = {"seed": recipe.train.seed, "seconds": seconds}
    folder.joinpath("environment.json").write_text(json.dumps(facts))
    rows = [f"{n + 1},{0.2 * n + 0.1},{10 + n}" for n in range(recipe.train.epochs)]
    history = "\n".join(["epoch,val_accuracy,seconds", *rows, ""])
    folder.joinpath("history.csv").write_text(history)
    targets = np.arange(len(correct)) % 2
    predicted = np.where(np.array(correct, dtype=bool), targets, 1 - targets)
    table = folder / (f"{stem}.csv" if list_name else "predictions.csv")
    ids = ids or [f"face {number}" for number in range(len(correct))]
    write_predictions(table, ids, targets, np.eye(2)[predicted], NAMES)
    return folder


def leave_runs(table, **names):
    recipes = {recipe.name: recipe for cell in table.cells for recipe in cell.recipes}
    for name, correct in CORRECT.items():
        leave_run(recipes[name], correct, **names)
    return recipes


def test_outcomes_are_packed_into_bits():
    outcomes = Outcomes("0123456789abcdef", np.random.default_rng(0).uniform(size=3574) < 0.6)
    packed = json.loads(json.dumps(pack(outcomes)))
    assert len(packed["correct"]) == 596
    pictures, correct = unpack(packed)
    assert pictures == outcomes.pictures
    np.testing.assert_array_equal(correct, outcomes.correct)


@pytest.mark.parametrize(
    "damage", [{"num_samples": 9}, {"correct": "ä"}, {"correct": None}, {"num_samples": "8"}]
)
def test_damaged_outcomes_are_one_line(damage):
    packed = pack(Outcomes("0f", np.ones(8, dtype=bool)))
    with pytest.raises(RunError, match=r"outcomes of test pictures are damaged: .*Record the run"):
        unpack(packed | damage)


def test_rows_are_compared_picture_by_picture(table):
    leave_runs(table)
    (comparison,) = compare_rows(table, fill_table(table))
    assert comparison[:3] == ("more", "plain", "test")
    assert comparison.num_samples == 8
    assert comparison.result.difference == pytest.approx((0 + 3) / 8 / 2)
    assert comparison.result.by_seed == (0, 3 / 8)
    # The mean differences of the pictures are 0, 0, 0, 1, 0, 1/2, 0 and 0.
    text = render_table(table, fill_table(table))
    assert "more  plain    test    +18.75 [-5.36, +42.86]  0.180  +0.00, +37.50  8" in text
    assert "McNemar's test" in text
    markdown = render_table(table, fill_table(table), markdown=True)
    assert (
        "| more | plain | test | +18.75 [-5.36, +42.86] | 0.180 | +0.00, +37.50 | 8 |" in markdown
    )


def test_only_seeds_that_both_rows_have_are_compared(table):
    recipes = leave_runs(table)
    for path in Path("runs", "tiny-seed1").iterdir():
        path.unlink()
    (comparison,) = compare_rows(table, fill_table(table))
    assert comparison.result.by_seed == (0,)
    for name in ("tiny-seed1", "tiny-more-seed1"):  # Both rows, but not those of the first seed.
        leave_run(recipes[name], CORRECT[name], ids=list("abcdefgh"))
    (comparison,) = compare_rows(table, fill_table(table))
    assert comparison.result.by_seed == (0,)
    leave_run(recipes["tiny"], CORRECT["tiny"], ids=list("abcdefgh"))  # Other pictures.
    for path in Path("runs", "tiny-seed1").iterdir():
        path.unlink()
    assert compare_rows(table, fill_table(table)) == []
    assert "McNemar" not in render_table(table, fill_table(table))


def test_only_accuracies_are_compared(table):
    table.path.write_text(TABLE.replace("test: {}", "test: {metric: macro_recall}"))
    leave_runs(load_table(table.path))
    assert compare_rows(table, fill_table(table)) != []
    changed = load_table(table.path)
    assert compare_rows(changed, fill_table(changed)) == []


def test_lists_are_compared_too(table):
    leave_runs(table)
    leave_runs(table, list_name="pose30")
    whole, turned = compare_rows(table, fill_table(table))
    assert turned.column == "turned" and turned.result == whole.result


def test_summaries_are_compared_as_run_folders_are(table):
    leave_runs(table)
    leave_runs(table, list_name="pose30")
    filled = fill_table(table)
    for entry in filled:
        for result in entry.results:
            write_summary(result, "recipes/results")
    before = render_table(table, filled)
    Path("runs").rename("elsewhere")
    assert render_table(table, fill_table(table)) == before
    assert "/home/me" not in Path("recipes/results/tiny.json").read_text()
    # Summaries that were recorded without outcomes are read, but not compared.
    for path in Path("recipes/results").iterdir():
        values = json.loads(path.read_text())
        del values["outcomes"]
        path.write_text(json.dumps(values))
    assert read_summary("recipes/results/tiny.json").outcomes() is None
    assert compare_rows(table, fill_table(table)) == []


def test_a_run_without_predictions_is_not_compared(table):
    recipes = leave_runs(table)
    folder = leave_run(recipes["tiny"], CORRECT["tiny"])
    (folder / "predictions.csv").unlink()
    assert read_run(folder).outcomes() is None
    (comparison,) = compare_rows(table, fill_table(table))
    assert comparison.result.by_seed == (3 / 8,)


@pytest.mark.parametrize("other", ["more", "mroe"])
def test_a_row_is_compared_with_another_row(table, other):
    table.path.write_text(TABLE.replace("against: plain", f"against: {other}"))
    message = f"`rows.more.against` must be another row of the table: plain. Received: '{other}'."
    with pytest.raises(RecipeError, match=message):
        load_table(table.path)


def test_accuracy_over_training_time(table):
    leave_runs(table)
    filled = fill_table(table)
    assert [path.name for path in draw_figures(table, filled[::2], "drawn")] == [
        "time.png",
        "time.csv",
    ]
    heading, *rows = Path("drawn/time.csv").read_text().splitlines()
    assert heading == "row,seed,epoch,seconds,validation accuracy,test accuracy"
    assert rows == [
        '"plain, test",0,1,10.0,0.1,0.5',
        '"plain, test",1,1,10.0,0.1,0.375',
        '"more, test",0,1,10.0,0.1,',
        '"more, test",0,2,21.0,0.3,0.5',
        '"more, test",1,1,10.0,0.1,',
        '"more, test",1,2,21.0,0.3,0.75',
    ]
    assert Path("drawn/time.png").stat().st_size > 10_000


def test_a_figure_without_histories_is_not_drawn(table):
    leave_runs(table)
    filled = [
        replace(entry, results=tuple(replace(result, history=[]) for result in entry.results))
        for entry in fill_table(table)
    ]
    assert draw_figures(table, filled, "drawn") == []


def test_all_cells_of_a_seed_precede_the_next_seed(table):
    names = [job.recipe.name for job in list_jobs(table)]
    assert names == ["tiny", "tiny-more", "tiny-seed1", "tiny-more-seed1"]
    assert [len(job.cells) for job in list_jobs(table)] == [2, 2, 2, 2]
