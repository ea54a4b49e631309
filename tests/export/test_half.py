"""Half precision as in runtimes."""

import keras
import ml_dtypes
import numpy as np
import pytest
from exported_models import SIZE, make_model, pictures
from keras import layers

from kerasfer.errors import RunError
from kerasfer.export.convert import convert
from kerasfer.export.half import compare_in_half, predict_in_half
from kerasfer.export.job import Job
from kerasfer.export.rebuild import rebuild
from kerasfer.layers import BilinearPool, Covariance, LogEig, SPDProject, Vech


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_each_result_is_rounded(dtype):
    rng = np.random.default_rng(0)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(3)(layers.Rescaling(0.3)(inputs)))
    model.set_weights([rng.normal(size=(5, 3)), rng.normal(size=3)])
    x = rng.normal(size=(70, 5)).astype("float32")

    def rounded(values):
        return np.asarray(values).astype(getattr(ml_dtypes, dtype, dtype)).astype("float32")

    kernel, bias = map(rounded, model.get_weights())
    scaled = rounded(rounded(rounded(x) * rounded(0.3)) + 0)
    expected = rounded(rounded(scaled @ kernel) + bias)
    np.testing.assert_allclose(predict_in_half(model, x, dtype), expected, rtol=1e-6)
    assert np.abs(model.predict(x, verbose=0) - expected).max() > 1e-5


@pytest.mark.parametrize("size", [0.02, 1.0, 200.0])
def test_bilinear_features_of_any_size_survive_float16(size):
    """The sum over 36 positions of products of 200 by 200, and its square, are beyond float16."""
    inputs = keras.Input((6, 6, 64))
    model = keras.Model(inputs, BilinearPool(data_format="channels_last")(inputs))
    maps = size * np.maximum(np.random.default_rng(0).normal(size=(4, 6, 6, 64)), 0)
    expected = model.predict(maps.astype("float32"), verbose=0)
    found = predict_in_half(model, maps.astype("float32"), "float16")
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-5)


def test_bilinear_features_by_definition():
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 6)) * [[[[1e-4]]], [[[1.0]]], [[[1e3]]]]
    rows = maps.reshape(3, 20, 6)
    products = np.einsum("bli,blj->bij", rows, rows).reshape(3, -1)
    roots = np.sign(products) * np.sqrt(np.abs(products) + 1e-8)
    lengths = np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-7)
    for normalize, expected in ((False, roots), (True, roots / lengths)):
        layer = BilinearPool(normalize=normalize, data_format="channels_last")
        found = keras.ops.convert_to_numpy(layer(maps.astype("float32")))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-8)


def test_logarithm_of_a_covariance_in_float16():
    """The squares of its entries, which the norm sums, are beyond float16."""
    inputs = keras.Input((6, 6, 12))
    x = SPDProject(1e-2)(Covariance("channel", data_format="channels_last")(inputs))
    model = keras.Model(inputs, Vech()(LogEig(1e-3)(x)))
    maps = 20 * np.random.default_rng(0).normal(size=(8, 6, 6, 12)).astype("float32")
    exact = model.predict(maps, verbose=0)
    found = predict_in_half(rebuild(model, "matmul"), maps, "float16")
    assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)


def test_a_model_beyond_float16_is_found():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten()(layers.Rescaling(300.0)(inputs))  # 255 becomes 76,500
    model = keras.Model(inputs, layers.Dense(7, "softmax")(layers.Rescaling(1e-6)(x)))
    images = pictures(20)
    images[:, 0, 0] = 255
    found = compare_in_half(model, images, model.predict(images, verbose=0))
    assert found["float16"]["mismatch"] == "only 0% of the answers are finite"
    assert "mismatch" in found["bfloat16"] and "top1_agreement" in found["bfloat16"]


def test_logits_are_not_exported_as_probabilities(tmp_path):
    model = make_model("tiny")
    keras.Model(model.inputs, model.get_layer("logits").output).save(tmp_path / "logits.keras")
    np.save(tmp_path / "pictures.npy", pictures(7))
    Job("onnx", "none", str(tmp_path / "logits.keras"), "faces").save(tmp_path)
    with pytest.raises(RunError, match="Expected a model that returns probabilities.* If these"):
        convert(tmp_path)
