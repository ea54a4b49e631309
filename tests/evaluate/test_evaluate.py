import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_models

from kerasfer.data import DATASETS, load_dataset
from kerasfer.data.batches import Batches
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate import evaluate
from kerasfer.evaluate.scoring import predict_probabilities
from kerasfer.models.loading import load_model
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe

RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "data": {"name": "synthetic", "num_samples": 70, "image_size": 16},
        "model": {"name": "covpool"},
    }
)


@pytest.fixture
def run(tmp_path, seed):
    """A run's folder while it trains: its recipe and the best model so far."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    folder.joinpath("recipe.yaml").write_text(dump(RECIPE))
    class_names = load_dataset("synthetic", num_samples=7).class_names
    tiny_models.tiny(class_names, 16).save(folder / "model.keras")
    return folder


def dataset(class_names, protocol="official", splits=None):
    """Four pictures as another dataset."""
    pictures = np.random.default_rng(0).integers(0, 255, (4, 20, 20, 3), dtype=np.uint8)
    labels = one_hot([0, 1, 0, 1], len(class_names))
    ids = [f"{number}.png" for number in range(4)]
    splits = None if splits is None else np.array(splits)
    return Samples(
        "other", class_names, pictures, labels, ids, splits, np.array(ids), protocol=protocol
    )


def test_a_run(run):
    metrics = evaluate(run)
    assert (metrics["dataset"], metrics["split"], metrics["num_samples"]) == (
        "synthetic",
        "test",
        14,
    )
    kept = json.loads((run / "evaluation_synthetic_test_none.json").read_text())
    assert kept == metrics


def test_other_splits_and_views(run):
    assert evaluate(run, split="validation")["num_samples"] == 7
    assert evaluate(run, split="train", tta="flip")["num_samples"] == 49
    assert (run / "evaluation_synthetic_train_flip.json").exists()
    with pytest.raises(ValueError, match="Received: 'all'"):
        evaluate(run, split="all")


def test_the_model_in_a_run_knows_its_run(run):
    assert evaluate(run / "model.keras") == evaluate(run)


def test_a_model_alone(run, tmp_path, monkeypatch):
    samples = load_dataset("synthetic", num_samples=70)
    monkeypatch.setitem(DATASETS, "synthetic", lambda data_dir: samples)
    model = shutil.copy(run / "model.keras", tmp_path / "mine.keras")
    with pytest.raises(RecipeError, match="so its dataset is unknown. Add --dataset"):
        evaluate(model)
    metrics = evaluate(model, dataset="synthetic", tta="ten_crop")
    assert metrics["dataset"] == "synthetic"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.keras", "runs"]


def test_the_same_classes_in_another_order(run, monkeypatch):
    names = load_model(run / "model.keras").layers[-1].class_names
    mixed = tuple(reversed(names))
    splits = ["train", "validation", "test", "test"]
    for order in (names, mixed):
        monkeypatch.setitem(
            DATASETS, "other", lambda data_dir, order=order: dataset(order, splits=splits)
        )
        metrics = evaluate(run, dataset="other")
        assert metrics["class_names"] == list(names)
        assert metrics["num_samples"] == 2
        # The two pictures are of the dataset's first two classes.
        expected = set(order[:2])
        found = {name for name, scores in metrics["per_class"].items() if scores["support"]}
        assert found == expected


def test_other_classes(run, monkeypatch):
    splits = ["train", "validation", "test", "test"]
    monkeypatch.setitem(
        DATASETS, "other", lambda data_dir: dataset(("happy", "bored"), splits=splits)
    )
    with pytest.raises(
        DataError, match=r"The model has the classes .*, and other has the classes happy, bored\."
    ):
        evaluate(run, dataset="other")


def test_a_dataset_without_splits_is_evaluated_as_a_whole(run, monkeypatch, tmp_path):
    names = load_model(run / "model.keras").layers[-1].class_names
    monkeypatch.setitem(DATASETS, "other", lambda data_dir: dataset(names, "subjects"))
    metrics = evaluate(run, dataset="other")
    assert (metrics["num_samples"], metrics["split"], metrics["leaking"]) == (4, "whole", False)
    assert (run / "evaluation_other_whole_none.json").exists()
    alone = shutil.copy(run / "model.keras", tmp_path / "mine.keras")
    with pytest.raises(DataError, match="Evaluate the run folder instead of a model file"):
        evaluate(alone, dataset="other")


def test_an_unknown_dataset(run):
    with pytest.raises(RecipeError, match="Did you mean synthetic"):
        evaluate(run, dataset="syntetic")


def test_a_folder_of_folds(run):
    shutil.copytree(run, run / "fold_0")
    (run / "model.keras").unlink()
    with pytest.raises(RunError, match=r"in each of its folds \(fold_0\). Name one of them"):
        evaluate(run)


def test_no_run(run, tmp_path):
    with pytest.raises(RunError, match="lacks recipe.yaml"):
        evaluate(tmp_path)
    with pytest.raises(RunError, match="which does not exist"):
        evaluate(tmp_path / "nowhere.keras", dataset="synthetic")
    (run / "model.keras").unlink()
    with pytest.raises(RunError, match="has no model.keras yet"):
        evaluate(run)


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "text", "another model"])
def test_no_model_of_ours(run, damage):
    path = run / "model.keras"
    content = bytearray(path.read_bytes())
    if damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("hello")
    else:
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    message = "does not store its class names" if damage == "another model" else "cannot be loaded"
    with pytest.raises(RunError, match=message) as caught:
        evaluate(run)
    assert "\n" not in str(caught.value)


def test_probabilities_are_averaged_over_views(run):
    model = load_model(run / "model.keras")
    batches = Batches(load_dataset("synthetic", num_samples=10), 16, batch_size=4)
    plain = predict_probabilities(model, batches)
    assert plain.shape == (10, 7) and plain.dtype == np.float32
    images = np.concatenate([batches[index][0] for index in range(len(batches))])
    expected = (model.predict(images, verbose=0) + model.predict(images[:, :, ::-1], verbose=0)) / 2
    assert np.allclose(predict_probabilities(model, batches, "flip"), expected, atol=1e-5)


PREDICT = """
import sys
import numpy as np
from kerasfer.data import load_dataset
from kerasfer.data.batches import Batches
from kerasfer.evaluate.scoring import predict_probabilities
from kerasfer.models.loading import load_model
batches = Batches(load_dataset("synthetic", num_samples=10), 16, batch_size=4)
np.save(sys.argv[2], predict_probabilities(load_model(sys.argv[1]), batches))
"""


def test_another_backend_agrees(tmp_path, seed):
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    pytest.importorskip(other)
    model = tiny_models.tiny_spd(("happy", "sad"), 16)
    model.save(tmp_path / "model.keras")
    arguments = [sys.executable, "-c", PREDICT, tmp_path / "model.keras", tmp_path / "out.npy"]
    environment = {**os.environ, "KERAS_BACKEND": other}
    subprocess.run(arguments, check=True, env=environment, cwd=Path(__file__).parents[2])
    batches = Batches(load_dataset("synthetic", num_samples=10), 16, batch_size=4)
    ours = predict_probabilities(load_model(tmp_path / "model.keras"), batches)
    assert np.abs(np.load(tmp_path / "out.npy") - ours).max() < 1e-4
