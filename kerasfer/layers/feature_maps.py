import keras
from keras import ops


def positions_and_channels(shape, data_format):
    """Returns the number of positions (`None` where unknown) and channels of a feature map."""
    if len(shape) < 3:
        raise ValueError(
            "Feature maps must have at least three dimensions, (batch, positions, channels). "
            f"Received: shape={tuple(shape)}."
        )
    spatial = shape[1:-1] if data_format == "channels_last" else shape[2:]
    channels = shape[-1] if data_format == "channels_last" else shape[1]
    positions = 1
    for size in spatial:
        positions = None if size is None or positions is None else positions * size
    return positions, channels


def as_rows(feature_map, data_format):
    """Flattens the positions of a feature map: (batch, ..., channels) → (batch, n, channels)."""
    positions, channels = positions_and_channels(feature_map.shape, data_format)
    # Only one size can be inferred: the batch size, or the number of positions if it is unknown.
    batch = -1 if positions else ops.shape(feature_map)[0]
    positions = positions or -1
    if data_format == "channels_last":
        return ops.reshape(feature_map, (batch, positions, channels))
    return ops.swapaxes(ops.reshape(feature_map, (batch, channels, positions)), 1, 2)


def axis_in_config(axis):
    """Returns the entries of a layer's config for an argument `axis` that is a string.

    Keras' loader for legacy `.h5` files removes any `axis` that is not an integer. The second entry
    keeps it; see `restore_axis`.
    """
    return {"axis": axis, "axis_name": axis}


def restore_axis(config):
    """Returns a layer's config with the `axis` that `axis_in_config` kept."""
    config = dict(config)
    name = config.pop("axis_name", None)
    return config if name is None else {"axis": name, **config}


def standardize_data_format(data_format):
    """Returns the data format, or Keras' image data format for `None`."""
    if data_format is None:
        return keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "`data_format` must be 'channels_last' or 'channels_first'. "
            f"Received: data_format={data_format!r}."
        )
    return data_format
