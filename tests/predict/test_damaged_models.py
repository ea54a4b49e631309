"""Models that are damaged, or that access files, are refused with one line."""

import json

import keras
import numpy as np
import pytest
from exported_models import make_model, metadata, pictures

from kerasfer.errors import RunError
from kerasfer.export.onnx_file import write_onnx
from kerasfer.export.rebuild import rebuild
from kerasfer.export.saved_model import write_saved_model
from kerasfer.export.tflite_file import write_tflite
from kerasfer.predict.graph_check import SAFE_STATEFUL, UNSAFE_STATELESS, check_graph
from kerasfer.predict.runtimes import load_runtime

PICTURES = pictures(2)
SUFFIXES = (".keras", ".onnx", ".tflite")


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a model in each format, by suffix."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Exports are made with TensorFlow.")
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("exports")
    model = make_model("tiny")
    ready = rebuild(model, "matmul")
    model.save(folder / "faces.keras")
    write_onnx(ready, folder / "faces.onnx", metadata())
    write_tflite(ready, folder / "faces.tflite", metadata())
    return {suffix: (folder / f"faces{suffix}").read_bytes() for suffix in SUFFIXES}


def refusal(path):
    """Returns the message of the error with which a model is refused."""
    with pytest.raises(RunError) as caught:
        load_runtime(path)(PICTURES)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"faces{suffix}"
    path.touch()
    assert f"faces{suffix} is an empty file" in refusal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_refused(contents, tmp_path, suffix):
    path, content = tmp_path / f"faces{suffix}", contents[suffix]
    expected = {
        ".keras": "not a Keras model file, or it was truncated",
        ".onnx": "cannot be loaded: ",
        ".tflite": "does not contain valid class names",
    }
    for length in (1, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert expected[suffix] in refusal(path)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_file_with_flipped_bits_is_refused_or_predicts(contents, tmp_path, capfd, suffix):
    path, rng, refused = tmp_path / f"faces{suffix}", np.random.default_rng(0), 0
    for _ in range(60):
        content = bytearray(contents[suffix])
        for place in rng.integers(0, len(content), 8):
            content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert np.isfinite(load_runtime(path)(PICTURES)).all()
        except RunError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30
    assert capfd.readouterr().out == ""


@pytest.fixture
def save(tmp_path):
    """Saves a function of pictures as a SavedModel with the metadata of an export."""
    tf = pytest.importorskip("tensorflow")

    def save(effect):
        module = tf.Module()

        def serve(pictures):
            with tf.control_dependencies([effect()]):
                return {"probabilities": tf.fill([tf.shape(pictures)[0], 7], 1 / 7)}

        spec = tf.TensorSpec((None, 16, 16, 3), "float32", name="pictures")
        module.serve = tf.function(serve, input_signature=[spec], autograph=False)
        path = tmp_path / "faces"
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
        extra = path / "assets.extra"
        extra.mkdir()
        (extra / "kerasfer.json").write_text(json.dumps(metadata()))
        return path

    return save


def effects():
    import tensorflow as tf

    def save_checkpoint(target):
        return tf.raw_ops.SaveV2(
            prefix=target, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.ones(3)]
        )

    def nested(target):
        true = tf.constant(True)
        return tf.cond(true, lambda: tf.io.read_file(target), lambda: tf.constant(""))

    def dataset(target):
        lines = tf.data.Dataset.from_tensors(target).map(tf.io.read_file)
        return lines.get_single_element()

    return {
        "WriteFile": lambda target: tf.io.write_file(target, "copied"),
        "MatchingFiles": lambda target: tf.io.matching_files(target),
        "SaveV2": save_checkpoint,
        "PrintV2": lambda target: tf.print("copied", output_stream=f"file://{target}"),
        "RestoreV2": lambda target: tf.raw_ops.RestoreV2(
            prefix=target, tensor_names=["x"], shape_and_slices=[""], dtypes=["float32"]
        )[0],
        "ReadFile": nested,
        "ReadFile in a dataset": dataset,
    }


@pytest.mark.parametrize(
    "name",
    [
        "WriteFile",
        "MatchingFiles",
        "SaveV2",
        "PrintV2",
        "RestoreV2",
        "ReadFile",
        "ReadFile in a dataset",
    ],
)
def test_a_saved_model_that_accesses_files_is_refused(save, tmp_path, name):
    target = tmp_path / "target"
    path = save(lambda: effects()[name](str(target)))
    operation = name.split()[0]
    message = refusal(path)
    assert "contains operations that may access files or the network" in message
    assert operation in message.split(":")[1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_saved_model_must_not_call_its_saver(save):
    """The saving function may only be called by the node for saving checkpoints."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.core.protobuf import saved_model_pb2

    path = save(lambda: tf.constant(0))
    check_graph(path)
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((path / "saved_model.pb").read_bytes())
    (graph,) = proto.meta_graphs
    (saver,) = [
        function.signature.name
        for function in graph.graph_def.library.function
        if any(node.op == "SaveV2" for node in function.node_def)
    ]
    caller = next(f for f in graph.graph_def.library.function if f.signature.name != saver)
    node = caller.node_def.add(name="save", op="PartitionedCall")
    node.attr["f"].func.name = saver
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(RunError, match="SaveV2"):
        check_graph(path)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Exports are made with TensorFlow."
)
@pytest.mark.parametrize("name", ["tiny", "tiny_spd"])
def test_exports_pass_the_check(tmp_path, name):
    write_saved_model(make_model(name), tmp_path / "1", metadata())
    check_graph(tmp_path / "1")


def test_a_saved_model_without_a_valid_graph_is_refused(save):
    tf = pytest.importorskip("tensorflow")
    path = save(lambda: tf.constant(0))
    content = (path / "saved_model.pb").read_bytes()
    for damaged, message in {
        b"": "must be a SavedModel of TensorFlow 2",
        content[: len(content) // 2]: "its saved_model.pb is missing or damaged",
    }.items():
        (path / "saved_model.pb").write_bytes(damaged)
        assert message in refusal(path)


def test_operations_with_a_file_argument_are_listed():
    """All stateless operations with a file name among their arguments are unsafe."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.python.framework import op_def_registry

    words = ("file", "path", "shard_dir", "urls", "address", "descriptor_source")
    safe = {"CTCBeamSearchDecoder", "TensorSliceDataset"}  # `top_paths` and `is_files`.
    for name in set(dir(tf.raw_ops)) - safe:
        definition = op_def_registry.get(name)
        if definition is None:
            continue
        arguments = [one.name for one in (*definition.input_arg, *definition.attr)]
        if any(word in argument for word in words for argument in arguments):
            listed = definition.is_stateful or name in UNSAFE_STATELESS
            assert listed and name not in SAFE_STATEFUL, name
