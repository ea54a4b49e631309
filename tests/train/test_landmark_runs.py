"""A model that cuts its crops around landmarks, from its recipe to its evaluation."""

import json

import numpy as np
import pytest
import tiny_models

from kerasfer.data import load_dataset
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate import evaluate
from kerasfer.models import MODELS, spd_attention
from kerasfer.models.loading import load_model
from kerasfer.recipe import load_recipe
from kerasfer.train import train

RECIPE = """
data: {name: synthetic, num_samples: 70, image_size: 16, batch_size: 16, augment: {flip: true}}
model: {name: tiny_marks, crop_mode: landmarks, crops: 2}
train: {epochs: 1, verbose: 0, tensorboard: false}
"""


def tiny_marks(class_names, image_size, crop_mode="landmarks", crops=2):
    backbone = tiny_models.tiny_backbone(image_size)
    return spd_attention(
        class_names, image_size, backbone, crops=crops, crop_mode=crop_mode, crop_area=0.3
    )


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny_marks", tiny_marks)
    rng = np.random.default_rng(0)
    ids = load_dataset("synthetic", num_samples=70).ids
    lines = [f"{name},{','.join(map(str, rng.uniform(4, 40, 4).round(1)))}" for name in ids[5:]]
    (tmp_path / "landmarks.csv").write_text("\n".join(["picture,x0,y0,x1,y1", *lines]))
    path = tmp_path / "marks.yaml"
    path.write_text(RECIPE)

    def load(*settings):
        return load_recipe(path, ["data.landmarks=landmarks.csv", *settings])

    return load


def test_train_and_evaluate(recipe, tmp_path, capsys):
    metrics = train(recipe("train.verbose=2"), data_dir=tmp_path, output_dir=tmp_path / "runs")
    assert "Landmarks are known for 65 of 70 pictures." in capsys.readouterr().out
    run = tmp_path / "runs" / "marks"
    assert json.loads((run / "metrics.json").read_text())["accuracy"] == metrics["accuracy"]
    again = evaluate(run, data_dir=tmp_path)
    assert again["accuracy"] == metrics["accuracy"]
    flipped = evaluate(run, data_dir=tmp_path, tta="flip")
    assert flipped["num_samples"] == metrics["num_samples"]
    model = load_model(run / "model.keras", landmarks=True)
    assert model.input["pictures"].shape == (None, 16, 16, 3)
    assert model.input["landmarks"].shape == (None, 2, 2)
    with pytest.raises(
        RunError, match="landmarks, which is supported only .*crop_mode random or fixed"
    ):
        load_model(run / "model.keras")
    (tmp_path / "landmarks.csv").unlink()
    with pytest.raises(DataError, match="landmarks were not found"):
        evaluate(run, data_dir=tmp_path)


def test_the_number_of_points_must_be_the_number_of_crops(recipe, tmp_path):
    with pytest.raises(DataError, match=r"expects 5 landmarks .*\(model.crops\)\. Received: 2"):
        train(recipe("model.crops=5"), data_dir=tmp_path, output_dir=tmp_path / "runs")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model.crop_mode=fixed"],
            "`data.landmarks` has no effect unless",
        ),
        (["data.landmarks=null"], "`model.crop_mode: landmarks` needs `data.landmarks`"),
        (
            ["distill.teacher=runs/x"],
            "`distill` is not supported with `model.crop_mode",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_errors(settings, message, recipe):
    with pytest.raises(RecipeError, match=message):
        recipe(*settings)
