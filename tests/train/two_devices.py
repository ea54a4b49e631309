"""Trains on one device and on two, in a process of its own, and prints both results as JSON.

python tests/train/two_devices.py BACKEND OUTPUT_DIR
"""

import json
import os
import sys

BACKEND, OUTPUT_DIR = sys.argv[1:]
os.environ.update(KERAS_BACKEND=BACKEND, XLA_FLAGS="--xla_force_host_platform_device_count=2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tiny_models  # noqa: E402

from kerasfer.errors import RecipeError  # noqa: E402
from kerasfer.models import MODELS, spd_attention  # noqa: E402
from kerasfer.models.loading import load_model  # noqa: E402
from kerasfer.recipe.schema import Recipe  # noqa: E402
from kerasfer.train import train  # noqa: E402
from kerasfer.train.devices import find_devices  # noqa: E402

if BACKEND == "tensorflow":
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)


# The last batches, of training and of validation, are smaller than the first ones.
NUM_SAMPLES = 80


def tiny_still(class_names, image_size):
    """Has a kernel on the Stiefel manifold, and nothing random."""
    return spd_attention(
        class_names,
        image_size,
        tiny_models.tiny_backbone(image_size),
        crops=2,
        crop_mode="fixed",
        bimap_units=4,
        logreg_weight=1.0,
    )


MODELS["tiny_still"] = tiny_still


def sections(devices, name, **changes):
    recipe = {
        "name": f"{name}_{devices}",
        "data": {
            "name": "synthetic",
            "num_samples": NUM_SAMPLES,
            "image_size": 16,
            "batch_size": 16,
        },
        "evaluate": {"batch_size": 6},
        "model": {"name": "tiny_still"},
        "optimizer": {"name": "gc_sgd", "learning_rate": 0.01, "momentum": 0.9, "ema": 0.9},
        "train": {"epochs": 2, "tensorboard": False, "verbose": 0, "devices": devices},
    }
    return {
        key: value | changes.get(key, {}) if key != "name" else value
        for key, value in recipe.items()
    }


def run(devices, name):
    recipe = Recipe.model_validate(sections(devices, name))
    metrics = train(recipe, output_dir=OUTPUT_DIR)
    model = load_model(f"{metrics['run']}/model.keras")
    kernels = [v for v in model.trainable_variables if v.constraint is not None]
    (kernel,) = [np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in kernels]
    with open(f"{metrics['run']}/history.csv", encoding="utf-8") as file:
        history = file.read()
    with open(f"{metrics['run']}/environment.json", encoding="utf-8") as file:
        environment = json.load(file)
    return {
        "history": history,
        "num_devices": environment["num_devices"],
        "stiefel": float(abs(kernel @ kernel.T - np.eye(len(kernel))).max()),
        "weights": [np.asarray(w).ravel()[:50].tolist() for w in model.get_weights()],
        "synchronized": [
            layer.synchronized
            for part in model.layers
            for layer in getattr(part, "layers", [part])
            if isinstance(layer, keras.layers.BatchNormalization)
        ],
    }


def refused(devices, **changes):
    """Returns the error that a recipe causes, or None."""
    try:
        find_devices(Recipe.model_validate(sections(devices, "refused", **changes)))
    except RecipeError as error:
        return str(error)


results = {devices: run(devices, "run") for devices in (1, 2)}
results["auto"] = find_devices(Recipe.model_validate(sections("auto", "auto")))
results["refused"] = {
    "number": refused(3),
    "batch": refused(2, data={"batch_size": 9}),
    "evaluation_batch": refused(2, evaluate={"batch_size": 7}),
    "clip_norm": refused(2, optimizer={"clip_norm": 1.0}),
}
print(json.dumps(results))
