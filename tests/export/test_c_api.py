"""SavedModels in a session of TensorFlow's C API, which loads them as TF Serving does."""

import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_models import NAMES, make_model, metadata, pictures
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from kerasfer.export.saved_model import write_saved_model

PICTURES = pictures(4)
LIBRARY = Path(tf.__file__).parent

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(
        not (LIBRARY / "libtensorflow_cc.so.2").exists(), reason="This TensorFlow has no C library."
    ),
]


@pytest.fixture(scope="module", params=["tiny", "tiny_spd"])
def served(request, tmp_path_factory):
    """The path of a SavedModel, and the probabilities of its model for PICTURES."""
    keras.utils.set_random_seed(0)
    model = make_model(request.param)
    path = tmp_path_factory.mktemp("served") / "1"
    write_saved_model(model, path, metadata())
    return path, model.predict(PICTURES, verbose=0)


@pytest.fixture
def ask(served, tmp_path):
    """Returns a function that writes the input, runs a signature and returns its outputs."""
    path, _ = served
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())

    def run(signature, write):
        described = saved.meta_graphs[0].signature_def[signature]
        (source,) = described.inputs.values()
        outputs = {name: tensor.name for name, tensor in described.outputs.items()}
        request = {"library": str(LIBRARY), "path": str(path)}
        request |= {"input": source.name, "outputs": outputs}
        (tmp_path / "request.json").write_text(json.dumps(request))
        write(tmp_path)
        command = [sys.executable, str(Path(__file__).with_name("c_api.py")), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return np.load(tmp_path / "outputs.npz")

    return run


def test_pictures(served, ask):
    outputs = ask("serving_default", lambda folder: np.save(folder / "pictures.npy", PICTURES))
    np.testing.assert_allclose(outputs["probabilities"], served[1], atol=1e-5)
    assert outputs["class_id"].tolist() == served[1].argmax(axis=1).tolist()
    names = [NAMES[index].encode() for index in served[1].argmax(axis=1)]
    assert outputs["class_name"].tolist() == names


def test_files(served, ask):
    def write(folder):
        encoded = [io.BytesIO() for _ in PICTURES]
        for file, picture in zip(encoded, PICTURES.astype("uint8"), strict=True):
            Image.fromarray(picture).save(file, "PNG")
        contents = [file.getvalue() for file in encoded]
        for index, content in enumerate([*contents[:2], b"\xff\xd8\xff broken", *contents[2:]]):
            (folder / f"{index:03}").write_bytes(content)

    outputs = ask("serving_bytes", write)
    good = [0, 1, 3, 4]
    assert outputs["valid"].tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(outputs["probabilities"][good], served[1], atol=1e-5)
    assert outputs["class_id"][2] == -1 and outputs["class_name"][2] == b""
