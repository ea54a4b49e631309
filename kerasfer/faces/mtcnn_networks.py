"""Builds MTCNN's three networks as ONNX models, from the published weights."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from kerasfer.faces.onnx_sessions import serialize

# ONNX Runtime computes convolutions on blocks of 8 or 16 channels, depending on the processor.
# Depthwise convolutions are only fast if the number of channels is a multiple of the block.
BLOCK = 16


def proposal_network(weights):
    """Builds the network that scores every square of 12 pixels of a picture, two pixels apart.

    Args:
        weights: List of arrays, in the order and layout in which the package `mtcnn` stores them.

    Returns:
        A serialized ONNX model that maps `pictures`, uint8 `(n, h, w, 3)`, to box offsets
        `(n, h', w', 4)` and the probabilities of no face and of a face `(n, h', w', 2)`.
    """
    graph = _Graph(weights)
    x = graph.max_pool(graph.convolve(graph.pictures()), 2)
    x = graph.convolve(graph.convolve(x))
    outputs = [graph.add("Transpose", graph.project(x), perm=[0, 2, 3, 1]) for _ in range(2)]
    return graph.serialize(outputs, ("height", "width"))


def refinement_network(weights):
    """Builds the network that filters the proposals.

    Args:
        weights: As for `proposal_network`.

    Returns:
        A serialized ONNX model that maps `pictures`, uint8 `(n, 24, 24, 3)`, to box offsets
        `(n, 4)` and probabilities `(n, 2)`.
    """
    graph = _Graph(weights)
    x = graph.max_pool(graph.convolve(graph.pictures()), 3)
    x = graph.max_pool(graph.convolve(x), 3, ceil=False)
    x = graph.hidden_layer(graph.convolve(x))
    return graph.serialize([graph.dense(x) for _ in range(2)], (24, 24))


def output_network(weights):
    """Builds the network that refines the boxes and locates the landmarks.

    Args:
        weights: As for `proposal_network`.

    Returns:
        A serialized ONNX model that maps `pictures`, uint8 `(n, 48, 48, 3)`, to box offsets
        `(n, 4)`, landmarks `(n, 10)`, five x before five y, and probabilities `(n, 2)`.
    """
    graph = _Graph(weights)
    x = graph.max_pool(graph.convolve(graph.pictures()), 3)
    x = graph.max_pool(graph.convolve(x), 3, ceil=False)
    x = graph.max_pool(graph.convolve(x), 2)
    x = graph.hidden_layer(graph.convolve(x))
    return graph.serialize([graph.dense(x) for _ in range(3)], (48, 48))


class _Graph:
    """Collects the nodes and constants of an ONNX graph, and consumes the weights one by one."""

    def __init__(self, weights):
        self.weights = iter(weights)
        self.nodes = []
        self.constants = []

    def add(self, operator, *inputs, **attributes):
        """Appends a node; returns the name of its output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values):
        name = f"constant_{len(self.constants)}"
        values = np.ascontiguousarray(values, dtype="float32")
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def pictures(self):
        """Scales the input to [-1, 1] and moves its channels first."""
        x = self.add("Cast", "pictures", to=TensorProto.FLOAT)
        x = self.add("Mul", self.add("Sub", x, self.constant(127.5)), self.constant(1 / 128))
        return self.add("Transpose", x, perm=[0, 3, 1, 2])

    def convolve(self, x):
        """Convolves without padding and applies the parametric ReLU.

        The channels are padded with zeros to a multiple of `BLOCK`. The activation is computed as
        `slope * x + (1 - slope) * relu(x)` with two depthwise convolutions, which keep ONNX
        Runtime's blocked layout: the operator PRelu does not and takes half of the whole time.
        """
        kernel, bias, slope = next(self.weights), next(self.weights), next(self.weights).ravel()
        _, _, channels, filters = kernel.shape
        more, more_channels = -filters % BLOCK, 0 if channels == 3 else -channels % BLOCK
        kernel = np.pad(
            kernel.transpose(3, 2, 0, 1), ((0, more), (0, more_channels), *2 * [(0, 0)])
        )
        bias, slope = np.pad(bias, (0, more)), np.pad(slope, (0, more)).reshape(-1, 1, 1, 1)
        x = self.add("Conv", x, self.constant(kernel), self.constant(bias))
        positive = self.add("Relu", x)
        x, positive = (
            self.add("Conv", part, self.constant(factor), group=filters + more)
            for part, factor in ((x, slope), (positive, 1 - slope))
        )
        return self.add("Add", x, positive)

    def project(self, x):
        """Applies a convolution of 1 × 1 pixels without an activation."""
        kernel, bias = next(self.weights), next(self.weights)
        return self.add("Conv", x, self.constant(kernel.transpose(3, 2, 0, 1)), self.constant(bias))

    def max_pool(self, x, size, ceil=True):
        """Applies max-pooling with stride 2. `ceil` includes windows beyond the edge."""
        options = {"kernel_shape": [size, size], "strides": [2, 2], "ceil_mode": int(ceil)}
        return self.add("MaxPool", x, **options)

    def hidden_layer(self, x):
        """Applies the hidden dense layer with its parametric ReLU to flattened feature maps."""
        # The weights come from a column-major library: width, height, channels.
        x = self.add("Flatten", self.add("Transpose", x, perm=[0, 3, 2, 1]))
        return self.add("PRelu", self.dense(x), self.constant(next(self.weights)))

    def dense(self, x):
        kernel, bias = next(self.weights), next(self.weights)
        return self.add("Gemm", x, self.constant(kernel), self.constant(bias))

    def serialize(self, outputs, sides):
        """Serializes the model; the last output becomes probabilities."""
        *outputs, logits = outputs
        outputs = [*outputs, self.add("Softmax", logits, axis=-1)]
        shape = ("n", *sides, 3)
        return serialize(
            self.nodes,
            [helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
