"""Requirements of phones on the graph of a TFLite file, for each quantization."""

import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from exported_models import NAMES, SIZE, metadata, pictures
from keras import Model, layers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from kerasfer.export.tflite_file import write_tflite
from kerasfer.export.tflite_graph import code_of
from kerasfer.export.tflite_metadata import describe_classifier
from kerasfer.layers import (
    BilinearPool,
    BiMap,
    ClassProbabilities,
    Covariance,
    LogEig,
    RegionCrops,
    SPDProject,
    Vech,
)
from kerasfer.predict.runtimes import load_runtime

OPERATIONS = schema.BuiltinOperator


def small(second_order):
    x = layers.Input((SIZE, SIZE, 3))
    maps = layers.Conv2D(6, 3, 2, activation="relu")(layers.Rescaling(1 / 255)(x))
    features = layers.Dense(16, "relu")(second_order(maps))
    return Model(x, ClassProbabilities(NAMES)(layers.Dense(7, name="logits")(features)))


def covariance(maps):
    spd = SPDProject(1e-2)(Covariance("channel", data_format="channels_last")(maps))
    return Vech()(LogEig(1e-4, method="matmul")(BiMap(4)(spd)))


BUILDERS = {"covariance": covariance, "bilinear": BilinearPool(data_format="channels_last")}


@pytest.fixture(scope="module", params=["covariance none", "covariance int8", "bilinear dynamic"])
def written(request, tmp_path_factory):
    """A file, its model and its quantization."""
    name, quantize = request.param.split()
    keras.utils.set_random_seed(0)
    model = small(BUILDERS[name])
    path = tmp_path_factory.mktemp("written") / f"{name}.tflite"
    write_tflite(model, path, metadata(quantize), quantize, pictures(40))
    return path, model, quantize


@pytest.fixture(scope="module")
def file(written):
    return flatbuffer_utils.read_model(str(written[0]))


def operators(file, *codes):
    (graph,) = file.subgraphs
    return [each for each in graph.operators if not codes or code_of(file, each) in codes]


def is_constant(file, index):
    buffer = file.buffers[file.subgraphs[0].tensors[index].buffer]
    return buffer.data is not None and len(buffer.data) > 0


def test_equal_arrays_are_stored_once_and_buffers_are_aligned(written):
    content = written[0].read_bytes()
    file = schema.Model.GetRootAs(content, 0)
    graph = file.Subgraphs(0)
    stored = {}
    for index in range(graph.TensorsLength()):
        table = graph.Tensors(index).Quantization()
        if table is not None and not table.ZeroPointIsNone():
            position = table._tab.Vector(table._tab.Offset(10))  # the field `zero_point`
            stored.setdefault(table.ZeroPointAsNumpy().tobytes(), set()).add(position)
    assert all(len(positions) == 1 for positions in stored.values())
    buffers = [file.Buffers(index) for index in range(file.BuffersLength())]
    filled = [buffer._tab for buffer in buffers if buffer.DataLength()]
    assert filled
    assert all(table.Vector(table.Offset(4)) % 16 == 0 for table in filled)  # the field `data`


def test_no_operation_reads_a_computed_tensor_twice(file):
    for operator in operators(file):
        computed = [i for i in operator.inputs if i >= 0 and not is_constant(file, i)]
        assert len(computed) == len(set(computed))


def test_products_are_supported_by_the_gpu_accelerator(file):
    products = operators(file, OPERATIONS.BATCH_MATMUL)
    assert products
    for operator in products:
        assert not is_constant(file, operator.inputs[0])
        assert not (operator.builtinOptions.adjX or operator.builtinOptions.adjY)
    for operator in operators(file, OPERATIONS.GATHER):
        indices = file.subgraphs[0].tensors[operator.inputs[1]]
        assert indices.type == schema.TensorType.INT32


def test_operations_run_on_old_runtimes(file):
    versions = {
        max(code.builtinCode, code.deprecatedBuiltinCode): code.version
        for code in file.operatorCodes
    }
    assert versions[OPERATIONS.FULLY_CONNECTED] <= 9  # TFLite 2.7 has up to 9
    assert max(versions) <= OPERATIONS.RANDOM_STANDARD_NORMAL  # and operations up to this one
    for operator in operators(file, OPERATIONS.FULLY_CONNECTED):
        scales = file.subgraphs[0].tensors[operator.inputs[1]].quantization
        assert scales is None or scales.scale is None or len(scales.scale) == 1


def test_products_of_region_crops_run_on_old_runtimes(tmp_path):
    inputs = layers.Input((SIZE, SIZE, 3))
    crops = RegionCrops(mode="fixed", data_format="channels_last")(inputs)
    features = layers.Flatten()(crops)
    model = Model(inputs, ClassProbabilities(NAMES)(layers.Dense(7, name="logits")(features)))
    write_tflite(model, tmp_path / "crops.tflite", metadata())
    file = flatbuffer_utils.read_model(str(tmp_path / "crops.tflite"))
    products = operators(file, OPERATIONS.BATCH_MATMUL)
    assert len(products) == 2
    for product in products:
        for index in (*product.inputs, *product.outputs):
            assert len(file.subgraphs[0].tensors[index].shape) <= 4  # TFLite 2.7 has no more
    images = pictures(3)
    answers = load_runtime(tmp_path / "crops.tflite")(images)
    np.testing.assert_allclose(answers, model.predict(images, verbose=0), atol=1e-5)


def test_answers_in_every_batch_size(written):
    path, model, quantize = written
    images = pictures(12)
    interpreter = Interpreter(str(path))
    run = interpreter.get_signature_runner()
    assert list(run.get_output_details()) == ["probabilities"]
    single = np.concatenate([run(pictures=image[None])["probabilities"] for image in images])
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(single, expected, atol=1e-4 if quantize == "none" else 0.3)
    together = Interpreter(str(path))
    source = together.get_input_details()[0]["index"]
    together.resize_tensor_input(source, images.shape)
    together.allocate_tensors()
    together.set_tensor(source, images)
    together.invoke()
    answers = together.get_tensor(together.get_output_details()[0]["index"])
    np.testing.assert_allclose(answers, single, atol=1e-5)


def test_an_input_of_bytes(written, tmp_path):
    path, model, quantize = written
    images, file = pictures(12), tmp_path / "bytes.tflite"
    write_tflite(model, file, metadata(quantize), quantize, pictures(40), input_dtype="uint8")
    interpreter = Interpreter(str(file))
    run = interpreter.get_signature_runner()
    assert run.get_input_details()["pictures"]["dtype"] == np.uint8
    answers = [run(pictures=image[None].astype("uint8"))["probabilities"] for image in images]
    expected = load_runtime(path)(images)
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-5)
    runtime = load_runtime(file)
    np.testing.assert_allclose(runtime(images), expected, atol=1e-5)
    near = (images + np.where(images > 127, -0.4, 0.4)).astype("float32")
    np.testing.assert_array_equal(runtime(near), runtime(images))


def read_texts(content):
    """Returns a function from the number of a field of the metadata to its text, or `None`."""
    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
    root = flatbuffers.table.Table(content, start)

    def text(number):
        offset = root.Offset(4 + 2 * number)
        return root.String(offset + root.Pos).decode() if offset else None

    return text


def test_author_and_license_are_optional():
    text = read_texts(describe_classifier(metadata(), "pictures", "probabilities"))
    assert text(4) is None and text(5) is None
    stated = metadata() | {"author": "A. Author", "license": "MIT"}
    text = read_texts(describe_classifier(stated, "pictures", "probabilities"))
    assert text(4) == "A. Author" and text(5) == "MIT" and text(7) == "1.0.0"


def test_the_file_describes_itself(written, file):
    (entry,) = [each for each in file.metadata if each.name == b"TFLITE_METADATA"]
    content = bytes(file.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    text = read_texts(content)
    assert text(0) == "faces" and text(7) == "1.0.0"
    assert text(1).startswith("Classifies pictures as angry")
    with zipfile.ZipFile(written[0]) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().split() == list(NAMES)
    (graph,) = file.subgraphs
    names = [graph.tensors[index].name for index in (*graph.inputs, *graph.outputs)]
    assert names == [b"pictures", b"probabilities"]
