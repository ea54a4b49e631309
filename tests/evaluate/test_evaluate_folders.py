"""Evaluation on folders of pictures: which pictures, under which name, compared with what."""

import json

import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner
from PIL import Image

from kerasfer.cli import main
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate import evaluate
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.predictions import read_predictions

CLASSES = ("happy", "sad")


def plant(folder, classes=CLASSES, count=10, seed=0):
    """Writes pictures of noise, which differ for each seed."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 255, (16, 16, 3), dtype="uint8")
            Image.fromarray(picture).save(folder / name / f"{seed}_{number}.png")
    return folder


@pytest.fixture
def run(tmp_path, seed):
    """The folder of a run that trains on the folder `own`, which has train/ and test/."""
    own = tmp_path / "own"
    plant(own / "train", seed=1)
    plant(own / "test", seed=2, count=3)
    recipe = {
        "name": "tiny",
        "data": {"name": "folder", "path": str(own), "image_size": 16},
        "model": {"name": "covpool"},
    }
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    folder.joinpath("recipe.yaml").write_text(dump(Recipe.model_validate(recipe)))
    tiny_models.tiny(CLASSES, 16).save(folder / "model.keras")
    return folder


def evaluations(run):
    return sorted(path.name for path in run.glob("evaluation_*.json"))


def test_a_flat_folder_is_evaluated_as_a_whole(run, tmp_path):
    other = plant(tmp_path / "flat", count=50)
    metrics = evaluate(run, dataset=str(other))
    assert (metrics["num_samples"], metrics["split"]) == (100, "whole")
    assert metrics["data"] == {"dataset": "folder", "source": str(other.resolve())}
    with pytest.raises(DataError, match="flat has no test split of its own. Leave out --split"):
        evaluate(run, dataset=str(other), split="test")


def test_a_folder_with_a_test_split_is_evaluated_on_it(run, tmp_path):
    plant(tmp_path / "split" / "train")
    plant(tmp_path / "split" / "test", seed=5, count=4)
    metrics = evaluate(run, dataset=str(tmp_path / "split"))
    assert (metrics["num_samples"], metrics["split"]) == (8, "test")


def test_a_folder_of_parquet_files_is_evaluated(run, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    folder = plant(tmp_path / "pictures", count=4, seed=2)
    files = sorted(folder.rglob("*.png"))
    columns = {"image": [file.read_bytes() for file in files], "label": ["happy"] * 4 + ["sad"] * 4}
    for split in ("train", "test"):
        (tmp_path / "shards").mkdir(exist_ok=True)
        parquet.write_table(pa.table(columns), tmp_path / "shards" / f"{split}.parquet")
    metrics = evaluate(run, dataset=str(tmp_path / "shards"))
    assert metrics["data"]["dataset"] == "parquet"
    assert (metrics["num_samples"], metrics["split"]) == (8, "test")
    expected = evaluate(run, dataset=str(folder))
    assert metrics["confusion_matrix"] == expected["confusion_matrix"]


def test_different_folders_have_different_names(run, tmp_path):
    evaluate(run)
    assert evaluations(run) == ["evaluation_folder_test_none.json"]
    own = (run / evaluations(run)[0]).read_text()
    for place in ("a", "b"):
        evaluate(run, dataset=str(plant(tmp_path / place / "faces")))
    assert len(evaluations(run)) == 3
    assert (run / "evaluation_folder_test_none.json").read_text() == own
    sources = {json.loads((run / name).read_text())["data"]["source"] for name in evaluations(run)}
    assert sources == {str(tmp_path / each) for each in ("own", "a/faces", "b/faces")}


def test_the_runs_own_folder_may_be_named(run, tmp_path):
    assert evaluate(run, dataset=str(tmp_path / "own")) == evaluate(run)
    assert evaluations(run) == ["evaluation_folder_test_none.json"]


def test_changed_data_has_a_separate_name(run, tmp_path):
    plant(tmp_path / "other" / "train", seed=3)
    plant(tmp_path / "other" / "test", seed=4, count=5)
    changed = evaluate(run, overrides=[f"data.path={tmp_path / 'other'}", "evaluate.tta=flip"])
    assert changed["num_samples"] == 10 and changed["tta"] == "flip"
    assert changed["data"]["changed"] == {"data.path": str(tmp_path / "other")}
    (name,) = evaluations(run)
    assert name.startswith("evaluation_folder-") and name.endswith("_test_flip.json")


def test_a_change_without_effect_is_an_error(run):
    for change in ("train.epochs=3", "data.limit=4", "data.augment.flip=true", "model.dropout=0.1"):
        with pytest.raises(RecipeError, match=f"--set {change} has no effect on an evaluation"):
            evaluate(run, overrides=[change])


def test_duplicates_are_looked_for_in_the_runs_training_set(run, tmp_path):
    """Pictures of the other folder's own training split do not count."""
    other = tmp_path / "other"
    plant(other / "train", seed=7)
    plant(other / "test", seed=7)  # The same as its training split.
    assert evaluate(run, dataset=str(other))["without_duplicates"]["num_samples"] == 20
    plant(tmp_path / "copy", seed=1, count=4)  # The first are those of the run's training set.
    found = evaluate(run, dataset=str(tmp_path / "copy"))["without_duplicates"]
    assert found["num_samples"] < 8
    assert "without_duplicates" not in evaluate(run, duplicates=False)


def test_a_class_may_be_missing(run, tmp_path):
    plant(tmp_path / "one" / "train")
    plant(tmp_path / "one" / "test", classes=["sad"])
    metrics = evaluate(run, overrides=[f"data.path={tmp_path / 'one'}"])
    assert metrics["class_names"] == list(CLASSES)
    assert [metrics["per_class"][name]["support"] for name in CLASSES] == [0, 10]
    assert metrics["macro_recall"] == metrics["per_class"]["sad"]["recall"]


def test_predictions_and_confusion_matrix_are_kept(run):
    metrics = evaluate(run)
    predictions = read_predictions(run / "evaluation_folder_test_none.csv")
    assert len(predictions.ids) == 6 and predictions.class_names == CLASSES
    hits = (predictions.probabilities.argmax(1) == predictions.targets).mean()
    assert hits == pytest.approx(metrics["accuracy"])
    with Image.open(run / "evaluation_folder_test_none.png") as figure:
        assert figure.format == "PNG"


# The command


def call(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_the_command_prints_the_classes_and_where_it_wrote(run):
    result = call(run, "--set", "evaluate.batch_size=2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    header = next(n for n, line in enumerate(lines) if line.startswith("class "))
    assert lines[header].split() == ["class", "recall", "precision", "F1", "pictures"]
    assert [line.split()[0] for line in lines[header + 1 : header + 3]] == list(CLASSES)
    assert lines[header + 1].endswith("3")
    assert lines[-1].startswith(f"written       {run / 'evaluation_folder_test_none.json'}")


def test_the_result_is_printed_where_the_folder_is_not_writable(run, monkeypatch):
    def refuse(*arguments):
        raise RunError("Cannot write it: Permission denied.")

    monkeypatch.setattr("kerasfer.evaluate.scoring.write_predictions", refuse)
    result = call(run)
    assert result.exit_code == 1
    assert "accuracy " in result.stdout and "Permission denied" in result.stderr
    with pytest.warns(UserWarning, match="The result is not kept. Cannot write it"):
        assert evaluate(run)["num_samples"] == 6
