"""Keras' own export to ONNX, on the backends for which Keras brings the exporter."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasfer.layers import (
    AffineSampling,
    BilinearPool,
    BiMap,
    Covariance,
    LogEig,
    RegionCrops,
    SPDAttention,
    SPDProject,
    Unvech,
    Vech,
)

pytestmark = [
    pytest.mark.usefixtures("seed"),
    pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras needs jax2onnx for it."),
]


def vectors(maps, length):
    return keras.layers.Dense(length)(keras.layers.Flatten()(maps))


def attended(maps):
    regions = ops.reshape(maps, (-1, 2, 2, 4, 6))
    features = keras.layers.Reshape((2, 24))(vectors(maps, 48))
    return SPDAttention(method="matmul", axis="channel")([regions, features])


LAYERS = {
    "bimap": lambda maps: BiMap(3)(Covariance("channel")(maps)),
    "vech": lambda maps: Vech()(SPDProject()(Covariance("channel")(maps))),
    "unvech": lambda maps: Unvech()(vectors(maps, 6)),
    "log_eig": lambda maps: LogEig(method="matmul")(Covariance("channel")(maps)),
    "bilinear": lambda maps: BilinearPool()(maps),
    "crops": lambda maps: RegionCrops(2)(maps),
    "affine": lambda maps: AffineSampling()([maps, vectors(maps, 6)]),
    "attention": attended,
}


@pytest.mark.parametrize("kind", LAYERS)
def test_exported_layers_agree(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    inputs = keras.Input((4, 4, 6))
    model = keras.Model(inputs, LAYERS[kind](inputs))
    x = np.random.default_rng(0).standard_normal((3, 4, 4, 6)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    name = session.get_inputs()[0].name
    for batch in (1, 3):
        (result,) = session.run(None, {name: x[:batch]})
        np.testing.assert_allclose(result, expected[:batch], atol=2e-4)
