import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from exported_models import NAMES, SIZE, make_model, make_run, metadata, pictures

from kerasfer.errors import RunError
from kerasfer.export.onnx_file import write_onnx
from kerasfer.export.rebuild import rebuild
from kerasfer.export.saved_model import write_saved_model
from kerasfer.export.tflite_file import write_tflite
from kerasfer.predict.runtimes import load_runtime, versions

PICTURES = pictures(5)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """The same model in all formats, by kind."""
    keras.utils.set_random_seed(0)
    model = make_model("tiny")
    folder = tmp_path_factory.mktemp("exports")
    run = make_run(folder / "run", model)
    ready = rebuild(model, "matmul")
    write_saved_model(model, folder / "faces" / "2", metadata())
    write_tflite(ready, folder / "faces.tflite", metadata())
    write_onnx(ready, folder / "faces.onnx", metadata())
    return {
        "keras": run,
        "onnx": folder / "faces.onnx",
        "saved_model": folder / "faces" / "2",
        "tflite": folder / "faces.tflite",
        "expected": model.predict(PICTURES, verbose=0),
    }


@pytest.mark.parametrize("kind", ["keras", "onnx", "saved_model", "tflite"])
def test_all_formats_predict_the_same(exports, kind):
    runtime = load_runtime(exports[kind], threads=1)
    assert (runtime.kind, runtime.class_names, runtime.image_size) == (kind, NAMES, SIZE)
    assert (runtime.model is None) == (kind != "keras")
    probabilities = runtime(PICTURES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, exports["expected"], atol=1e-5)
    np.testing.assert_allclose(runtime(PICTURES[:1]), exports["expected"][:1], atol=1e-5)
    assert runtime(PICTURES[:0]).shape == (0, 7)
    with pytest.raises(ValueError, match=r"the shape \(n, 16, 16, 3\).*\(5, 16, 3\)"):
        runtime(PICTURES[:, 0])


@pytest.mark.parametrize("kind", ["keras", "onnx", "saved_model", "tflite"])
def test_concurrent_calls_are_independent(exports, kind):
    runtime = load_runtime(exports[kind])
    chosen = [index % 5 for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda index: runtime(PICTURES[[index]])[0], chosen))
    np.testing.assert_allclose(results, exports["expected"][chosen], atol=1e-5)


def test_the_highest_version_is_loaded(exports, tmp_path):
    for version in ("2", "10"):
        shutil.copytree(exports["saved_model"], tmp_path / "faces" / version)
    for other in ("deploy", "11.old", "007", ".export-1"):
        (tmp_path / "faces" / other).mkdir()
    (tmp_path / "faces" / "99").touch()
    assert versions(tmp_path / "faces") == [2, 10]
    assert load_runtime(tmp_path / "faces").path.name == "10"


def test_a_keras_file(exports):
    runtime = load_runtime(exports["keras"] / "model.keras")
    assert (runtime.kind, runtime.path.name) == ("keras", "model.keras")


def test_other_files_are_refused(exports, tmp_path):
    with pytest.raises(RunError, match="Received: .*nothing, which does not exist"):
        load_runtime(tmp_path / "nothing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        RunError, match=r"Expected a .keras, .tflite or .onnx file. Received: .*txt"
    ):
        load_runtime(tmp_path / "notes.txt")
    with pytest.raises(RunError, match="lacks recipe.yaml"):
        load_runtime(tmp_path)
    for name in ("broken.tflite", "broken.onnx"):
        (tmp_path / name).write_bytes(b"no model at all")
        with pytest.raises(RunError, match=name):
            load_runtime(tmp_path / name)
    (tmp_path / "saved").mkdir()
    shutil.copytree(exports["saved_model"] / "assets.extra", tmp_path / "saved" / "assets.extra")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08")
    with pytest.raises(RunError, match="saved cannot be loaded"):
        load_runtime(tmp_path / "saved")


def test_an_export_of_another_program_is_refused(exports, tmp_path):
    content = exports["tflite"].read_bytes()
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(content[: content.index(b"PK\x03\x04")])
    with pytest.raises(RunError, match="foreign.tflite does not contain valid class names"):
        load_runtime(foreign)
    shutil.copytree(exports["saved_model"], tmp_path / "foreign")
    (tmp_path / "foreign" / "assets.extra" / "kerasfer.json").unlink()
    with pytest.raises(RunError, match="foreign does not contain valid class names"):
        load_runtime(tmp_path / "foreign")


def test_a_model_with_another_input_is_refused(exports, tmp_path):
    shutil.copytree(exports["saved_model"], tmp_path / "waves")
    metadata = {"class_names": ["rest", "move"], "image_size": None}
    file = tmp_path / "waves" / "assets.extra" / "kerasfer.json"
    file.write_text(json.dumps(metadata))
    with pytest.raises(RunError, match="waves cannot classify pictures"):
        load_runtime(tmp_path / "waves")


@pytest.mark.parametrize(
    "kind, module, package",
    [
        ("tflite", "ai_edge_litert.interpreter", "ai-edge-litert"),
        ("onnx", "onnxruntime", "onnxruntime"),
    ],
)
def test_a_missing_runtime_names_the_extra(exports, monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RunError, match=rf'requires {package}, .*pip install "kerasfer\[export\]"'):
        load_runtime(exports[kind])


def test_exports_contain_their_class_names(exports):
    import zipfile

    import onnx

    with zipfile.ZipFile(exports["tflite"]) as archive:
        assert archive.read("labels.txt").decode().split() == list(NAMES)
    properties = {p.key: p.value for p in onnx.load(exports["onnx"]).metadata_props}
    assert json.loads(properties["class_names"]) == list(NAMES)
