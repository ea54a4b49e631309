"""Quantizes ONNX models: weights in two bytes, or convolutions in integers."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH = 20  # Pictures in one step of the calibration.
SMALLEST = 256  # Minimum number of weights. Smaller constants are not converted.
# Operators that ONNX Runtime computes with integers. Between two convolutions, other operators
# would require conversions to float32 and back.
INTEGER_OPERATORS = ["Add", "AveragePool", "Clip", "Conv", "MaxPool", "Mul", "Relu"]


def store_float16(model):
    """Stores the weights of a model as float16.

    The model computes in float32: its first step converts the weights, which runtimes do once when
    they load the file. No value can leave the range of float16 during the computation.

    Args:
        model: An `onnx.ModelProto`, which is changed.

    Returns:
        The `onnx.ModelProto`.
    """
    casts, kept = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type == TensorProto.FLOAT and values.size >= SMALLEST:
            stored = f"{weight.name}/float16"
            casts.append(helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT))
            values = np.clip(values, -65504, 65504).astype("float16")
            weight = numpy_helper.from_array(values, stored)
        kept.append(weight)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def quantize_int8(model, pictures):
    """Quantizes the convolutions of a model and the operations between them to 8 bits.

    Operations after the last convolution, such as covariances and their logarithm, remain in
    float32. Weights have 7 bits and one scale per channel, because processors without VNNI would
    overflow silently with 8 bits.

    Args:
        model: An `onnx.ModelProto` with one input.
        pictures: float32 `(n, ...)`, inputs that set the ranges of the activations.

    Returns:
        The quantized `onnx.ModelProto`, and a dict with the number of `float_operations`.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, fused, target = (Path(folder, f"{name}.onnx") for name in ("a", "b", "c"))
        onnx.save(model, source)
        # Constants are folded, and batch normalization is fused into the convolutions.
        quant_pre_process(source, fused, skip_symbolic_shape=True)
        kept = _after_convolutions(onnx.load(fused).graph)
        quantize_static(
            fused,
            target,
            _Calibration(model.graph.input[0].name, pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=INTEGER_OPERATORS,
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        total = len(onnx.load(fused, load_external_data=False).graph.node)
        return onnx.load(target), {"float_operations": f"{len(kept)} of {total}"}


class _Calibration:
    """Feeds the calibration, as a `CalibrationDataReader` does."""

    def __init__(self, name, pictures):
        starts = range(0, len(pictures), BATCH)
        self.batches = iter({name: pictures[start : start + BATCH]} for start in starts)

    def get_next(self):
        return next(self.batches, None)


def _after_convolutions(graph):
    """Returns the names of the nodes that no convolution depends on."""
    makers = {output: node for node in graph.node for output in node.output}
    before, waiting = set(), [node for node in graph.node if node.op_type == "Conv"]
    while waiting:
        node = waiting.pop()
        if node.name not in before:
            before.add(node.name)
            waiting.extend(makers[name] for name in node.input if name in makers)
    return [node.name for node in graph.node if node.name not in before]
