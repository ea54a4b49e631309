"""Runs small ONNX models on the cores that the process may use."""

from functools import partial

from kerasfer.text import usable_cores

# Version 17 of the operators, in a file format that every supported ONNX Runtime reads.
OPSET, IR_VERSION = 17, 9


def serialize(nodes, inputs, outputs, constants):
    """Serializes a graph as an ONNX model.

    Args:
        nodes: List of ONNX nodes, in the order of their computation.
        inputs: List of ONNX value infos.
        outputs: List of ONNX value infos.
        constants: List of ONNX tensors.
    """
    from onnx import helper

    graph = helper.make_graph(nodes, "faces", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return model.SerializeToString()


def open_session(model):
    """Loads an ONNX model into ONNX Runtime.

    Args:
        model: The serialized model.

    Returns:
        A function that takes the inputs of the model by name and returns the list of its outputs.
        It may be called from several threads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    # Spinning threads would compete with the model that classifies the faces.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return partial(_run, session)


def _run(session, **inputs):
    return session.run(None, inputs)
