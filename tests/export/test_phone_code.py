"""The phone code in saved_models/deploy/web/README.md, against a real `.tflite` file."""

import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from exported_models import NAMES, SIZE, make_model, metadata, pictures

from kerasfer.export.tflite_file import write_tflite

README = Path(__file__).parents[2] / "saved_models" / "deploy" / "web" / "README.md"
LANGUAGES = ("kotlin", "swift")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A `.tflite` file, and its original model."""
    keras.utils.set_random_seed(0)
    model = make_model("tiny")
    path = tmp_path_factory.mktemp("phone") / "faces.tflite"
    write_tflite(model, path, metadata())
    return path, model


@pytest.fixture(params=LANGUAGES)
def code(request):
    return re.search(rf"```{request.param}\n(.*?)```", README.read_text(), re.DOTALL)[1]


def interpret(path, picture):
    """Runs the file as the code does: by position, with a batch of one."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], picture[None])
    interpreter.invoke()
    return given, interpreter.get_tensor(answer["index"])[0]


def test_the_code_reads_the_size_and_the_labels_of_the_file(code, exported):
    path, _ = exported
    given, probabilities = interpret(path, pictures(1)[0])
    axis, comment = re.search(r"\.(?:shape\(\)|dimensions)\[(\d)\]  // \((.*)\)\n", code).groups()
    assert given["shape"][int(axis)] == SIZE
    assert comment.replace("size", str(SIZE)) == ", ".join(map(str, given["shape"]))
    assert given["dtype"] == np.float32
    labels = zipfile.ZipFile(path).read("labels.txt").decode().splitlines()
    assert labels == list(NAMES) and len(labels) == len(probabilities)


def test_the_range_and_the_order_of_colors_are_those_of_the_model(code, exported):
    path, model = exported
    assert "RGB, from 0 to 255" in code
    assert not re.search(r"/\s*(255|127|128)", code)
    picture = pictures(3)[2]
    expected = model.predict(picture[None], verbose=0)[0]
    np.testing.assert_allclose(interpret(path, picture)[1], expected, atol=1e-5)
    for wrong in (picture / 255, picture / 127.5 - 1, picture[..., ::-1]):
        answer = interpret(path, np.ascontiguousarray(wrong, dtype="float32"))[1]
        assert abs(answer - expected).max() > 1e-3


def test_kotlin_writes_the_colors_in_order():
    kotlin = re.search(r"```kotlin\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert re.findall(r"putFloat\(Color\.(\w+)", kotlin) == ["red", "green", "blue"]


def test_the_labels_are_read_from_the_archive(exported):
    kotlin = re.search(r"```kotlin\n(.*?)```", README.read_text(), re.DOTALL)[1]
    (entry,) = re.findall(r'getEntry\("(.*?)"\)', kotlin)
    (extracted,) = re.findall(r"`unzip model\.tflite (.*?)`", README.read_text())
    assert {entry, extracted} <= set(zipfile.ZipFile(exported[0]).namelist())
