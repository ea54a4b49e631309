"""Exports in other runtimes: OpenVINO, MNN, MediaPipe and old versions of TFLite.

    pip install "kerasfer[test-deploy]"
    python3.9 -m venv old && old/bin/pip install tflite-runtime==2.7.0 "numpy<2"
    KERASFER_TFLITE_PYTHON=old/bin/python pytest -m deploy tests/export/test_other_runtimes.py

tflite-runtime has no release for the Python versions of kerasfer, so another Python runs it.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from exported_models import NAMES, make_covariance_model, make_model, metadata, pictures

from kerasfer.export.onnx_file import write_onnx
from kerasfer.export.rebuild import rebuild
from kerasfer.export.tflite_file import write_tflite

pytestmark = pytest.mark.deploy

IN_OLD_PYTHON = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
folder, path = sys.argv[1:]
interpreter = Interpreter(path)
interpreter.allocate_tensors()
source, = interpreter.get_input_details()
target, = interpreter.get_output_details()
answers = []
for picture in np.load(folder + "/pictures.npy"):
    interpreter.set_tensor(source["index"], picture[None].astype(source["dtype"]))
    interpreter.invoke()
    answers.append(interpreter.get_tensor(target["index"]))
np.save(folder + "/answers.npy", np.concatenate(answers))
"""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make_covariance_model()


@pytest.fixture
def old_tflite(tmp_path):
    """Returns a function that predicts pictures with a file in the old TFLite."""
    python = os.environ.get("KERASFER_TFLITE_PYTHON")
    if not python:
        pytest.skip("KERASFER_TFLITE_PYTHON names no Python with tflite-runtime.")

    def predict(path, images):
        np.save(tmp_path / "pictures.npy", images)
        arguments = [python, "-c", IN_OLD_PYTHON, str(tmp_path), str(path)]
        done = subprocess.run(arguments, capture_output=True, text=True, env={})
        assert done.returncode == 0, done.stderr
        return np.load(tmp_path / "answers.npy")

    return predict


@pytest.mark.parametrize(
    "quantize, input_dtype",
    [
        ("none", "float32"),
        ("float16", "float32"),
        ("dynamic", "float32"),
        ("int8", "float32"),
        ("int8", "uint8"),
    ],
)
def test_tflite_runtime(tmp_path, old_tflite, model, quantize, input_dtype):
    images = pictures(40)
    path = tmp_path / "faces.tflite"
    write_tflite(model, path, metadata(quantize), quantize, images, input_dtype)
    limit = {"none": 1e-4, "float16": 0.01}.get(quantize, 0.1)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(old_tflite(path, images), expected, atol=limit)


def test_spd_attention_in_tflite_runtime(tmp_path, old_tflite):
    spd_attention = rebuild(make_model(), "matmul")
    images = pictures(10)
    path = tmp_path / "faces.tflite"
    write_tflite(spd_attention, path, metadata())
    expected = spd_attention.predict(images, verbose=0)
    np.testing.assert_allclose(old_tflite(path, images), expected, atol=1e-3)


@pytest.mark.parametrize(
    "quantize, input_dtype", [("none", "float32"), ("int8", "float32"), ("none", "uint8")]
)
def test_mediapipe_loads_the_unchanged_file(tmp_path, model, quantize, input_dtype):
    mediapipe = pytest.importorskip("mediapipe")
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    images = pictures(20)
    path = tmp_path / "faces.tflite"
    write_tflite(model, path, metadata(quantize), quantize, images, input_dtype)
    base = mediapipe.tasks.BaseOptions(model_asset_path=str(path))
    options = vision.ImageClassifierOptions(base_options=base)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for picture, expected in zip(images, model.predict(images, verbose=0), strict=True):
            image = mediapipe.Image(
                image_format=mediapipe.ImageFormat.SRGB, data=picture.astype("uint8")
            )
            (found,) = classifier.classify(image).classifications
            scores = {each.category_name: each.score for each in found.categories}
            answers = [scores[name] for name in NAMES]
            np.testing.assert_allclose(answers, expected, atol=1e-4 if quantize == "none" else 0.1)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_mnn(tmp_path, layout):
    mnn = pytest.importorskip("MNN")
    spd_attention = rebuild(make_model(), "matmul")
    write_onnx(spd_attention, tmp_path / "faces.onnx", metadata() | {"input_layout": layout})
    convert = [sys.executable, "-m", "MNN.tools.mnnconvert", "-f", "ONNX", "--bizCode", "kerasfer"]
    files = ["--modelFile", "faces.onnx", "--MNNModel", "faces.mnn"]
    done = subprocess.run([*convert, *files], cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "faces.mnn").exists(), done.stdout + done.stderr
    settings = {"backend": "CPU", "precision": "high", "numThread": 1}
    manager = mnn.nn.create_runtime_manager((settings,))
    path, names = str(tmp_path / "faces.mnn"), (["pictures"], ["probabilities"])
    module = mnn.nn.load_module_from_file(path, *names, runtime_manager=manager)
    images = pictures(10)
    for image, expected in zip(images, spd_attention.predict(images, verbose=0), strict=True):
        given = image[None].transpose(0, 3, 1, 2) if layout == "nchw" else image[None]
        # MNN calls the order of the axes NCHW if it must not change it.
        source = mnn.expr.placeholder(list(given.shape), mnn.expr.NCHW)
        source.write(np.ascontiguousarray(given))
        (answers,) = module.forward([source])
        np.testing.assert_allclose(np.ravel(answers.read()), expected, atol=1e-3)


def test_openvino_in_float32(tmp_path, model):
    openvino = pytest.importorskip("openvino")
    images = pictures(20)
    path = tmp_path / "faces.onnx"
    write_onnx(model, path, metadata())
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-4)
    assert compiled.input(0).get_partial_shape()[0].is_dynamic
