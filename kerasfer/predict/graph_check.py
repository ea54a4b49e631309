"""Checks that the graph of a SavedModel contains only operations that are safe to run.

A SavedModel is a program: TensorFlow runs parts of its graph while it loads the model, and the
graph may contain operations that read or write any file of the user.
"""

from kerasfer.errors import RunError

# TensorFlow marks operations with side effects as stateful. These are the ones that only change
# variables or control the flow of the graph.
SAFE_STATEFUL = frozenset(
    {
        "Assert",
        "AssignVariableOp",
        "Case",
        "CheckNumerics",
        "DatasetToSingleElement",
        "DisableCopyOnRead",
        "If",
        "RangeDataset",
        "ReadVariableOp",
        "StatefulPartitionedCall",
        "TensorDataset",
        "TensorSliceDataset",
        "VarHandleOp",
        "VarIsInitializedOp",
        "While",
    }
)
# Operations that access files, the network or Python although they are not marked as stateful.
UNSAFE_STATELESS = frozenset(
    {
        "CacheDataset",
        "DebugIdentity",
        "DebugNanCount",
        "DebugNumericSummary",
        "DecodeProtoV2",
        "EncodeProto",
        "GenerateVocabRemapping",
        "InitializeTableFromTextFile",
        "MatchingFiles",
        "PyFuncStateless",
        "ReadFile",
        "ReaderRestoreState",
        "RegisterDataset",
        "RegisterDatasetV2",
        "SnapshotChunkDataset",
        "SnapshotDataset",
        "SnapshotDatasetReader",
        "SnapshotDatasetV2",
        "SnapshotNestedDatasetReader",
    }
)
# Each SavedModel contains a function that saves its variables and one that restores them.
SAVER = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2"})


def check_graph(path):
    """Checks the operations of a SavedModel before it is loaded. Nothing of it is run.

    The operations that save and restore checkpoints are allowed only in the two functions for
    this purpose. No other part of the model may call these functions.

    Args:
        path: `pathlib.Path` of the folder of the SavedModel.

    Raises:
        RunError: If `saved_model.pb` cannot be parsed, or contains unsafe operations.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise RunError(
            f"{path} cannot be loaded: its saved_model.pb is missing or damaged. Export the model "
            "again."
        ) from error
    # TensorFlow loads other SavedModels with the loader of version 1, which runs the main graph.
    graphs = saved_model.meta_graphs
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise RunError(
            f"{path} cannot be loaded: it must be a SavedModel of TensorFlow 2 with one graph. "
            "Export the model again."
        )
    unsafe = _unsafe_operations(graphs[0])
    if unsafe:
        raise RunError(
            f"{path} contains operations that may access files or the network: "
            f"{', '.join(unsafe)}. Such a SavedModel is not loaded. Use a model from `kerasfer "
            "export`."
        )


def _unsafe_operations(meta_graph):
    """Lists the names of the unsafe operations of a graph and its functions."""
    graph = meta_graph.graph_def
    saver_nodes = {
        meta_graph.saver_def.save_tensor_name.split(":")[0],
        meta_graph.saver_def.restore_op_name,
    }
    savers = set()
    for node in graph.node:
        if node.name in saver_nodes:
            savers |= set(_called_functions(node))
    unsafe = {node.op for node in graph.node if not _is_safe(node.op)}
    called = set(meta_graph.object_graph_def.concrete_functions)
    for node in graph.node:
        if node.name not in saver_nodes:
            called |= set(_called_functions(node))
    for function in graph.library.function:
        allowed = SAVER if function.signature.name in savers else ()
        unsafe |= {
            node.op
            for node in function.node_def
            if node.op not in allowed and not _is_safe(node.op)
        }
        for node in function.node_def:
            called |= set(_called_functions(node))
    called |= {gradient.gradient_func for gradient in graph.library.gradient}
    if called & savers:
        unsafe |= SAVER
    return sorted(unsafe)


def _is_safe(operation):
    # TensorFlow has no public API for the definition of an operation.
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    if definition is None:  # Includes functions that are called by their name.
        return False
    if definition.is_stateful:
        return operation in SAFE_STATEFUL
    return operation not in UNSAFE_STATELESS


def _called_functions(node):
    """Yields the names of the functions in the attributes of a node."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
