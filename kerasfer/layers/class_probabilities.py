import keras

from kerasfer.layers.inputs import as_float


@keras.saving.register_keras_serializable(package="kerasfer")
class ClassProbabilities(keras.layers.Layer):
    """Turns logits into probabilities by a softmax in float32, and stores the class names.

    If it is the last layer of a model, the names are saved with the model. After loading, they are
    available as `model.layers[-1].class_names`.

    Args:
        class_names: One string for each class, in the order of the logits.

    Input shape:
        `(batch, num_classes)`.

    Output shape:
        Same as the input; float32. Each row sums to 1.

    Example:
        >>> logits = keras.ops.array([[0.0, 0.0]])
        >>> keras.ops.convert_to_numpy(ClassProbabilities(["happy", "sad"])(logits)).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, class_names, *, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.class_names = tuple(class_names)

    def build(self, input_shape):
        if input_shape[-1] != len(self.class_names):
            raise ValueError(
                "There must be one logit for each class. Received: "
                f"input_shape={tuple(input_shape)}, class_names={self.class_names}."
            )

    def call(self, inputs):
        # Unlike `ops.softmax`, this keeps the logits for a stable cross entropy.
        return keras.activations.softmax(as_float(inputs, self))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "class_names": list(self.class_names)}
