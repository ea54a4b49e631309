import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import ClassProbabilities

pytestmark = pytest.mark.usefixtures("seed")


def test_as_a_keras_layer():
    logits = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    check_layer(lambda **kwargs: ClassProbabilities(["a", "b", "c"], **kwargs), logits)


def test_by_hand():
    x = np.log([[1.0, 3.0]]).astype("float32")
    y = ClassProbabilities(("happy", "sad"))(x)
    np.testing.assert_allclose(ops.convert_to_numpy(y), [[0.25, 0.75]], rtol=1e-6)


def test_float32_under_a_half_precision_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = ClassProbabilities(("happy", "sad"))
    finally:
        keras.config.set_dtype_policy("float32")
    # 20 and 0: the smaller probability is 2e-9, beyond float16.
    y = ops.convert_to_numpy(layer(ops.cast([[20.0, 0.0]], "float16")))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y[0, 1], np.exp(-20), rtol=1e-3)


def test_a_saved_model_keeps_its_class_names(tmp_path):
    inputs = keras.Input((4,))
    names = ("happy", "sad")
    model = keras.Model(inputs, ClassProbabilities(names)(keras.layers.Dense(2)(inputs)))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").layers[-1].class_names == names


def test_other_numbers_of_logits_are_an_error():
    message = r"one logit for each class.*\(None, 3\), class_names=\('a',\)"
    with pytest.raises(ValueError, match=message):
        ClassProbabilities(["a"])(keras.Input((3,)))
