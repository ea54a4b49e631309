import keras
import numpy as np

from kerasfer.models.backbones import make_backbone, preprocessing
from kerasfer.models.heads import classify

# ITU-R BT.601, with which Pillow converts pictures too.
LUMINANCE = np.array([0.299, 0.587, 0.114], "float32")


def resnet18(class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0):
    """Builds a plain ResNet18 classifier, as `classifier` with `backbone="resnet18"`."""
    return classifier(class_names, image_size, "resnet18", weights, stem, frozen, dropout)


def resnet34(class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0):
    """Builds a plain ResNet34 classifier, as `classifier` with `backbone="resnet34"`."""
    return classifier(class_names, image_size, "resnet34", weights, stem, frozen, dropout)


def vgg16(class_names, image_size=224, weights=None, frozen=False, dropout=0.0):
    """Builds a plain VGG16 classifier, as `classifier` with `backbone="vgg16"`."""
    return classifier(class_names, image_size, "vgg16", weights, frozen=frozen, dropout=dropout)


def vgg19(class_names, image_size=224, weights=None, frozen=False, dropout=0.0):
    """Builds a plain VGG19 classifier, as `classifier` with `backbone="vgg19"`."""
    return classifier(class_names, image_size, "vgg19", weights, frozen=frozen, dropout=dropout)


def alexnet(class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0):
    """Builds a plain AlexNet classifier, as `classifier` with `backbone="alexnet"`."""
    return classifier(class_names, image_size, "alexnet", weights, stem, frozen, dropout)


def densenet121(class_names, image_size=224, weights=None, frozen=False, dropout=0.0):
    """Builds a plain DenseNet121 classifier, as `classifier` with `backbone="densenet121"`."""
    return classifier(
        class_names, image_size, "densenet121", weights, frozen=frozen, dropout=dropout
    )


def mobilenet_v3_small(class_names, image_size=224, weights=None, frozen=False, dropout=0.0):
    """Builds a plain MobileNetV3, small, as `classifier` with `backbone="mobilenet_v3_small"`."""
    return classifier(
        class_names, image_size, "mobilenet_v3_small", weights, frozen=frozen, dropout=dropout
    )


def mobilenet_v3_large(class_names, image_size=224, weights=None, frozen=False, dropout=0.0):
    """Builds a plain MobileNetV3, large, as `classifier` with `backbone="mobilenet_v3_large"`."""
    return classifier(
        class_names, image_size, "mobilenet_v3_large", weights, frozen=frozen, dropout=dropout
    )


def efficientnet_lite0(
    class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0
):
    """Builds a plain EfficientNet-Lite0, as `classifier` with `backbone="efficientnet_lite0"`."""
    return classifier(class_names, image_size, "efficientnet_lite0", weights, stem, frozen, dropout)


def efficientnet_lite0_cut(
    class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0
):
    """Builds a plain EfficientNet-Lite0 that ends before its last two blocks.

    It is `classifier` with `backbone="efficientnet_lite0_cut"`.
    """
    return classifier(
        class_names, image_size, "efficientnet_lite0_cut", weights, stem, frozen, dropout
    )


def efficientnet_lite0_stride16(
    class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0
):
    """Builds a plain EfficientNet-Lite0 that ends at its last feature map with a stride of 16.

    It is `classifier` with `backbone="efficientnet_lite0_stride16"`.
    """
    return classifier(
        class_names, image_size, "efficientnet_lite0_stride16", weights, stem, frozen, dropout
    )


def inception_resnet_v1(class_names, image_size=160, weights=None, frozen=False, dropout=0.0):
    """Builds a plain Inception-ResNet-v1, as `classifier` with `backbone="inception_resnet_v1"`."""
    return classifier(
        class_names, image_size, "inception_resnet_v1", weights, frozen=frozen, dropout=dropout
    )


def classifier(
    class_names,
    image_size=224,
    backbone="resnet18",
    weights=None,
    stem="imagenet",
    frozen=False,
    dropout=0.0,
    gray=False,
):
    """Builds a backbone with average pooling and softmax, the first-order baseline of both papers.

    Average pooling also replaces the two dense layers of 4096 units of VGG and AlexNet.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels.
        backbone: As in `kerasfer.models.make_backbone`.
        weights: As in `make_backbone`.
        stem: As in `make_backbone`.
        frozen: Whether the backbone is frozen.
        dropout: Dropout rate before the classifier, in [0, 1).
        gray: Whether color pictures are converted to gray first, for models trained on gray ones.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Example:
        >>> classifier(("happy", "sad"), image_size=48, stem="small").output_shape
        (None, 2)
    """
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    x = _convert_to_gray(pictures) if gray else pictures
    extractor = make_backbone(backbone, image_size, weights, stem, name="backbone")
    extractor.trainable = not frozen
    features = keras.layers.GlobalAveragePooling2D(name="features")(
        extractor(preprocessing(backbone)(x))
    )
    return keras.Model(pictures, classify(features, class_names, dropout), name="classifier")


def _convert_to_gray(pictures):
    """Replaces R, G and B by the luminance, with a convolution that every runtime has."""
    layer = keras.layers.Conv2D(3, 1, use_bias=False, trainable=False, name="gray")
    gray = layer(pictures)
    layer.set_weights([np.tile(np.reshape(LUMINANCE, (1, 1, 3, 1)), 3)])
    return gray
