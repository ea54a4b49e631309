"""The pictures that an export is compared on, with and without the dataset of the run."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from exported_models import NAMES, SIZE, make_model, make_run, pictures
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.pictures import resize
from kerasfer.errors import DataError, RunError
from kerasfer.export import export_run, exporting
from kerasfer.export.convert import convert as convert_here
from kerasfer.export.job import Job
from kerasfer.export.pictures import DRAWN_NOTE, balanced, gather


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make_model("tiny")


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """A run whose dataset is missing."""
    return make_run(tmp_path_factory.mktemp("runs") / "faces", model, data={"name": "fer2013"})


@pytest.fixture
def crops(tmp_path):
    """Twelve drawn faces as files, in one folder per class."""
    samples = load_dataset("synthetic", num_samples=14, size=40)
    folder = tmp_path / "crops"
    for index in range(12):
        path = folder / NAMES[samples.targets[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.picture(index)).save(path)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def in_process(monkeypatch):
    """Converts in this process, and predicts with the model instead of a runtime."""

    def convert(job, work):
        job.save(work)
        convert_here(work)
        return json.loads((work / "converted.json").read_text())

    def measure(format, exported, work):
        shutil.copy(work / "reference.npy", work / "probabilities.npy")
        return {"load_ms": 1.0, "memory_bytes": None, "latency": {}, "versions": {}}

    monkeypatch.setattr(exporting, "convert", convert)
    monkeypatch.setattr(exporting, "measure", measure)


def job(**options):
    return Job("tflite", model="", name="faces", **{"quantize": "none", **options})


def test_a_folder_with_class_folders(model, crops):
    gathered = gather(job(pictures=str(crops)), model, list(NAMES))
    assert gathered.described == str(crops) and gathered.note is None
    paths = sorted(crops.glob("*/*.png"))
    expected = [resize(np.asarray(Image.open(path)), SIZE) for path in paths]
    np.testing.assert_array_equal(gathered.pictures, np.stack(expected).astype("float32"))
    assert [NAMES[target] for target in gathered.targets] == [path.parent.name for path in paths]


def test_int8_compares_other_pictures_than_those_that_set_the_ranges(model, crops):
    every = gather(job(pictures=str(crops)), model, list(NAMES))
    gathered = gather(job(pictures=str(crops), quantize="int8"), model, list(NAMES))
    np.testing.assert_array_equal(gathered.pictures, every.pictures[::2])
    np.testing.assert_array_equal(gathered.representative, every.pictures[1::2])
    np.testing.assert_array_equal(gathered.targets, every.targets[::2])


def test_the_classes_of_other_folders_are_unknown(model, crops):
    (crops / NAMES[0]).rename(crops / "cheerful")
    assert gather(job(pictures=str(crops)), model, list(NAMES)).targets is None


def test_large_folders_are_sampled_evenly(model, crops, monkeypatch):
    monkeypatch.setattr("kerasfer.export.pictures.NUM_PICTURES", 3)
    monkeypatch.setattr("kerasfer.export.pictures.NUM_REPRESENTATIVE", 1)
    gathered = gather(job(pictures=str(crops)), model, list(NAMES))
    paths = sorted(crops.glob("*/*.png"))
    kept = [paths[place].parent.name for place in (0, 3, 7, 11)]
    assert [NAMES[target] for target in gathered.targets] == kept


def test_without_the_dataset_faces_are_drawn_with_a_note(
    run, tmp_path, in_process, monkeypatch, capsys
):
    monkeypatch.setenv("KERASFER_DATA", str(tmp_path / "data"))
    report = export_run(run, "onnx", output_dir=tmp_path)
    assert report["pictures"] == "drawn faces, since the dataset of the run is missing"
    assert report["num_pictures"] == 140 and "accuracy" not in report
    assert report["note"].startswith("FER2013 was not found") and DRAWN_NOTE in report["note"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FER2013" in line]
    assert line == f"note          {report['note']}"


def test_drawn_faces_set_ranges_only_on_request(run, model, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFER_DATA", str(tmp_path))
    with pytest.raises(DataError, match="FER2013 was not found.*int8 needs.*--pictures"):
        gather(job(run=str(run), quantize="int8"), model, list(NAMES))
    gathered = gather(job(run=str(run), quantize="int8", pictures="drawn"), model, list(NAMES))
    assert (gathered.described, gathered.note) == ("drawn faces", DRAWN_NOTE)
    assert gathered.pictures.shape == (140, SIZE, SIZE, 3)
    trained = pictures(140)
    assert not (gathered.pictures[:, None] == trained[None]).all(axis=(2, 3, 4)).any()


def test_any_keras_file(model, tmp_path, crops, in_process):
    model.save(tmp_path / "lonely.keras")
    report = export_run(
        tmp_path / "lonely.keras", "onnx", output_dir=tmp_path / "out", pictures=crops
    )
    assert Path(report["path"]) == tmp_path / "out" / "lonely" / "lonely.onnx"
    assert report["pictures"] == str(crops) and report["note"] is None
    gathered = gather(job(pictures=str(crops)), model, list(NAMES))
    answers = model.predict(gathered.pictures, verbose=0).argmax(axis=1)
    expected = np.mean(answers == gathered.targets)
    assert report["accuracy"]["model"] == pytest.approx(expected)


def test_a_pretrained_model_by_name(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(exporting, "_export", lambda job, *others: jobs.append(job))
    export_run("ferplus_lite0", "onnx", output_dir=tmp_path, pictures="drawn")
    (asked,) = jobs
    assert Path(asked.model).name == "ferplus_lite0.keras" and asked.name == "ferplus_lite0"


def test_bad_folders(run, model, tmp_path):
    with pytest.raises(DataError, match="Expected a folder of pictures, or 'drawn'. Received: no"):
        export_run(run, "onnx", pictures="nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Expected pictures in the folder .*empty. Received: none"):
        gather(job(pictures=str(tmp_path / "empty")), model, list(NAMES))
    (tmp_path / "empty" / "a.png").write_text("text")
    with pytest.raises(DataError, match=r"a.png cannot be read.*Replace or remove the file\."):
        gather(job(pictures=str(tmp_path / "empty")), model, list(NAMES))


def test_a_model_of_other_inputs_is_refused(tmp_path, in_process):
    inputs = keras.Input((6,))
    other = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    other.save(tmp_path / "waves.keras")
    with pytest.raises(RunError, match=r"square RGB pictures. Received: \(None, 6\)"):
        export_run(tmp_path / "waves.keras", "onnx", output_dir=tmp_path, pictures="drawn")


def test_representative_pictures_are_balanced():
    samples = load_dataset("synthetic", num_samples=350)
    first = np.flatnonzero(samples.targets == 0)
    rare = [np.flatnonzero(samples.targets == target)[:5] for target in (1, 2)]
    uneven = samples.take(np.concatenate([first, *rare]))
    kept = balanced(uneven, 21)
    assert np.bincount(kept.targets).tolist() == [11, 5, 5]
    assert len(balanced(uneven, 1000)) == len(uneven)
