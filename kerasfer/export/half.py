"""Emulates runtimes that compute in float16 or bfloat16, on any CPU.

Some runtimes choose half precision automatically: OpenVINO uses bfloat16 on CPUs that support it,
and the GPUs of phones use float16. Rounding the result of every operation shows before the
deployment whether the answers of a model change there.
"""

import numpy as np
import tensorflow as tf  # for its graphs, which the converters read as well
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerasfer.errors import RunError
from kerasfer.export.parity import compare, find_mismatch

HALF = ("float16", "bfloat16")


def compare_in_half(model, pictures, reference, targets=None):
    """Compares a model in float16 and in bfloat16 with its predictions in float32.

    Args:
        model: A float32 `keras.Model` with one input and one output.
        pictures: float32 `(n, ...)`, the inputs.
        reference: float32 `(n, classes)`, the predictions in float32.
        targets: int `(n,)`, the true classes, or `None` if they are unknown.

    Returns:
        A dict from `"float16"` and `"bfloat16"` to the dict of `kerasfer.export.parity.compare`
        with `"mismatch"`: how the model is worse, or `None` if it keeps its answers.
    """
    found = {}
    for dtype in HALF:
        predicted = predict_in_half(model, pictures, dtype)
        try:
            compared = compare(predicted, reference, targets)
        except RunError:
            finite = np.isfinite(predicted).all(axis=-1).mean()
            found[dtype] = {"mismatch": f"only {finite:.0%} of the answers are finite"}
        else:
            found[dtype] = {**compared, "mismatch": find_mismatch(compared, dtype)}
    return found


def predict_in_half(model, pictures, dtype, batch_size=64):
    """Predicts with a model whose weights and intermediate results are rounded.

    Sums inside an operation, such as those of a convolution, are in float32, as in hardware that
    multiplies in half precision.

    Args:
        model: A float32 `keras.Model` with one input and one output.
        pictures: float32 `(n, ...)`, the inputs.
        dtype: `"float16"` or `"bfloat16"`.
        batch_size: The number of pictures in a batch.

    Returns:
        float32 `(n, classes)`. May be NaN or infinite where the numbers leave the range of `dtype`.

    Example:

    ```python
    predict_in_half(load_model("runs/quickstart"), pictures, "bfloat16").argmax(axis=1)
    ```
    """
    rounded = _rounded(model, tf.as_dtype(dtype))
    starts = range(0, len(pictures), batch_size)
    parts = [rounded(tf.constant(pictures[start : start + batch_size])) for start in starts]
    return np.concatenate([part.numpy() for part in parts])


def _rounded(model, dtype):
    """Returns the model's graph as a function that rounds every float32 tensor to `dtype`."""
    spec = tf.TensorSpec((None, *model.input_shape[1:]), "float32")
    traced = tf.function(lambda x: model(x, training=False), autograph=False)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function(spec))
    (output,) = frozen.outputs
    graph = _round_all(frozen.graph, dtype)
    imported = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), signature=[]
    )
    return imported.prune(frozen.inputs[0].name, f"{_name_of_rounded(output)}:0")


def _round_all(graph, dtype):
    """Copies a graph, and adds two casts after each float32 tensor, to `dtype` and back."""
    copied = tf.compat.v1.GraphDef()
    copied.versions.CopyFrom(graph.as_graph_def().versions)
    for operation in graph.get_operations():
        node = copied.node.add()
        node.CopyFrom(operation.node_def)
        del node.input[:]
        node.input.extend(
            _name_of_rounded(tensor) if tensor.dtype == tf.float32 else tensor.name
            for tensor in operation.inputs
        )
        node.input.extend(f"^{other.name}" for other in operation.control_inputs)
        for tensor in operation.outputs:
            if tensor.dtype == tf.float32:
                name = _name_of_rounded(tensor)
                _add_cast(copied, f"{name}/half", tensor.name, tf.float32, dtype)
                _add_cast(copied, name, f"{name}/half", dtype, tf.float32)
    return copied


def _name_of_rounded(tensor):
    return f"{tensor.op.name}/rounded_{tensor.value_index}"


def _add_cast(graph, name, source, before, after):
    node = graph.node.add(op="Cast", name=name)
    node.input.append(source)
    node.attr["SrcT"].type = before.as_datatype_enum
    node.attr["DstT"].type = after.as_datatype_enum
