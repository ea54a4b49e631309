"""Copies a model to float32, and to a form that a runtime supports."""

import keras

from kerasfer.keras_internals import flatten_layers

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def rebuild(model, method=None):
    """Copies a model with its weights to float32.

    Only the configuration changes, so custom layers are kept at any depth.

    Args:
        model: A `keras.Model`.
        method: `"matmul"` removes the eigendecompositions from the spectral layers; `None` leaves
            the layers unchanged.

    Returns:
        A `keras.Model` with the same weights.

    Example:

    ```python
    rebuild(model, method="matmul").export("model.onnx", format="onnx")
    ```
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    _change(config, method)
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(model.get_weights())
    return copy


def is_half(model):
    """Returns whether any layer of a model, at any depth, computes in half precision."""
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in flatten_layers(model))


def _change(value, method):
    if isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict):
            if value.get("class_name") == "DTypePolicy" and config.get("name") in HALF:
                config["name"] = "float32"
            if method and str(value.get("registered_name")).startswith("kerasfer>"):
                # Only the spectral layers of kerasfer have a `method`.
                config.update({"method": method} if "method" in config else {})
        if value.get("dtype") in HALF:
            value["dtype"] = "float32"
        for inner in value.values():
            _change(inner, method)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _change(inner, method)
