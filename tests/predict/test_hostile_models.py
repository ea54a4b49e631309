"""Small files that describe huge models are refused with one line, before memory is claimed."""

import json
import zipfile

import keras
import numpy as np
import onnx
import pytest
import tiny_models
from exported_models import metadata
from keras import layers

from kerasfer.errors import RunError
from kerasfer.layers import ClassProbabilities
from kerasfer.predict.runtimes import METADATA, load_runtime

NAMES = ("happy", "sad")


def refusal(path):
    with pytest.raises(RunError) as caught:
        load_runtime(path)(np.zeros((1, 16, 16, 3), "float32"))
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 600
    return message


# Keras


@pytest.fixture
def save(tmp_path):
    def save(model):
        model.save(tmp_path / "faces.keras")
        return tmp_path / "faces.keras"

    return save


@pytest.fixture
def tiny(save):
    return save(tiny_models.tiny(NAMES, 16))


def change_config(path, change):
    """Rewrites the configuration in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["config.json"] = change(entries["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("number", [10**6, 10**12])
def test_layers_with_more_weights_than_the_file(tiny, number):
    changed = change_config(
        tiny, lambda text: text.replace('"filters": 8', f'"filters": {number}', 1)
    )
    assert "describes more weights than it contains" in refusal(changed)


def test_many_layers_with_more_weights_than_the_file_in_sum(save):
    """Each layer alone would fit."""
    inputs = x = keras.Input((16, 16, 3))
    for number in range(40):
        x = layers.Conv2D(2, 1, name=f"conv_{number}")(x)
    x = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x))
    path = save(keras.Model(inputs, ClassProbabilities(NAMES)(x)))

    def widen(text):
        return text.replace('"filters": 2', '"filters": 250').replace("16, 2]", "16, 250]")

    change_config(path, widen)
    assert "describes more weights than it contains" in refusal(path)


def test_a_file_that_unpacks_to_many_times_its_size(tiny):
    with zipfile.ZipFile(tiny, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    assert "unpacks to 50 MB, many times its size" in refusal(tiny)


def test_a_layer_with_huge_outputs(save):
    inputs = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(50_000, name="huge")(inputs)
    x = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x))
    inner = keras.Model(inputs, x)
    path = save(keras.Model(inputs, ClassProbabilities(NAMES)(inner(inputs))))
    assert "its layer 'huge' has outputs of the shape (None, 100016, 100016, 3)" in refusal(path)


def test_models_without_a_square_input(save):
    assert "does not store its class names" in refusal(save(keras.Sequential()))
    assert "has no input" in refusal(save(keras.Sequential([ClassProbabilities(NAMES)])))
    for shape in ((16, 24, 3), (None, None, 3), (16, 16, 1), (4, 4, 3), (16, 16), (5000, 5000, 3)):
        inputs = keras.Input(shape)
        pool = layers.GlobalAveragePooling2D() if len(shape) == 3 else layers.Flatten()
        x = pool(inputs)
        model = keras.Model(inputs, ClassProbabilities(NAMES)(layers.Dense(2)(x)))
        message = refusal(save(model))
        assert "must be square RGB pictures of a fixed size from 8 to 4096 pixels" in message
        assert str((None, *shape)) in message


def test_weights_that_are_not_numbers(save):
    model = tiny_models.tiny(NAMES, 16)
    model.get_layer("logits").kernel.assign(np.full((8, 2), np.nan))
    assert "returns values that are not probabilities, such as NaN" in refusal(save(model))


def test_the_limit_does_not_outlast_the_loading(tiny):
    method = keras.layers.Layer.add_weight
    load_runtime(tiny)
    change_config(tiny, lambda text: text.replace('"filters": 8', '"filters": 1000000', 1))
    refusal(tiny)
    assert keras.layers.Layer.add_weight is method


@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_an_unknown_compression_method(tiny, suffix):
    path = tiny.with_suffix(suffix)
    content = tiny.read_bytes()
    if suffix == ".tflite":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(METADATA, json.dumps(metadata()))
        content = path.read_bytes()
    central = content.rindex(b"PK\1\2")
    path.write_bytes(content[: central + 10] + b"\x63" + content[central + 11 :])
    with zipfile.ZipFile(path) as archive:
        assert 0x63 in [entry.compress_type for entry in archive.infolist()]
    refusal(path)


# ONNX


def write_onnx_file(path, nodes, constants=()):
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("pictures", 1, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("probabilities", 1, None)],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA: json.dumps(metadata())})
    path.write_bytes(model.SerializeToString())
    return path


def describe_constant(dims, values=(1.0,)):
    constant = onnx.TensorProto(name="weights", data_type=onnx.TensorProto.FLOAT, dims=dims)
    constant.raw_data = np.array(values, "float32").tobytes()
    return constant


@pytest.mark.parametrize("dims", [(10**12,), (2**40, 2**40), (-1, 4)])
def test_a_constant_that_is_larger_than_its_content(tmp_path, dims):
    add = onnx.helper.make_node("Add", ["pictures", "weights"], ["probabilities"])
    path = write_onnx_file(tmp_path / "faces.onnx", [add], [describe_constant(dims)])
    assert f"its constant 'weights' has the shape {dims}" in refusal(path)
    # Within a node.
    node = onnx.helper.make_node("Constant", [], ["weights"], value=describe_constant(dims))
    path = write_onnx_file(tmp_path / "faces.onnx", [node, add])
    assert f"its constant 'weights' has the shape {dims}" in refusal(path)


def test_a_constant_in_another_file(tmp_path):
    constant = onnx.TensorProto(name="weights", data_type=1, dims=[4], data_location=1)
    constant.external_data.add(key="location", value="../secret.txt")
    add = onnx.helper.make_node("Add", ["pictures", "weights"], ["probabilities"])
    path = write_onnx_file(tmp_path / "faces.onnx", [add], [constant])
    assert "its constant 'weights' is stored in another file" in refusal(path)


@pytest.mark.parametrize("operation", ["ConstantOfShape", "Expand"])
def test_a_node_that_makes_a_huge_tensor(tmp_path, operation):
    shape = onnx.helper.make_tensor("shape", 7, [3], [40_000, 40_000, 100])
    one = onnx.helper.make_tensor("one", 1, [1], [1.0])
    inputs = ["shape"] if operation == "ConstantOfShape" else ["one", "shape"]
    nodes = [
        onnx.helper.make_node(operation, inputs, ["huge"]),
        onnx.helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        onnx.helper.make_node("Add", ["pictures", "sum"], ["probabilities"]),
    ]
    path = write_onnx_file(tmp_path / "faces.onnx", nodes, [shape, one])
    assert "its tensor 'huge' has the shape (40000, 40000, 100)" in refusal(path)


# TFLite


def test_a_tflite_file_with_a_huge_tensor(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Exports are made with TensorFlow.")
    from tensorflow.lite.tools import flatbuffer_utils

    from kerasfer.export.rebuild import rebuild
    from kerasfer.export.tflite_file import write_tflite

    path = tmp_path / "faces.tflite"
    write_tflite(
        rebuild(tiny_models.tiny(metadata()["class_names"], 16), "matmul"), path, metadata()
    )
    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.operators[0].outputs[0]]
    tensor.shape = np.array([1, 60_000, 60_000, 4], "int32")
    flatbuffer_utils.write_model(model, str(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata()))
    assert "has the shape (1, 60000, 60000, 4)" in refusal(path)
