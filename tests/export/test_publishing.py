"""Publishing a run as a pretrained model."""

import json

import keras
import numpy as np
import pytest

from kerasfer.errors import RunError
from kerasfer.export import publishing
from kerasfer.models.loading import load_model
from kerasfer.recipe import load_recipe
from kerasfer.train import train

RECIPE = """
data:
  name: synthetic
  num_samples: 70
  image_size: 32
  batch_size: 16
  augment: {flip: true, blur: 0.02}
model: {name: classifier, backbone: efficientnet_lite0_cut}
train: {epochs: 1, tensorboard: false, verbose: 0}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("small.yaml").write_text(RECIPE)
    # The other formats are tested in tests/export/test_export.py.
    monkeypatch.setattr(publishing, "EXPORTS", (("tflite", "none"),))
    return tmp_path


def test_a_published_model_equals_the_run_and_is_described(place):
    train(load_recipe("small.yaml"))
    facts = publishing.publish("runs/small", "tiny", output_dir=place / "out")
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "tiny.json",
        "tiny.keras",
        "tiny.md",
    ]
    assert facts == json.loads((place / "out/tiny.json").read_text())
    run, model = load_model("runs/small/model.keras"), load_model(place / "out/tiny.keras")
    gray = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1)).astype("float32")
    ours, theirs = (
        keras.ops.convert_to_numpy(each(np.repeat(gray, 3, axis=-1), training=False))
        for each in (model, run)
    )
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    assert facts["num_parameters"] == run.count_params() + 9
    assert set(facts["corruptions"]) == {"blurred", "occluded", "turned"}
    assert facts["epochs"] == 1
    card = (place / "out/tiny.md").read_text()
    test = json.loads((place / "runs/small/metrics.json").read_text())
    assert facts["test"]["num_samples"] == test["num_samples"]
    assert f"| all | {test['num_samples']} | {100 * facts['test']['accuracy']:.2f} %" in card
    (report,) = facts["exports"]
    assert "path" not in report
    # No picture of the test split is in the training split.
    assert report["test_without_duplicates"]["num_samples"] == test["num_samples"]
    assert report["test_without_duplicates"]["accuracy"] == facts["test"]["accuracy"]
    assert "| tflite | " in card
    assert f" | 100.00 % | {report['latency_ms']['1']['p50']:.2f} ms | " in card
    assert "| initial weights | random |" in card
    assert "| augmentation | flip, blur 0.02 |" in card
    assert "| distilled from | – |" in card


def test_other_models_are_refused(place):
    train(load_recipe("small.yaml", ["model={name: efficientnet_lite0_cut, backbone: null}"]))
    with pytest.raises(RunError, match="Only runs of the model classifier .* a run of eff"):
        publishing.publish("runs/small", "tiny", output_dir=place / "out")
