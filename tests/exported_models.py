"""Models and runs to export: tiny, but sure of what they say, so that no tie decides."""

import keras
import numpy as np
import tiny_models
from keras import layers

from kerasfer.data import load_dataset
from kerasfer.layers import BiMap, ClassProbabilities, Covariance, LogEig, SPDProject, Vech
from kerasfer.recipe import dump
from kerasfer.recipe.schema import Recipe

NAMES = load_dataset("synthetic", num_samples=7).class_names
SIZE = 16


def confident(model):
    """Enlarges the last weights, so that the classes' probabilities lie far apart."""
    logits = model.get_layer("logits")
    logits.kernel.assign(40 * logits.kernel)
    return model


def make_model(name="tiny_spd", policy="float32"):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return confident(getattr(tiny_models, name)(NAMES, SIZE))
    finally:
        keras.config.set_dtype_policy(before)


def make_covariance_model():
    """Builds a classifier of covariances, without an eigendecomposition."""
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = layers.Conv2D(6, 3, 2, activation="relu")(layers.Rescaling(1 / 255)(inputs))
    spd = SPDProject(1e-2)(Covariance("channel", data_format="channels_last")(maps))
    features = Vech()(LogEig(1e-4, method="matmul")(BiMap(4)(spd)))
    hidden = layers.Dense(32, "relu")(features)
    return keras.Model(inputs, ClassProbabilities(NAMES)(layers.Dense(7, name="logits")(hidden)))


def make_run(folder, model, name="faces", data=None):
    """Writes what `kerasfer export` needs of a run's folder."""
    data = {"image_size": SIZE, **(data or {"name": "synthetic", "num_samples": 140})}
    recipe = Recipe.model_validate({"name": name, "data": data, "model": {"name": "spd_attention"}})
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("recipe.yaml").write_text(dump(recipe))
    model.save(folder / "model.keras")
    return folder


def pictures(count, seed=0):
    """Draws faces, float32 `(count, SIZE, SIZE, 3)` of whole numbers in [0, 255]."""
    from kerasfer.data.pictures import resize

    samples = load_dataset("synthetic", num_samples=max(count, 7))
    drawn = [resize(samples.picture(index), SIZE) for index in range(count)]
    return np.stack(drawn).astype("float32")


def metadata(quantize="none"):
    return {
        "name": "faces",
        "class_names": list(NAMES),
        "image_size": SIZE,
        "quantize": quantize,
    }
