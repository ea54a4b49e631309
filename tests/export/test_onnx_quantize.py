"""Quantized ONNX files in ONNX Runtime, against the model."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from exported_models import make_model, metadata, pictures

from kerasfer.export.onnx_file import write_onnx
from kerasfer.export.rebuild import rebuild

PICTURES = pictures(40)


@pytest.fixture(scope="module", params=["tiny", "tiny_spd"])
def model(request):
    keras.utils.set_random_seed(0)
    return rebuild(make_model(request.param), method="matmul")


def predict(path, images=PICTURES):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["kerasfer.json"]
    return session.run(["probabilities"], {"pictures": images})[0]


def weights_of(path):
    return {weight.name: weight for weight in onnx.load(path).graph.initializer}


def test_float16_halves_the_weights_and_computes_in_float32(model, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasfer.export.onnx_quantize.SMALLEST", 30)
    write_onnx(model, tmp_path / "none.onnx", metadata())
    facts = write_onnx(model, tmp_path / "float16.onnx", metadata("float16"), "float16")
    assert facts["batch"] == "any"
    onnx.checker.check_model(tmp_path / "float16.onnx", full_check=True)
    exact = weights_of(tmp_path / "none.onnx")
    stored = weights_of(tmp_path / "float16.onnx")
    large = [name for name, weight in exact.items() if np.prod(weight.dims) >= 30]
    large = [name for name in large if exact[name].data_type == onnx.TensorProto.FLOAT]
    assert len(large) >= 2
    for name in large:
        assert name not in stored
        assert stored[f"{name}/float16"].data_type == onnx.TensorProto.FLOAT16
    expected = model.predict(PICTURES, verbose=0)
    np.testing.assert_allclose(predict(tmp_path / "float16.onnx"), expected, atol=0.05)
    assert abs(predict(tmp_path / "float16.onnx") - expected).max() > 0


@pytest.mark.parametrize("quantize", ["none", "float16", "int8"])
def test_the_oldest_opset(model, tmp_path, quantize):
    path = tmp_path / "old.onnx"
    facts = write_onnx(model, path, metadata(quantize), quantize, PICTURES, opset=13)
    assert facts["opset"] == 13
    written = onnx.load(path)
    assert {entry.domain: entry.version for entry in written.opset_import}[""] == 13
    assert written.ir_version <= 7  # Runtimes of that time refuse later formats of the file.
    onnx.checker.check_model(written, full_check=True)
    expected = model.predict(PICTURES, verbose=0)
    tolerance = 1e-4 if quantize == "none" else 0.1
    np.testing.assert_allclose(predict(path), expected, atol=tolerance)


@pytest.mark.parametrize("quantize", ["none", "float16", "int8"])
def test_channels_first(model, tmp_path, quantize):
    """Only the order of the input's axes differs, also for another batch size."""
    answers = {}
    for layout in ("nhwc", "nchw"):
        path = tmp_path / f"{layout}.onnx"
        described = metadata(quantize) | {"input_layout": layout}
        write_onnx(model, path, described, quantize, PICTURES)
        images = PICTURES.transpose(0, 3, 1, 2) if layout == "nchw" else PICTURES
        onnx.checker.check_model(path, full_check=True)
        answers[layout] = predict(path, images)
        (source,) = onnx.load(path).graph.input
        sizes = [axis.dim_value or axis.dim_param for axis in source.type.tensor_type.shape.dim]
        assert sizes == ["batch", *images.shape[1:]]
    np.testing.assert_allclose(answers["nchw"], answers["nhwc"], atol=1e-5)


def test_int8_quantizes_the_convolutions_and_keeps_the_head(model, tmp_path):
    path = tmp_path / "int8.onnx"
    facts = write_onnx(model, path, metadata("int8"), "int8", representative=PICTURES)
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        inputs = [made_by[name].op_type for name in node.input[:2] if name in made_by]
        if node.op_type == "Conv":
            assert inputs == ["DequantizeLinear"] * 2
        if node.op_type in ("Gemm", "MatMul", "Softmax"):
            assert "DequantizeLinear" not in inputs[1:]
    kept, total = map(int, facts["float_operations"].split(" of "))
    assert 0 < kept < total
    answers, expected = predict(path), model.predict(PICTURES, verbose=0)
    assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9
    assert 0 < abs(answers - expected).mean() < 0.05
    np.testing.assert_allclose(predict(path, PICTURES[:1]), answers[:1], atol=1e-5)


def test_int8_uses_the_ranges_of_the_representative_pictures(model, tmp_path):
    """Ranges of dark pictures clip the activations of others."""
    answers = {}
    for name, representative in (("real", PICTURES), ("dark", PICTURES / 20)):
        path = tmp_path / f"{name}.onnx"
        write_onnx(model, path, metadata("int8"), "int8", representative=representative)
        answers[name] = predict(path)
    expected = model.predict(PICTURES, verbose=0)
    error = {name: abs(answer - expected).mean() for name, answer in answers.items()}
    assert error["dark"] > 3 * error["real"]
