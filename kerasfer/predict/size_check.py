"""Checks the sizes of tensors in ONNX and TFLite files before a runtime allocates them.

A file of a few bytes may describe tensors of any size.
"""

import math

from kerasfer.errors import RunError

MAX_VALUES = 2**27  # Of a tensor, for one picture.


def check_tensors(path, details):
    """Checks the tensors of a TFLite file.

    Args:
        path: The path of the file.
        details: The list from `Interpreter.get_tensor_details`.

    Raises:
        RunError: If a tensor has more than `MAX_VALUES` values.
    """
    for tensor in details:
        _check(path, tensor["name"], [int(side) for side in tensor["shape"]])


def check_onnx(path):
    """Checks the constants and the other tensors of an ONNX file, as far as their shape is known.

    Args:
        path: The path of the file.

    Raises:
        RunError: If the file cannot be parsed, a constant is larger than its content or stored in
            another file, or a tensor has more than `MAX_VALUES` values.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise RunError(f"{path} cannot be loaded: it is not an ONNX file, or damaged.") from error
    for constant in _constants(model.graph):
        if isinstance(constant, onnx.SparseTensorProto):
            _check(path, constant.values.name, constant.dims)
            constant = constant.values
        _check_constant(path, constant, onnx)
    # For the shapes of the results of operations. No operation is run.
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise RunError(f"{path} cannot be loaded: {reason}") from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        shape = value.type.tensor_type.shape
        _check(path, value.name, [side.dim_value or 1 for side in shape.dim])


def _constants(graph):
    """Yields the constants of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    yield from graph.sparse_initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.tensors
            yield from attribute.sparse_tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _constants(inner)


def _check_constant(path, constant, onnx):
    if constant.data_location == onnx.TensorProto.EXTERNAL:
        raise RunError(
            f"{path} is not loaded: its constant {constant.name!r} is stored in another file. "
            "Export the model again."
        )
    lists = (
        *(constant.float_data, constant.int32_data, constant.int64_data, constant.double_data),
        *(constant.uint64_data, constant.string_data),
    )
    # The smallest types have several values in one element.
    held = max(8 * len(constant.raw_data), *(8 * len(values) for values in lists))
    if any(side < 0 for side in constant.dims) or math.prod(constant.dims) > held:
        raise RunError(
            f"{path} is not loaded: its constant {constant.name!r} has the shape "
            f"{tuple(constant.dims)}, but not that many values. The file is damaged. Export the "
            "model again."
        )


def _check(path, name, shape):
    if math.prod(shape) > MAX_VALUES:
        raise RunError(
            f"{path} is not loaded: its tensor {name!r} has the shape {tuple(shape)}, which is "
            f"more than {4 * MAX_VALUES // 2**20} MiB for each picture."
        )
