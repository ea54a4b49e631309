import keras


class SPDLayer(keras.layers.Layer):
    """Base of the layers on SPD matrices: computes in float32 under half-precision policies.

    A covariance overflows float16, and its small eigenvalues, which the logarithm weighs most,
    drown in bfloat16. Under `mixed_float16`, `mixed_bfloat16` and the pure half types these layers
    therefore take and return float32; Keras casts their inputs up and the next layer's down.
    float64 stays float64 where Keras' operations keep it, which those on torch do not.
    """

    def __init__(self, *, dtype=None, **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        if self.compute_dtype in ("float16", "bfloat16"):
            self.dtype_policy = keras.DTypePolicy("float32")
