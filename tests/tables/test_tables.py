"""The command `kerasfer table`: reading, printing, recording and running."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner

from kerasfer.cli import main
from kerasfer.data import DATASETS
from kerasfer.errors import DataError
from kerasfer.models import MODELS
from kerasfer.recipe import dump, load_recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.tables.cells import load_table, slug

# A table's file

TABLE = """
title: Two rows
paper: obsr
table: 3
recipe: ../tiny.yaml
columns: {test: {}, occluded: {list: occlusion}}
rows:
  Tiny: {paper: {test: 50.0}}
  Tiny + SPD: {model: {name: tiny_spd}, set: [train.epochs=1], paper: {test: 60, occluded: 40}}
  Other: {quoted: nothing is known of it., paper: {test: 70.0}}
"""
RECIPE = """
data: {name: drawn, image_size: 16, batch_size: 16}
model: {name: tiny, dropout: 0.1}
optimizer: {name: gc_adam, learning_rate: 0.01}
train: {epochs: 2, tensorboard: false, verbose: 2}
"""


def missing(data_dir):
    raise DataError("drawn was not found.")


@pytest.fixture
def place(tmp_path, monkeypatch, plain):
    """A folder with recipes/tiny.yaml and recipes/tables/two.yaml, whose models train fast."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    (tmp_path / "recipes" / "tables").mkdir(parents=True)
    (tmp_path / "recipes" / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "recipes" / "tables" / "two.yaml").write_text(TABLE)
    for name in ("tiny", "tiny_spd"):
        monkeypatch.setitem(MODELS, name, getattr(tiny_models, name))
    monkeypatch.setitem(DATASETS, "drawn", missing)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """A dataset of drawn faces, some of which are in a list. Two are in the training set too."""
    from dataclasses import replace

    from kerasfer.data.lists import PictureList

    faces = DATASETS["synthetic"](None, num_samples=70)
    test = np.flatnonzero(faces.splits == "test")
    pictures = faces.pictures.copy()
    pictures[test[:2]] = pictures[np.flatnonzero(faces.splits == "train")[:2]]
    ids = [f"fer{number:07}.png" for number in range(70)]
    samples = replace(faces, name="drawn", pictures=pictures, ids=ids)
    monkeypatch.setitem(DATASETS, "drawn", lambda data_dir: samples)
    labels = {f"fer{n:07}": samples.class_names[samples.targets[n]] for n in test[:5]}
    labels["fer9999999"] = "happy"
    listed = PictureList("drawn", "occlusion", labels, 6, 0, 0)
    monkeypatch.setattr("kerasfer.evaluate.selection.load_list", lambda *names: listed)
    return samples


def call(*arguments):
    """Runs `kerasfer table`; a bug's traceback reaches the test."""
    result = CliRunner().invoke(main, ["table", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def two(*arguments):
    return call("recipes/tables/two.yaml", *arguments)


def lines_of(result, run):
    return [line for line in result.stdout.splitlines() if line.endswith(f"  {run}")]


def test_cells_name_their_runs(place):
    cells = {(cell.row, cell.column): cell for cell in load_table("recipes/tables/two.yaml").cells}
    assert len(cells) == 5  # nothing is quoted for the occluded ones
    assert cells["Tiny", "test"].recipe.name == "tiny"
    spd = cells["Tiny + SPD", "occluded"].recipe
    assert spd.name == "tiny-tiny-spd"
    # A complete model replaces all options of the other one.
    assert (spd.model.name, spd.model.dropout, spd.train.epochs) == ("tiny_spd", None, 1)
    assert spd.reproduces is None
    assert cells["Tiny + SPD", "test"].recipe.reproduces.accuracy == 60
    cut = load_table("recipes/tables/two.yaml", ["train.epochs=1", "data.workers=1"])
    assert cut.overrides == {"train.epochs": 1}
    assert {cell.recipe.name for cell in cut.cells if cell.recipe} == {
        "tiny+train.epochs=1",
        "tiny-tiny-spd",  # which has one epoch anyway
    }


def test_slugs():
    assert slug("ResNet34 + GC") == "resnet34-gc"
    assert slug("pose > 30°") == "pose-30"
    assert slug(None) == "none"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("rows:", "rws:", "two.yaml:7: unknown key `rws`. Did you mean `rows`?"),
        (
            "model: {name",
            "modle: {name",
            "two.yaml:9: unknown key `rows.Tiny + SPD.modle`. Did you",
        ),
        ("paper: obsr", "paper: other", "two.yaml:3: `paper` must be 'obsr' or 'spd_attention'"),
        ("title: Two rows", "note: x", "two.yaml: `title` is required."),
        ("{test: 60,", "{text: 60,", "`rows.Tiny + SPD` names the column 'text'; the table has"),
        ("list: occlusion", "metric: recall", "`rows.Tiny.class_name` belongs to tables with col"),
        ("../tiny.yaml", "../tny.yaml", "row Tiny, column test: There is no recipe "),
        ("recipe: ../tiny.yaml", "note: x", "row Tiny, column test: no recipe is named. Add"),
        ("epochs=1", "epoch=1", "--set train.epoch=1: unknown key `train.epoch`. Did you mean"),
        (TABLE, "- a", "two.yaml: a table consists of `title:`, `columns:` and `rows:`. Received"),
    ],
)
def test_mistakes_in_a_table(place, old, new, message):
    Path("recipes/tables/two.yaml").write_text(TABLE.replace(old, new))
    result = two()
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_rows_must_not_share_a_run(place):
    message = "would share the run tiny-x, but differ in train.epochs. Name the runs of one of them"
    rows = "{A: {run: x, set: [train.epochs=3]}, B: {run: x, set: [train.epochs=4]}}"
    text = TABLE[: TABLE.index("rows:")] + f"rows: {rows}\n"
    Path("recipes/tables/two.yaml").write_text(text)
    assert f"the rows A (test) and B (test) {message}" in two().stderr
    Path("recipes/tables/two.yaml").write_text(TABLE)
    assert "would share the run mine" in two("--set", "name=mine").stderr


def test_folders(place):
    assert "recipes/tiny.yaml:2: unknown key `data`." in call("recipes").stderr  # is no table
    Path("recipes/tables/head.md").write_text("# Mine\n")
    Path("recipes/tables/again.yaml").write_text(TABLE.replace("Two rows", "Again"))
    page = call("recipes/tables", "--markdown").stdout
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Mine",
        "## Again",
        "## Two rows",
    ]
    Path("empty").mkdir()
    result = call("empty")
    assert result.exit_code == 2
    assert "Expected tables in empty, files ending in .yaml, but found none." in result.stderr


# Printing what was measured


def measured(folder, recipe, accuracy=0.5, lists=(), **more):
    """Writes the files of a finished run that a table reads."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    folder.joinpath("recipe.yaml").write_text(dump(recipe))
    place = {"seed": 0, "seconds": 42.0, "device": "CPU, 2 cores", "platform": "secret"}
    folder.joinpath("environment.json").write_text(json.dumps(place))
    folder.joinpath("history.csv").write_text("epoch,loss,val_loss\n1,2.0,2.1\n2,1.0,1.5\n")
    metrics = {
        "dataset": "drawn",
        "split": "test",
        "protocol": "official",
        "leaking": False,
        "num_samples": 14,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.1],
        "macro_recall": 0.25,
        "per_class": {"happy": {"precision": 0.75, "recall": 0.5, "f1": 0.6, "support": 6}},
        "confusion_matrix": [[3, 3], [1, 7]],
        "class_names": ["happy", "sad"],
    }
    folder.joinpath("metrics.json").write_text(json.dumps(metrics | more))
    for name in lists:
        path = folder / f"evaluation_drawn_test_none_{name}.json"
        path.write_text(json.dumps(metrics | {"accuracy": 0.4, "num_samples": 5}))
    return folder


def test_nothing_was_run(place):
    result = two()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Two rows"
    assert " ".join(lines[2].split()) == "row column paper ours macro recall protocol N run"
    assert lines[4].split() == ["Tiny", "test", "50.00", "not", "run", *"–––", "tiny"]
    assert lines[8].split() == ["Other", "test", "70.00", "quoted", "only", *"––––"]
    assert "  Other: quoted; nothing is known of it." in lines
    assert "None of the values is measured yet" in lines[-1]
    markdown = two("--markdown").stdout
    assert "| paper | test | occluded |" in markdown
    assert "| Tiny + SPD | 60.00 | 40.00 |" in markdown
    assert "| Other | 70.00 (quoted) | – |" in markdown


def test_measured_values(place):
    measured("runs/tiny", load_recipe("recipes/tiny.yaml"), lists=["occlusion"])
    result = two()
    test, occluded = lines_of(result, "tiny")
    assert "50.00  50.00 [40.00, 60.00]" in test and "25.00  official  14" in test
    assert "–  40.00 [40.00, 60.00]" in occluded and occluded.split()[-2] == "5"
    assert "`tiny`: 2 epochs, 16 px, 42 s of training on CPU, 2 cores, seed 0." in result.stdout
    assert "2 of 5 values are not completely measured yet" in result.stdout
    markdown = two("--markdown").stdout
    assert "| Tiny | test | 50.00 | 50.00 [40.00, 60.00] | 25.00 | official | 14 | `tiny` |" in (
        markdown
    )


def test_folds_leaks_and_duplicates(place):
    measured(
        "runs/tiny",
        load_recipe("recipes/tiny.yaml"),
        lists=["occlusion"],
        leaking=True,
        mean={"accuracy": 0.625},
        sd={"accuracy": 0.03125},
        without_duplicates={
            "num_samples": 12,
            "accuracy": 0.45,
            "accuracy_interval": [0.375, 0.55],
        },
    )
    result = two()
    assert "62.50 ± 3.12" in lines_of(result, "tiny")[0]
    assert "45.00 [37.50, 55.00] of 12" in lines_of(result, "tiny")[0]
    assert "official, leaking" in result.stdout
    assert "near-identical frames of one sequence are in training and test" in result.stdout


def test_scores_of_a_class(place):
    columns = "{precision: {metric: precision}, recall: {metric: recall}, F1: {metric: f1}}"
    Path("recipes/tables/class.yaml").write_text(
        "title: By class\npaper: obsr\ntable: 1\nunit: fraction\nrecipe: ../tiny.yaml\n"
        f"columns: {columns}\nrows: {{joy: {{class_name: happy, paper: {{recall: 0.9}}}}}}\n"
    )
    measured("runs/tiny", load_recipe("recipes/tiny.yaml"))
    result = call("recipes/tables/class.yaml")
    precision, recall, f1 = lines_of(result, "tiny")
    assert "0.750 [0.301, 0.954]" in precision  # 3 of 4
    assert "0.900  0.500 [0.188, 0.812]" in recall  # 3 of 6
    assert "–  0.600  " in f1 and "[" not in f1
    wrong = Path("recipes/tables/class.yaml").read_text().replace("happy", "joyful")
    Path("recipes/tables/class.yaml").write_text(wrong)
    assert "tiny has no class 'joyful', but happy, sad" in call("recipes/tables/class.yaml").stderr


def test_a_run_of_another_recipe_fills_nothing(place):
    measured("runs/tiny", load_recipe("recipes/tiny.yaml", ["train.epochs=1", "data.limit=20"]))
    result = two()
    assert "not run" in lines_of(result, "tiny")[0]
    assert (
        "tiny is a run of another recipe: data.limit is 20 there and null here, train.epochs is 1 "
        "there and 2 here. Move it away, or choose another --output-dir."
    ) in result.stdout
    refused = two("--run-missing", "--set", "model.name=tiny")
    assert refused.exit_code == 1 and "Not run: tiny" in refused.stderr


def test_settings_without_effect_on_results_are_not_compared(place):
    changes = ["train.verbose=0", "train.backend=jax", "data.workers=7", "description=mine"]
    measured("runs/tiny", load_recipe("recipes/tiny.yaml", changes))
    assert "50.00 [40.00, 60.00]" in two().stdout


def test_an_unfinished_run_fills_nothing(place):
    folder = measured("runs/tiny", load_recipe("recipes/tiny.yaml"))
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "epoch_1.npz").touch()
    assert not RunFolder(folder).is_finished
    assert "not run" in lines_of(two(), "tiny")[0]


@pytest.mark.parametrize("name", ["metrics.json", "environment.json", "history.csv"])
@pytest.mark.parametrize("content", ["", "{", "epoch,loss\n1,half\n"])
def test_a_damaged_file_of_a_run_is_one_line(place, name, content):
    folder = measured("runs/tiny", load_recipe("recipes/tiny.yaml"))
    (folder / name).write_text(content)
    result = two()
    if name == "history.csv" and "half" not in content:
        assert result.exit_code == 0  # A table without rows.
        return
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: Cannot read ") and name in line


def test_recorded_results(place):
    folder = measured("runs/tiny", load_recipe("recipes/tiny.yaml"), lists=["occlusion"])
    before = two().stdout
    result = two("--record")
    assert result.stdout == before
    assert result.stderr == f"Recorded {Path('recipes/results/tiny.json')}\n"
    text = Path("recipes/results/tiny.json").read_text()
    assert "secret" not in text and str(place) not in text
    folder.rename("elsewhere")
    assert two().stdout == before
    # With changes, what was recorded without them does not count.
    assert "not run" in two("--set", "train.epochs=1").stdout
    Path("recipes/results/tiny.json").write_text("{")
    assert "tiny.json, which must be a JSON file written by kerasfer" in two().stderr


def test_figures(place):
    figures = (
        "figures: {f1: {kind: confusion, rows: [Tiny], title: Figure 1}, f2: {kind: loss}, "
        "f3: {kind: gradient_norm}}\n"
    )
    Path("recipes/tables/two.yaml").write_text(TABLE + figures)
    folder = measured("runs/tiny", load_recipe("recipes/tiny.yaml"), lists=["occlusion"])
    result = two("--figures", "drawn")
    assert result.exit_code == 1
    assert "gradient_norm.csv, which must hold the norm of a gradient for each" in result.stderr
    folder.joinpath("gradient_norm.csv").write_text("step,epoch,norm\n1,1,0.5\n2,1,0.25\n")
    result = two("--figures", "drawn")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("drawn").iterdir()) == [
        "f1.png",
        "f2.png",
        "f3.csv",
        "f3.png",
    ]
    assert Path("drawn/f3.csv").read_text().splitlines()[1:] == ["1,0.5,0.5", "2,0.25,0.25"]


# Running what is missing


def test_missing_runs_are_trained(place, drawn, monkeypatch):
    result = two("--run-missing")
    assert result.exit_code == 0, result.output
    assert "Run 1 of 2: tiny (Tiny: test, Tiny: occluded)" in result.stdout
    assert (
        "Run 2 of 2: tiny-tiny-spd (Tiny + SPD: test, Tiny + SPD: occluded), about "
        in result.stdout
    )
    assert "not run" not in result.stdout and "measured yet" not in result.stdout
    for name in ("tiny", "tiny-tiny-spd"):
        test, occluded = lines_of(result, name)
        assert test.split()[-2] == "14" and occluded.split()[-2] == "5"
        assert " of 12  " in test and " of 3  " in occluded  # without the two that were trained on
        listed = Path("runs", name, "evaluation_drawn_test_none_occlusion.json")
        assert json.loads(listed.read_text())["list"] == {
            "name": "occlusion",
            "num_listed": 6,
            "num_missing": 1,
            "num_disagreeing": 0,
        }
    # Nothing is repeated.
    monkeypatch.setattr("kerasfer.train.train", None)
    monkeypatch.setattr("kerasfer.evaluate.evaluate", None)
    again = two("--run-missing")
    assert again.exit_code == 0 and "Run 1" not in again.stdout
    assert lines_of(again, "tiny") == lines_of(result, "tiny")


SEEDS = """
title: Seeds
paper: obsr
recipe: ../tiny.yaml
seeds: [0, 1, 2]
columns: {test: {}}
rows: {Tiny: {paper: {test: 50.0}}}
"""


def test_seeds(place):
    Path("recipes/tables/seeds.yaml").write_text(SEEDS)
    (cell,) = load_table("recipes/tables/seeds.yaml").cells
    assert [r.name for r in cell.recipes] == ["tiny", "tiny-seed1", "tiny-seed2"]
    assert [r.train.seed for r in cell.recipes] == [0, 1, 2]
    accuracies = [0.5, 0.6, 0.4]
    for recipe, accuracy in zip(cell.recipes, accuracies, strict=True):
        if recipe.train.seed == 2:
            two_seeds = call("recipes/tables/seeds.yaml").stdout
        measured(f"runs/{recipe.name}", recipe, accuracy=accuracy)
    assert "55.00 ± 7.07 (2 seeds)" in two_seeds and "not completely measured" in two_seeds
    result = call("recipes/tables/seeds.yaml", "--record").stdout
    assert "50.00 ± 10.00 (3 seeds)" in result and "measured yet" not in result
    assert "tiny (+ 2 seeds)" in result and "`tiny-seed2`: " in result
    assert len(list(Path("recipes/results").iterdir())) == 3
    Path("runs").rename("elsewhere")
    assert call("recipes/tables/seeds.yaml").stdout == result


def test_the_seeds_that_are_missing_are_run(place, drawn):
    Path("recipes/tables/seeds.yaml").write_text(SEEDS.replace("[0, 1, 2]", "[0, 1]"))
    result = call("recipes/tables/seeds.yaml", "--run-missing", "--set", "train.epochs=1")
    assert result.exit_code == 0, result.output
    assert "Run 2 of 2: tiny+train.epochs=1-seed1 (Tiny: test), about " in result.stdout
    assert "(2 seeds)" in result.stdout


def test_a_time_budget(place, drawn, monkeypatch):
    result = two("--run-missing", "--hours", "0")
    assert result.exit_code == 1 and "Run 1" not in result.stdout
    assert result.stderr == "Not run: tiny, tiny-tiny-spd: the time budget of 0 h is used up.\n"
    times = iter([0.0, 0.0, 3700.0])
    monkeypatch.setattr("kerasfer.tables.running.time.monotonic", lambda: next(times, 3700.0))
    result = two("--run-missing", "--hours", "1")
    assert "Run 1 of 2: tiny" in result.stdout and "Run 2" not in result.stdout
    assert result.stderr == "Not run: tiny-tiny-spd: the time budget of 1 h is used up.\n"


def test_continuing_after_an_interruption(place, drawn, monkeypatch):
    def interrupt(self, batch, logs=None):
        if self.state.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kerasfer.train.callbacks.Record.on_train_batch_end", interrupt)
        result = two("--run-missing")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted: run the same command again.\n"
    assert "not run" in lines_of(two(), "tiny")[0]
    result = two("--run-missing")
    assert result.exit_code == 0 and "Resuming after epoch 1." in result.stdout


def test_a_missing_dataset_does_not_stop_other_rows(place, drawn):
    text = TABLE.replace("Tiny: {paper", "Tiny: {set: [data.name=ckplus], paper")
    Path("recipes/tables/two.yaml").write_text(text.replace("occluded: {list: occlusion}", "o: {}")
                                           .replace("occluded: 40", "o: 40"))  # fmt: skip
    result = two("--run-missing", "--data-dir", "nowhere")
    assert result.exit_code == 1
    assert "not run" in lines_of(result, "tiny-tiny")[0]
    assert "[" in lines_of(result, "tiny-tiny-spd")[0]
    (line,) = result.stderr.splitlines()
    assert line.startswith("Not run: tiny-tiny: CK+ was not found.")
