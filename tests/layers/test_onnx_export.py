"""Keras' export to ONNX, on the backends for which Keras supports it."""

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops

from kerasfer.layers import (
    AffineSampling,
    BilinearPool,
    BiMap,
    Covariance,
    ExpEig,
    LogEig,
    ReEig,
    RegionCrops,
    SPDAttention,
    SPDProject,
    Unvech,
    Vech,
)
from kerasfer.models import covpool, obsr, slim_spd, spd_attention, spdnet

pytestmark = [
    pytest.mark.usefixtures("seed"),
    pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras needs jax2onnx for it."),
]

NAMES = ("angry", "happy", "sad")


def vectors(maps, length):
    return keras.layers.Dense(length)(keras.layers.Flatten()(maps))


def covariances(maps):
    return SPDProject()(Covariance("channel")(maps))


def attended(maps):
    regions = ops.reshape(maps, (-1, 2, 2, 4, 6))
    features = keras.layers.Reshape((2, 24))(vectors(maps, 48))
    return SPDAttention(method="matmul", axis="channel")([regions, features])


LAYERS = {
    "bimap": lambda maps: BiMap(3)(covariances(maps)),
    "vech": lambda maps: Vech()(covariances(maps)),
    "unvech": lambda maps: Unvech()(vectors(maps, 6)),
    "re_eig": lambda maps: ReEig(0.5, method="matmul")(Covariance("spatial")(maps)),
    "log_eig": lambda maps: LogEig(0.1, method="matmul")(covariances(maps)),
    "exp_eig": lambda maps: ExpEig(method="matmul")(covariances(maps)),
    "bilinear": lambda maps: BilinearPool()(maps),
    "crops": lambda maps: RegionCrops(2)(maps),
    "affine": lambda maps: AffineSampling()([maps, vectors(maps, 6)]),
    "attention": attended,
}


@pytest.mark.parametrize("kind", LAYERS)
def test_exported_layers_agree(kind, tmp_path):
    inputs = keras.Input((4, 4, 6))
    x = np.random.default_rng(0).standard_normal((3, 4, 4, 6)).astype("float32")
    check_exported(keras.Model(inputs, LAYERS[kind](inputs)), x, tmp_path, tolerance=2e-4)


def backbone():
    return tiny_models.tiny_backbone(16)


MODELS = {
    "covpool": lambda: covpool(NAMES, 16, bimap_units=4, method="matmul"),
    "obsr": lambda: obsr(NAMES, 16, backbone(), shared=True),
    "slim_spd": lambda: slim_spd(NAMES, 16, width=8),
    "spd_attention": lambda: spd_attention(NAMES, 16, backbone(), crops=2, method="matmul"),
}


@pytest.mark.parametrize(
    ("name", "policy", "tolerance"),
    [(name, "float32", 1e-5) for name in MODELS] + [("spd_attention", "mixed_float16", 5e-3)],
)
def test_exported_models_agree(name, policy, tolerance, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = MODELS[name]()
    finally:
        keras.config.set_dtype_policy(before)
    x = np.random.default_rng(0).uniform(0, 255, (3, *model.input_shape[1:])).astype("float32")
    check_exported(model, x, tmp_path, tolerance)


@pytest.mark.parametrize("metric", ["affine_invariant", "log_euclidean"])
def test_exported_spdnet_agrees(metric, tmp_path):
    model = spdnet(3, 8, (4,), batch_normalization=True, metric=metric, method="matmul")
    features = np.random.default_rng(0).standard_normal((3, 8, 30)).astype("float32")
    check_exported(model, features @ features.swapaxes(1, 2) / 30, tmp_path, tolerance=1e-4)


def check_exported(model, x, folder, tolerance):
    """Exports a model, runs the file for two batch sizes and compares it with the model."""
    runtime = pytest.importorskip("onnxruntime")
    expected = ops.convert_to_numpy(model(x))
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(folder / "model.onnx")
    name = session.get_inputs()[0].name
    for batch in (1, 3):
        (result,) = session.run(None, {name: x[:batch]})
        np.testing.assert_allclose(result, expected[:batch], atol=tolerance)
