import keras
from keras import layers

from kerasfer.layers import (
    BiMap,
    Covariance,
    FusedBatchNormalization,
    LogEig,
    SPDProject,
    Vech,
)
from kerasfer.models.backbones import preprocessing
from kerasfer.models.heads import classify

BLOCKS = (1, 2, 2)  # Residual blocks per stage. Each stage halves the size of the feature map.


def slim_spd(
    class_names,
    image_size=48,
    width=48,
    bimap_units=24,
    shrinkage=1e-3,
    epsilon=1e-6,
    method="matmul",
    dropout=0.0,
):
    """Builds a slim ResNet for phones, with a head of channel means and their covariance.

    The early stages of a ResNet are expensive at 48 px. Here one narrow convolution keeps the full
    size, and three stages of basic blocks follow at a half, a quarter and an eighth of it. The
    extractor consists of convolutions, batch normalization, ReLU and pooling, which int8 kernels
    support well. The head concatenates the channel means (first order) with the logarithm of the
    channel covariance (second order), which is computed with matrix products only.

    At 48 px, `width=48` has 1.5 million parameters and 0.1 G multiply-adds per face, a twelfth of
    ResNet18. Its last feature map is 6 × 6 × 192, spatially as large as ResNet18's, so that both
    can be compared position by position in distillation.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels, at least 16.
        width: Channels of the first stage, at least 2. The next two have twice and four times as
            many, and the stem half. Multiples of 16 suit int8 kernels.
        bimap_units: Output size of the `BiMap`, at most 4 · width.
        shrinkage: λ of `SPDProject`. The covariance of many channels at few positions is singular.
            λ bounds its condition number, and thereby the error of a float32 logarithm.
        epsilon: Smallest eigenvalue before the logarithm, for feature maps without variance.
        method: As in `kerasfer.layers.LogEig`.
        dropout: Dropout rate before the classifier, in [0, 1).

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Example:
        >>> slim_spd(("happy", "sad"), image_size=48).output_shape
        (None, 2)

    Source: He et al., Deep Residual Learning, CVPR 2016 (blocks); Acharya et al., Covariance
    Pooling for Facial Expression Recognition, CVPRW 2018 (head).
    """
    if width < 2:
        raise ValueError(f"`width` must be at least 2. Received: width={width}.")
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    x = _convolve(preprocessing()(pictures), width // 2, 3, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            x = _basic_block(x, width * 2**stage, 1 if block else 2, f"stage_{stage}_{block}")
    means = layers.GlobalAveragePooling2D(name="means")(x)
    x = Covariance(axis="channel", data_format="channels_last", name="covariance")(x)
    x = SPDProject(shrinkage, name="spd_project")(x)
    x = BiMap(bimap_units, name="bimap")(x)
    x = LogEig(epsilon, method=method, name="log_eig")(x)
    # The logarithms of small eigenvalues are much larger in magnitude than the means.
    x = layers.BatchNormalization(dtype="float32", name="tangent_norm")(Vech(name="vech")(x))
    x = layers.Concatenate(name="features")([means, x])
    return keras.Model(pictures, classify(x, class_names, dropout), name="slim_spd")


def _basic_block(x, filters, stride, name):
    shortcut = x
    if stride > 1:
        # Equivalent to a strided 1 × 1 convolution. With few channels, oneDNN's gradient of that
        # writes past its memory under PyTorch: it is wrong, hangs or crashes (oneDNN issue 6035).
        shortcut = layers.MaxPooling2D(1, stride, padding="same", name=f"{name}_every_second")(x)
        shortcut = _convolve(shortcut, filters, 1, 1, f"{name}_shortcut")
    x = layers.ReLU(name=f"{name}_relu_1")(_convolve(x, filters, 3, stride, f"{name}_1"))
    x = layers.Add(name=f"{name}_add")([shortcut, _convolve(x, filters, 3, 1, f"{name}_2")])
    return layers.ReLU(name=f"{name}_relu_2")(x)


def _convolve(x, filters, size, stride, name):
    x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return FusedBatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
