import keras


class SPDLayer(keras.layers.Layer):
    """Base class of SPD layers, which compute in float32 under half-precision policies.

    Covariances overflow float16, and bfloat16 rounds away their small eigenvalues, which the
    logarithm weights most. Under `mixed_float16`, `mixed_bfloat16` and the pure half-precision
    policies, these layers therefore compute and return float32. Keras casts their inputs to
    float32, and the inputs of the next layer back. float64 remains float64 on the backends whose
    Keras operations preserve it, which excludes torch.
    """

    def __init__(self, *, dtype=None, **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        if self.compute_dtype in ("float16", "bfloat16"):
            self.dtype_policy = keras.DTypePolicy("float32")
