import keras
import numpy as np
import pytest

from kerasfer.models import build_model, make_backbone

# Only the class by its numbers: KerasCV's named backbones go online even without weights.
if keras.backend.backend() != "tensorflow":
    pytest.skip("KerasCV needs TensorFlow.", allow_module_level=True)
keras_cv = pytest.importorskip("keras_cv", reason="KerasCV comes with the extra keras-cv.")

pytestmark = pytest.mark.usefixtures("seed", "offline")


@pytest.fixture
def backbone():
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 16],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )


def test_a_backbone_of_keras_cv_is_taken(backbone):
    model = make_backbone(backbone, 32, name="backbone")
    assert model.output_shape == (None, 4, 4, 16)


@pytest.mark.parametrize("name", ["classifier", "obsr", "spd_attention"])
def test_models_train_and_save_with_it(name, backbone, tmp_path):
    model = build_model(name, ("happy", "sad"), 32, backbone=backbone)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    model.compile("sgd", "categorical_crossentropy")
    history = model.fit(x, np.eye(2, dtype="float32"), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    probabilities = model.predict(x, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), probabilities)
