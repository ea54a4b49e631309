import keras

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def rebuild(model, method=None):
    """Copies a model with its weights, all of it in float32.

    Only the configuration is changed, so that a layer that this package has never heard of, at any
    depth, stays what it is.

    Args:
        model: A `keras.Model`.
        method: `"matmul"` takes the eigendecompositions out of the spectral layers; `None` leaves
            them as they are.

    Returns:
        A `keras.Model` with the same weights.

    Example:
        >>> rebuild(model, method="matmul").export("model.onnx", format="onnx")
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    _change(config, method)
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(model.get_weights())
    return copy


def is_half(model):
    """Tells whether any of a model's layers, at any depth, computes in half precision."""
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in model._flatten_layers())


def _change(value, method):
    if isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict):
            if value.get("class_name") == "DTypePolicy" and config.get("name") in HALF:
                config["name"] = "float32"
            if method and str(value.get("registered_name")).startswith("kerasfer>"):
                # Of our layers only the spectral ones have a `method`.
                config.update({"method": method} if "method" in config else {})
        if value.get("dtype") in HALF:
            value["dtype"] = "float32"
        for inner in value.values():
            _change(inner, method)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _change(inner, method)
