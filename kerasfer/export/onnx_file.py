"""ONNX files for servers, desktops and browsers."""

import json

import keras

from kerasfer.export.formats import OPSETS
from kerasfer.export.onnx_quantize import quantize_int8, store_float16
from kerasfer.predict.runtimes import METADATA


def write_onnx(model, path, metadata, quantize="none", representative=None, opset=OPSETS[-1]):
    """Writes an ONNX file with a variable batch size.

    Args:
        model: A float32 `keras.Model` without eigendecompositions, which tf2onnx would write as
            nodes that no runtime supports, without an error.
        path: The file, ending in `.onnx`.
        metadata: JSON-serializable dict, stored in the model's properties as `kerasfer.json`. The
            property `class_names` has the names of the classes. With the `input_layout` `"nchw"`
            the file takes pictures `(batch, 3, height, width)`.
        quantize: `"none"`; `"float16"` stores weights in two bytes; `"int8"` computes convolutions
            with integers.
        representative: For `"int8"`: float32 `(n, ...)`, inputs from the training data.
        opset: The version of the operator set, one of `kerasfer.export.formats.OPSETS`.

    Returns:
        A dict for the report.
    """
    import onnx

    inputs = "pictures" if metadata["image_size"] else "inputs"
    signature = [
        keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name=inputs)
    ]
    model.export(path, format="onnx", verbose=False, input_signature=signature, opset_version=opset)
    written = onnx.load(path)
    _replace_boolean_identities(written.graph, onnx)
    (answer,) = written.graph.output
    _rename(written.graph, answer.name, "probabilities")
    _name_batch(written.graph)
    facts = {"batch": "any"}
    if quantize == "float16":
        written = store_float16(written)
    elif quantize == "int8":
        written, quantized = quantize_int8(written, representative)
        facts |= quantized
    if metadata.get("input_layout") == "nchw":
        _take_channels_first(written.graph, onnx)
    onnx.helper.set_model_props(
        written,
        {METADATA: json.dumps(metadata), "class_names": json.dumps(metadata["class_names"])},
    )
    onnx.save(written, path)
    version = next(entry.version for entry in written.opset_import if entry.domain == "")
    return {**facts, "opset": version}


def _replace_boolean_identities(graph, onnx):
    """Creates identity matrices as integers, since onnxruntime does not support booleans there."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "EyeLike" and attribute.i == onnx.TensorProto.BOOL:
                attribute.i = onnx.TensorProto.INT64
                output, node.output[0] = node.output[0], f"{node.output[0]}/int64"
                cast = onnx.helper.make_node(
                    "Cast", [node.output[0]], [output], to=onnx.TensorProto.BOOL
                )
                nodes.append(cast)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph, old, new):
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    graph.output[0].name = new


def _name_batch(graph):
    """Renames the batch axis from tf2onnx's `unk__` and a number to `batch`."""
    (source,) = graph.input
    old = source.type.tensor_type.shape.dim[0].dim_param
    for value in (source, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == old:
                dimension.dim_param = "batch"
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _take_channels_first(graph, onnx):
    """Adds a transposition before the graph, which runtimes merge with that of the convolutions."""
    (source,) = graph.input
    name, last = source.name, f"{source.name}/nhwc"
    for node in graph.node:
        node.input[:] = [last if each == name else each for each in node.input]
    axes = source.type.tensor_type.shape.dim
    batch, height, width, channels = [
        onnx.TensorShapeProto.Dimension.FromString(axis.SerializeToString()) for axis in axes
    ]
    del axes[:]
    axes.extend([batch, channels, height, width])
    transpose = onnx.helper.make_node("Transpose", [name], [last], last, perm=[0, 2, 3, 1])
    graph.node.insert(0, transpose)
