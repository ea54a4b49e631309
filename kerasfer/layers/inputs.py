"""Casts inputs that do not have the floating-point type of a layer."""

import keras
from keras import ops


def as_float(inputs, layer):
    """Casts integers and booleans to a layer's compute type, as `keras.layers.Dense` does.

    Keras itself casts floating-point inputs only.

    Args:
        inputs: A tensor.
        layer: The `keras.Layer` that received it.

    Returns:
        A floating-point tensor.

    Raises:
        ValueError: If the input is complex.
    """
    inputs = ops.convert_to_tensor(inputs)
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype.startswith("complex"):
        raise ValueError(
            f"{type(layer).__name__} requires real inputs. Received: dtype={dtype}. Use "
            "`keras.ops.real`, `keras.ops.imag` or `keras.ops.abs` first."
        )
    return inputs if "float" in dtype else ops.cast(inputs, layer.compute_dtype)


def as_pictures(pictures, dtype):
    """Casts resampled pictures back to their original type, as `keras.layers.Resizing` does.

    Integers are rounded. Booleans are true where any true pixel contributes.
    """
    dtype = keras.backend.standardize_dtype(dtype)
    if "float" in dtype:
        return pictures
    return (
        ops.cast(pictures, dtype)
        if dtype == "bool"
        else ops.saturate_cast(ops.round(pictures), dtype)
    )


def picture_dtype(pictures, layer):
    """Returns the dtype of the pictures that a layer returns for symbolic inputs."""
    dtype = keras.backend.standardize_dtype(pictures.dtype)
    return layer.compute_dtype if "float" in dtype else dtype
