from typing import get_args

import keras
from keras import ops

from kerasfer import linalg
from kerasfer.layers.feature_maps import (
    as_rows,
    axis_in_config,
    positions_and_channels,
    restore_axis,
    standardize_data_format,
)
from kerasfer.layers.inputs import as_float
from kerasfer.layers.spd_layer import SPDLayer
from kerasfer.options import Axis


@keras.saving.register_keras_serializable(package="kerasfer")
class Covariance(SPDLayer):
    """Computes the covariance matrix of the positions or of the channels of feature maps.

    With `axis="spatial"`, each channel is one sample of all positions, and the matrix is wh × wh.
    It describes which positions of the face vary together. With `axis="channel"`, each position is
    one sample of all channels, and the matrix is c × c. If there are fewer samples than rows, the
    matrix is singular. `SPDProject` or the `epsilon` of `LogEig` then makes it positive definite.

    Args:
        axis: `"spatial"` or `"channel"`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras' image data format.

    Input shape:
        `(batch, ..., channels)`, or `(batch, channels, ...)` for `"channels_first"`.

    Output shape:
        `(batch, n, n)`, where n is the number of positions or channels; float32.

    Example:
        >>> feature_maps = ops.ones((8, 7, 7, 512))
        >>> tuple(Covariance(axis="spatial", data_format="channels_last")(feature_maps).shape)
        (8, 49, 49)

    Source: Du et al. 2022, equation (2); `"channel"`: Acharya et al., Covariance Pooling for
    Facial Expression Recognition, CVPRW 2018.
    """

    def __init__(self, axis="spatial", data_format=None, **kwargs):
        super().__init__(**kwargs)
        if axis not in get_args(Axis):
            raise ValueError(f"`axis` must be 'spatial' or 'channel'. Received: axis={axis!r}.")
        self.axis = axis
        self.data_format = standardize_data_format(data_format)

    def build(self, input_shape):
        positions, channels = positions_and_channels(input_shape, self.data_format)
        variables, samples = positions, channels
        if self.axis == "channel":
            variables, samples = channels, positions
        if variables is None:
            raise ValueError(
                f"The size of the covariance along axis={self.axis!r} must be known. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        if samples == 1:
            raise ValueError(
                "A covariance needs at least two samples. "
                f"Received: one, with axis={self.axis!r} and input_shape={tuple(input_shape)}."
            )

    def call(self, inputs):
        rows = as_rows(as_float(inputs, self), self.data_format)
        if self.axis == "channel":
            rows = ops.swapaxes(rows, 1, 2)
        return linalg.covariance(rows)

    def compute_output_shape(self, input_shape):
        positions, channels = positions_and_channels(input_shape, self.data_format)
        size = positions if self.axis == "spatial" else channels
        return (input_shape[0], size, size)

    def get_config(self):
        config = {**super().get_config(), "data_format": self.data_format}
        return {**config, **axis_in_config(self.axis)}

    @classmethod
    def from_config(cls, config):
        return super().from_config(restore_axis(config))


@keras.saving.register_keras_serializable(package="kerasfer")
class SPDProject(SPDLayer):
    """Makes covariance matrices positive definite by adding a fraction of their trace.

    The output is X + λ tr(X) I.

    Args:
        shrinkage: Non-negative float, λ. The smallest eigenvalue becomes at least λ · tr(X).

    Input shape:
        `(..., n, n)`, symmetric positive semi-definite.

    Output shape:
        Same as the input; float32.

    Example:
        >>> covariances = ops.array([[[3.0, 0.0], [0.0, 1.0]]])
        >>> ops.convert_to_numpy(SPDProject(0.5)(covariances))[0].tolist()
        [[5.0, 0.0], [0.0, 3.0]]

    Source: Du et al. 2022, equation (4).
    """

    def __init__(self, shrinkage=1e-4, **kwargs):
        super().__init__(**kwargs)
        if shrinkage < 0:
            raise ValueError(f"`shrinkage` must not be negative. Received: shrinkage={shrinkage}.")
        self.shrinkage = shrinkage

    def build(self, input_shape):
        linalg.check_square(input_shape)

    def call(self, inputs):
        return linalg.shrink(as_float(inputs, self), self.shrinkage)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "shrinkage": self.shrinkage}
