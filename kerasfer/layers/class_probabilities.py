import keras


@keras.saving.register_keras_serializable(package="kerasfer")
class ClassProbabilities(keras.layers.Layer):
    """Turns logits into probabilities by a softmax in float32, and remembers the classes' names.

    As the last layer it makes a saved model self-describing: whoever loads it, in any process,
    reads the names off `model.layers[-1].class_names`.

    Args:
        class_names: One string a class, in the order of the logits.

    Input shape:
        `(batch, num_classes)`.

    Output shape:
        The same; float32, each row sums to 1.

    Example:
        >>> ClassProbabilities(["happy", "sad"])(logits)
    """

    def __init__(self, class_names, *, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.class_names = tuple(class_names)

    def build(self, input_shape):
        if input_shape[-1] != len(self.class_names):
            raise ValueError(
                "There must be one logit a class. Received: "
                f"input_shape={tuple(input_shape)}, class_names={self.class_names}."
            )

    def call(self, inputs):
        # Not ops.softmax: this one keeps the logits for a stable cross entropy.
        return keras.activations.softmax(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "class_names": list(self.class_names)}
