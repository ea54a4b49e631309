"""Trains on several devices, by the data parallelism of the backends.

Every device computes a part of each batch, and all of them apply the mean of the gradients. The
batch of the recipe is the global one, so a training takes the same steps as on one device.

Batch normalization uses the statistics of the global batch, as on one device: JAX computes every
operation on the global batch, and on TensorFlow the layers are synchronized. Random layers, such as
dropout and random crops, draw the same numbers as on one device with JAX. With TensorFlow each
device draws numbers of its own. The gradients on TensorFlow are those of one device, but the
reported training loss counts the penalty of a layer, such as `logreg_weight`, more than once,
because Keras collects the penalties of all devices in one list.

The pictures at the end of an epoch that cannot be shared evenly are left out. They are fewer than
there are devices, and other ones in each epoch. Such pictures at the end of the validation split
are left out too, because Keras shares all batches of a pass as it shares the first one. The test
split is always evaluated completely, by one device.

Several processes that train together on JAX use all their devices, each with an equal number of
them, and each process prepares the part of a batch that its own devices compute.
"""

import contextlib
import functools

import keras

from kerasfer.errors import RecipeError
from kerasfer.keras_internals import flatten_layers
from kerasfer.recipe.sharing import check_even
from kerasfer.runs.environment import accelerators
from kerasfer.train.processes import count_processes


def find_devices(recipe):
    """Returns the names of the devices that a recipe trains on, such as `["gpu:0", "gpu:1"]`.

    Several processes use all devices of all of them, and `train.devices` must be `auto`.

    Args:
        recipe: `kerasfer.recipe.Recipe`.

    Raises:
        RecipeError: If there are fewer devices than `train.devices`, or if the backend or the
            recipe does not support several of them.
    """
    processes = count_processes()
    wanted, backend = recipe.train.devices, keras.backend.backend()
    found = accelerators() or (
        ["cpu:0"] if backend == "torch" else keras.distribution.list_devices()
    )
    if wanted == "auto":
        # Several CPU devices share the same cores, and PyTorch uses one device.
        several = "cpu" not in found[0].lower() and backend != "torch"
        wanted = len(found) if several or processes > 1 else 1
    elif processes > 1:
        raise RecipeError(
            f"train.devices must be auto for {processes} processes. Received: {wanted}."
        )
    if wanted == 1:
        return found[:1]
    if backend == "torch":
        raise RecipeError(
            f"train.devices is {wanted}, but several devices are unsupported on torch. Use "
            "--backend jax or --backend tensorflow, or set train.devices to 1."
        )
    if wanted > len(found):
        raise RecipeError(
            f"train.devices is {wanted}, but {backend} finds {len(found)}: {', '.join(found)}. "
            "Lower it, or set it to auto."
        )
    check_even(recipe, wanted, "devices")
    if backend == "tensorflow":
        _check_tensorflow(recipe, wanted)
    return found[:wanted]


@contextlib.contextmanager
def parallel(devices):
    """Distributes what is built and fitted within the block over devices.

    Args:
        devices: The names that `find_devices` returns. A single one changes nothing.
    """
    if len(devices) == 1:
        yield
    elif keras.backend.backend() == "jax":
        # `Batches` gives each process its own part.
        with keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False).scope():
            yield
    else:
        with _mirrored(tuple(devices)).scope():
            yield


def synchronize(model, devices):
    """Makes the batch normalization of a model use the statistics of the global batch."""
    if len(devices) > 1 and keras.backend.backend() == "tensorflow":
        for layer in _normalizations(model):
            layer.synchronized = True


@contextlib.contextmanager
def without_synchronization(model):
    """Lets a model be saved for one device: other backends refuse synchronized layers."""
    changed = [layer for layer in _normalizations(model) if layer.synchronized]
    for layer in changed:
        layer.synchronized = False
    try:
        yield
    finally:
        for layer in changed:
            layer.synchronized = True


@functools.cache
def _mirrored(devices):
    """Returns the strategy of TensorFlow, one per process: two would mix up their collectives."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([f"/device:{name.upper()}" for name in devices])


def _normalizations(model):
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _check_tensorflow(recipe, wanted):
    """Refuses what MirroredStrategy computes differently from one device, or not at all."""
    refused = {
        # Keras clips the gradient of each device, not their mean.
        "optimizer.clip_norm": recipe.optimizer.clip_norm is not None,
        # Keras' loss scaling fails inside of a strategy.
        "train.precision: mixed_float16": recipe.train.precision == "mixed_float16",
        "train.log_gradient_norm": recipe.train.log_gradient_norm is not None,
        "distill": recipe.distill is not None,
    }
    if given := [key for key, present in refused.items() if present]:
        raise RecipeError(
            f"train.devices is {wanted}, with which {' and '.join(given)} "
            f"{'is' if len(given) == 1 else 'are'} unsupported on tensorflow. Use --backend jax, "
            "or set train.devices to 1."
        )
