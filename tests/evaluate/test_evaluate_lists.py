"""Judging on lists of test pictures, and with and without pictures that were trained on too."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner

from kerasfer.cli import main
from kerasfer.cli.shared import summary
from kerasfer.data import DATASETS
from kerasfer.data.samples import limit
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate import evaluate
from kerasfer.evaluate.metrics import classification_metrics, summarize_folds, wilson_interval
from kerasfer.models.loading import load_model
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe
from kerasfer.report import write_report

RECIPE = {
    "name": "tiny",
    "data": {"name": "ferplus", "image_size": 16},
    "model": {"name": "covpool"},
}


@pytest.fixture
def ferplus(monkeypatch):
    """Drawn faces under FER+'s name: 49 / 7 / 14, of which two test pictures were trained on."""
    faces = DATASETS["synthetic"](None, num_samples=70)
    train, test = (np.flatnonzero(faces.splits == split) for split in ("train", "test"))
    pictures = faces.pictures.copy()
    pictures[test[:2]] = pictures[train[-2:]]
    ids = [f"fer{number:07}.png" for number in range(70)]
    samples = replace(faces, name="ferplus", pictures=pictures, ids=ids, protocol="official")
    monkeypatch.setitem(DATASETS, "ferplus", lambda data_dir: samples)
    # The list's classes are FER+'s, of which only neutral, disgust and fear have the same names.
    return samples


@pytest.fixture
def data_dir(tmp_path, ferplus):
    """A folder with the list of occluded faces: three test pictures, one of training, one other."""
    test = np.flatnonzero(ferplus.splits == "test")
    lines = [f"0_fer{number:07}.png 8 0" for number in (*test[[0, 3, 5]], 0, 9999999)]
    assert ferplus.splits[0] == "train"
    folder = tmp_path / "data" / "lists" / "FERplus_dir"
    folder.mkdir(parents=True)
    folder.joinpath("jianfei_occlusion_list.txt").write_text("\r\n".join(lines))
    return folder.parent.parent


@pytest.fixture
def run(tmp_path, ferplus, seed):
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    folder.joinpath("recipe.yaml").write_text(dump(Recipe.model_validate(RECIPE)))
    tiny_models.tiny(ferplus.class_names, 16).save(folder / "model.keras")
    return folder


# Lists


def test_only_the_listed_pictures_are_evaluated(run, data_dir, ferplus):
    metrics = evaluate(run, list_name="occlusion", data_dir=data_dir)
    assert metrics["num_samples"] == 3
    test = np.flatnonzero(ferplus.splits == "test")
    targets = ferplus.targets[test[[0, 3, 5]]]
    supports = [scores["support"] for scores in metrics["per_class"].values()]
    assert supports == np.bincount(targets, minlength=7).tolist()
    # The one that was trained on, and the one that is not there, are counted and left out.
    neutral = ferplus.class_names.index("neutral")
    assert metrics["list"] == {
        "name": "occlusion",
        "num_listed": 5,
        "num_missing": 2,
        "num_disagreeing": int((targets != neutral).sum()),
    }
    hits = round(3 * metrics["accuracy"])
    assert metrics["accuracy_interval"] == list(wilson_interval(hits, 3))
    kept = json.loads((run / "evaluation_ferplus_test_none_occlusion.json").read_text())
    assert kept == metrics


def test_the_command(run, data_dir):
    arguments = ["evaluate", run, "--list", "occlusion", "--data-dir", data_dir]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert " of 3 pictures; 95 % interval " in lines[0]
    assert lines[1].startswith("no duplicates ") and "without 1 that were trained on" in lines[1]
    assert lines[-1].startswith("written ") and "_test_none_occlusion.json (also" in lines[-1]
    assert lines[4].startswith(
        "list          occlusion, 5 pictures, of which test lacks 2; the list gives another class"
    )


def test_lists_that_do_not_fit(run, data_dir, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="list pose30 of ferplus was not found"):
        evaluate(run, list_name="pose30", data_dir=data_dir)
    with pytest.raises(RecipeError, match="The lists of ferplus are occlusion, pose30, pose45"):
        evaluate(run, list_name="pose60", data_dir=data_dir)
    with pytest.raises(DataError, match="name test pictures, so use the test split"):
        evaluate(run, list_name="occlusion", split="validation", data_dir=data_dir)
    monkeypatch.setenv("KERASFER_DATA", str(data_dir))
    assert evaluate(run, list_name="occlusion")["num_samples"] == 3


# Pictures that were trained on


def test_accuracy_without_training_pictures(run, ferplus):
    metrics = evaluate(run)
    others = metrics["without_duplicates"]
    assert metrics["num_samples"] == 14 and others["num_samples"] == 12
    model = load_model(run / "model.keras")
    test = np.flatnonzero(ferplus.splits == "test")[2:]
    # 48 px become 16 as the batches make them.
    from kerasfer.data.batches import Batches

    images, labels = Batches(ferplus.take(test), 16, batch_size=12)[0]
    hits = (model.predict(images, verbose=0).argmax(1) == labels.argmax(1)).sum()
    assert others["accuracy"] == hits / 12
    assert others["accuracy_interval"] == list(wilson_interval(int(hits), 12))


def test_only_the_training_pictures_of_the_run_count(run, ferplus):
    recipe = Recipe.model_validate(RECIPE | {"data": {**RECIPE["data"], "limit": 7}})
    run.joinpath("recipe.yaml").write_text(dump(recipe))
    train = ferplus.take(ferplus.splits == "train")
    kept = set(limit(train, 7, 0).ids)
    both = sum(id_ in kept for id_ in train.ids[-2:])
    assert evaluate(run)["without_duplicates"]["num_samples"] == 14 - both


def test_training_pictures_are_optional(run, tmp_path, monkeypatch):
    assert "without_duplicates" not in evaluate(run, duplicates=False)
    assert "without_duplicates" not in evaluate(run, split="train")
    monkeypatch.setitem(DATASETS, "other", DATASETS["ferplus"])
    alone = tmp_path / "mine.keras"
    (run / "model.keras").rename(alone)
    assert "without_duplicates" not in evaluate(alone, dataset="ferplus")
    with pytest.raises(RunError, match="The training pictures of a model file are unknown"):
        evaluate(alone, dataset="ferplus", duplicates=True)


def metrics_of(hits, duplicates):
    return classification_metrics(
        [[1.0, 0.0]] * len(hits),
        [int(not hit) for hit in hits],
        ["happy", "sad"],
        dataset="drawn",
        split="test",
        protocol="official",
        duplicates=duplicates,
    )


def test_rates_by_hand():
    others = metrics_of([1, 1, 0, 0], [True, False, False, False])["without_duplicates"]
    assert (others["num_samples"], others["accuracy"]) == (3, 1 / 3)
    assert others["accuracy_interval"] == list(wilson_interval(1, 3))
    nothing = metrics_of([1, 0], [True, True])["without_duplicates"]
    assert nothing == {"num_samples": 0, "accuracy": None, "accuracy_interval": None}
    assert "without_duplicates" not in metrics_of([1, 0], None)


def test_folds_are_pooled():
    folds = [
        metrics_of([1, 1, 0, 0], [True, False, False, False]),
        metrics_of([1, 0], [False, False]),
        metrics_of([1, 0], [True, True]),
    ]
    pooled = summarize_folds(folds)["without_duplicates"]
    assert (pooled["num_samples"], pooled["accuracy"]) == (5, 2 / 5)
    folds[1].pop("without_duplicates")
    assert "without_duplicates" not in summarize_folds(folds)


def test_what_is_printed():
    line = summary(metrics_of([1, 1, 0, 0], [True, False, False, False])).splitlines()[1]
    assert line == (
        "no duplicates 33.33 %  without 1 that were trained on too; 95 % interval 6.15 % to 79.23 %"
    )
    assert "no duplicates" not in summary(metrics_of([1, 0], [False, False]))
    assert "nothing: all 2 pictures were trained on" in summary(metrics_of([1, 0], [True, True]))


def test_the_report_tells_both(tmp_path):
    metrics = metrics_of([1, 1, 0, 0], [True, False, False, False])
    tmp_path.joinpath("metrics.json").write_text(json.dumps(metrics))
    page = " ".join(write_report(tmp_path).read_text(encoding="utf-8").split())
    assert (
        "33.33 % (6.1 % – 79.2 %) without 1 pictures that are in the training set too"
        in page.replace("\u202f", " ")
    )
    tmp_path.joinpath("metrics.json").write_text(json.dumps(metrics_of([1, 0], None)))
    assert "in the training set too" not in write_report(tmp_path).read_text(encoding="utf-8")
