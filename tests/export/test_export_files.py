"""The files of the writers, without separate processes."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_models import NAMES, SIZE, make_model, metadata, pictures
from keras import layers
from PIL import Image

from kerasfer.data.pictures import read_picture, resize
from kerasfer.export import probe, saved_model
from kerasfer.export.onnx_file import write_onnx
from kerasfer.export.processes import run_python
from kerasfer.export.rebuild import is_half, rebuild
from kerasfer.export.saved_model import write_saved_model
from kerasfer.export.tflite_file import write_tflite
from kerasfer.keras_internals import flatten_layers
from kerasfer.layers import BiMap, ClassProbabilities, Covariance, LogEig, ReEig, SPDAttention, Vech
from kerasfer.predict.runtimes import load_runtime

pytestmark = pytest.mark.usefixtures("seed")


# rebuild


def flat(model):
    return [layer for layer in flatten_layers(model) if not isinstance(layer, keras.Model)]


def test_rebuild_changes_precision_and_method_at_any_depth():
    inner_input = keras.Input((6, 6))
    inner = keras.Model(inner_input, LogEig(method="eigh", name="log")(ReEig()(inner_input)))
    inputs = keras.Input((8, 8, 6))
    x = layers.Conv2D(6, 3, dtype="mixed_bfloat16")(inputs)
    x = inner(Covariance(axis="channel", dtype="mixed_float16")(x))
    x = layers.Dense(3, dtype=keras.DTypePolicy("float16"))(Vech()(x))
    model = keras.Model(inputs, ClassProbabilities(("a", "b", "c"))(x))
    copy = rebuild(model, "matmul")
    assert is_half(model) and not is_half(copy)
    assert {layer.compute_dtype for layer in flat(copy)} == {"float32"}
    assert [x.method for x in flat(copy) if hasattr(x, "method")] == ["matmul", "matmul"]
    assert [x.method for x in flat(rebuild(model)) if hasattr(x, "method")] == ["eigh", "eigh"]
    assert [x.method for x in flat(model) if hasattr(x, "method")] == ["eigh", "eigh"]
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rebuild_keeps_predictions_and_unknown_layers():
    @keras.saving.register_keras_serializable(package="someone")
    class Method(layers.Layer):
        def __init__(self, method="eigh", **kwargs):
            super().__init__(**kwargs)
            self.method = method

        def call(self, x):
            return 2 * x

        def get_config(self):
            return {**super().get_config(), "method": self.method}

    inputs = keras.Input((SIZE, SIZE, 3))
    x = make_model("tiny_spd")(Method("theirs")(inputs))
    model = keras.Model(inputs, x)
    copy = rebuild(model, "matmul")
    assert copy.layers[1].method == "theirs"
    attention = next(layer for layer in flat(copy) if isinstance(layer, SPDAttention))
    assert attention.method == attention.log_eig.method == "matmul"
    images = pictures(4)
    np.testing.assert_allclose(
        copy.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4
    )


# SavedModel


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A SavedModel: its folder, its signatures and the model."""
    keras.utils.set_random_seed(0)
    model = make_model("tiny")
    path = tmp_path_factory.mktemp("served") / "1"
    write_saved_model(model, path, metadata())
    loaded = tf.saved_model.load(str(path))
    return path, loaded, model


def ask(served, signature, **inputs):
    given = {name: tf.constant(value) for name, value in inputs.items()}
    return {k: v.numpy() for k, v in served[1].signatures[signature](**given).items()}


def encode(picture, format="PNG", mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, format, **options)
    return file.getvalue()


def photo(height, width, seed=0):
    """A picture with detail at all scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype="float32")
    return (smooth + rng.normal(0, 9, smooth.shape)).clip(0, 255).astype("uint8")


def test_serving_default_takes_any_size_and_batch(served):
    for count, side in ((1, SIZE), (3, SIZE), (2, 40), (2, 9)):
        images = np.stack([photo(side, side + 3, seed) for seed in range(count)])
        answers = ask(served, "serving_default", pictures=images.astype("float32"))
        small = np.stack([resize(image, SIZE) for image in images]).astype("float32")
        expected = served[2].predict(small, verbose=0)
        np.testing.assert_allclose(answers["probabilities"], expected, atol=0.02)
        assert answers["class_id"].dtype == np.int64
        np.testing.assert_array_equal(answers["class_id"], answers["probabilities"].argmax(axis=1))
        assert [name.decode() for name in answers["class_name"]] == [
            NAMES[index] for index in answers["class_id"]
        ]
    exact = pictures(3) + 0.25  # pictures of the model's size are not changed
    answers = ask(served, "serving_default", pictures=exact)
    np.testing.assert_allclose(
        answers["probabilities"], served[2].predict(exact, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize("height, width", [(16, 16), (48, 37), (9, 200), (10, 10), (16, 64)])
def test_the_graph_resizes_as_the_data_pipeline(height, width):
    picture = photo(height, width)
    resized = saved_model._resize(tf.constant(picture[None].astype("float32")), SIZE)[0].numpy()
    difference = np.abs(resized - resize(picture, SIZE))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02


@pytest.mark.parametrize(
    "format, mode, options",
    [
        ("JPEG", "RGB", {"quality": 85}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {}),
        ("PNG", "P", {"bits": 4}),
        ("PNG", "1", {}),
    ],
)
def test_the_graph_decodes_as_the_data_pipeline(tmp_path, format, mode, options):
    file = encode(photo(21, 34), format, mode, **options)
    (tmp_path / "picture").write_bytes(file)
    decoded = saved_model._decode(tf.constant(file)).numpy()
    np.testing.assert_array_equal(decoded, read_picture(tmp_path / "picture"))


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([photo(12, 12), np.arange(144, dtype="uint8").reshape(12, 12)])
    Image.fromarray(rgba).save(tmp_path / "picture.png")
    decoded = saved_model._decode(tf.constant((tmp_path / "picture.png").read_bytes())).numpy()
    assert np.abs(decoded - read_picture(tmp_path / "picture.png")).max() <= 1


def test_broken_files_fail_alone(served):
    files = [
        encode(photo(30, 20 + seed, seed), "JPEG" if seed % 2 else "PNG") for seed in range(32)
    ]
    whole = ask(served, "serving_bytes", picture_bytes=files)
    assert whole["valid"].all()
    broken = {
        0: b"",
        5: b"\xff\xd8\xff and no more",
        6: files[6][:100],
        7: files[7][: len(files[7]) // 2],
        12: b"<svg/>",
        31: encode(photo(7, 30)),  # too small for a face
    }
    answers = ask(
        served, "serving_bytes", picture_bytes=[broken.get(i, files[i]) for i in range(32)]
    )
    good = np.array([index not in broken for index in range(32)])
    np.testing.assert_array_equal(answers["valid"], good)
    for name, value in answers.items():
        if name != "valid":
            np.testing.assert_array_equal(value[good], whole[name][good])
    assert (answers["probabilities"][~good] == 0).all()
    assert (answers["class_id"][~good] == -1).all()
    assert (answers["class_name"][~good] == b"").all()
    none = ask(served, "serving_bytes", picture_bytes=list(broken.values()))
    assert not none["valid"].any()


def test_the_answers_do_not_depend_on_the_batch(served):
    files = [encode(photo(25, 25, seed)) for seed in range(3)]
    together = ask(served, "serving_bytes", picture_bytes=files)["probabilities"]
    for index, file in enumerate(files):
        alone = ask(served, "serving_bytes", picture_bytes=[file])["probabilities"]
        np.testing.assert_allclose(alone[0], together[index], atol=1e-6)


def test_warmup_requests_are_answered(served):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = served[0] / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "faces"
        given = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        signature = request.model_spec.signature_name
        (batch,) = {len(value) for value in given.values()}
        answers = ask(served, signature, **given)
        assert len(answers["probabilities"]) == batch
        assert np.all(answers.get("valid", True))
        seen.append((signature, batch))
    assert sorted(seen) == [
        (signature, batch)
        for signature in ("serving_bytes", "serving_default")
        for batch in (1, 8, 32)
    ]


def test_variables_are_stored_once(served):
    size = (served[0] / "variables" / "variables.data-00000-of-00001").stat().st_size
    weights = sum(weight.nbytes for weight in served[2].get_weights())
    assert size < 1.5 * weights + 4000


# TFLite and ONNX


def test_int8_keeps_the_spd_block_in_float(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = rebuild(make_model("tiny_spd"), "matmul")
    images = pictures(60)
    path = tmp_path / "faces.tflite"
    facts = write_tflite(model, path, metadata("int8"), "int8", images)
    kept, total = map(int, facts["float_operations"].split(" of "))
    assert 300 < kept < total
    interpreter = Interpreter(str(path))
    details = interpreter._get_ops_details()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    types = {}
    for op in details:
        types.setdefault(op["op_name"], set()).update(
            tensors[index]["dtype"].__name__ for index in op["outputs"] if index in tensors
        )
    assert types["CONV_2D"] == {"int8"}
    assert types["BATCH_MATMUL"] == types["LOG"] == types["SOFTMAX"] == {"float32"}
    answers = load_runtime(path)(images)
    assert (answers.argmax(1) == model.predict(images, verbose=0).argmax(1)).mean() > 0.9


def test_smaller_weights(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3), name="pictures")
    x = layers.Dense(64, activation="relu")(layers.Flatten()(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, ClassProbabilities(NAMES)(layers.Dense(7, name="logits")(x)))
    images = pictures(20)
    expected = model.predict(images, verbose=0)
    weights = sum(weight.nbytes for weight in model.get_weights())
    for quantize, share in (("float16", 0.5), ("dynamic", 0.25)):
        path = tmp_path / f"{quantize}.tflite"
        write_tflite(model, path, metadata(quantize), quantize)
        assert share * weights < path.stat().st_size < share * weights + 10_000
        np.testing.assert_allclose(load_runtime(path)(images), expected, atol=0.05)


def test_an_eigendecomposition_in_onnx_is_detected(tmp_path):
    inputs = keras.Input((4, 4))
    x = layers.Dense(3)(Vech()(LogEig(1e-4)(BiMap(4)(inputs))))
    model = keras.Model(inputs, layers.Softmax()(x))
    facts = {**metadata(), "image_size": None, "class_names": ["a", "b", "c"]}
    np.save(tmp_path / "pictures.npy", np.stack([np.eye(4, dtype="float32")] * 2))
    for method in ("eigh", "matmul"):
        path = tmp_path / f"{method}.onnx"
        write_onnx(rebuild(model, method), path, facts)
        job = {"format": "onnx", "path": str(path), "threads": [1], "seconds": 0}
        (tmp_path / "probe_job.json").write_text(json.dumps(job))
        done = run_python([probe.__file__, str(tmp_path)])
        assert (done.returncode == 0) == (method == "matmul"), done.stderr
    answers = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
