import keras
from keras import layers, ops

from kerasfer.layers import FusedBatchNormalization
from kerasfer.models.backbones import STAGES, STEMS, make_backbone, preprocessing
from kerasfer.models.heads import classify

DEPTHS = (4, 3, 2, 1)  # Of the masking block after each stage.


def res_masking(
    class_names, image_size=224, weights=None, stem="imagenet", frozen=False, dropout=0.0
):
    """Builds the residual masking network, a ResNet34 with an attention mask after each stage.

    After each stage a small U-Net computes a mask of the shape of the feature map, whose channels
    sum to 1 at each position. The feature map is multiplied by 1 + mask.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels: a multiple of 32, of 16 with the half stem, or
            of 8 with the small stem.
        weights: As in `make_backbone`, for the ResNet34. The weights of the masks are random.
        stem: As in `make_backbone`.
        frozen: Whether all layers except the classifier are frozen.
        dropout: Dropout rate before the classifier, in [0, 1). Its authors use 0.4.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Raises:
        ValueError: If the size is not such a multiple.

    Example:
        >>> res_masking(("happy", "sad"), image_size=48, stem="small").output_shape
        (None, 2)

    Source: Pham, Vu and Tran, Facial Expression Recognition Using Residual Masking Network, ICPR
    2020; the softmax over channels as in the authors' code.
    """
    multiple = 8 * (STEMS[stem].stride if stem in STEMS else 1)
    if image_size % multiple:
        raise ValueError(
            f"`image_size` of res_masking must be a multiple of {multiple} with the {stem} stem, "
            f"which halves it that often. Received: {image_size}."
        )
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    extractor = _masked_resnet(image_size, weights, stem)
    extractor.trainable = not frozen
    features = layers.GlobalAveragePooling2D(name="features")(extractor(preprocessing()(pictures)))
    return keras.Model(pictures, classify(features, class_names, dropout), name="res_masking")


def _masked_resnet(image_size, weights, stem):
    resnet = make_backbone("resnet34", image_size, weights, stem, stages=STAGES)
    pictures = keras.Input((image_size, image_size, 3))
    x, begin = pictures, resnet.input
    for stage, end, depth in zip(STAGES, resnet.outputs, DEPTHS, strict=True):
        x = keras.Model(begin, end, name=f"stage_{stage}")(x)
        x = x * (1 + _mask(x, depth, f"mask_{stage}"))
        begin = end
    return keras.Model(pictures, x, name="backbone")


def _mask(x, depth, name):
    """Adds a U-Net of residual blocks, with `depth` blocks on each side."""
    filters = [x.shape[-1] * 2**level for level in range(depth + 1)]
    seen = []
    for level in range(1, depth + 1):
        if level > 1:
            x = layers.MaxPooling2D(2, name=f"{name}_pool_{level}")(x)
        x = _block(x, filters[level], f"{name}_down_{level}")
        seen.append(x)
    for level in range(depth - 1, 0, -1):
        x = _enlarge(x, filters[level], f"{name}_enlarge_{level}")
        x = layers.Concatenate(name=f"{name}_join_{level}")([x, seen[level - 1]])
        x = _block(x, filters[level], f"{name}_up_{level}")
    return ops.softmax(_block(x, filters[0], f"{name}_up_0"), axis=-1)


def _block(x, filters, name):
    """Adds a basic block of a ResNet. Its last scale is initialized to 0."""
    shortcut = _norm(_conv(x, filters, 1, f"{name}_shortcut"), f"{name}_shortcut_norm")
    y = _norm(_conv(x, filters, 3, f"{name}_conv_1"), f"{name}_norm_1")
    y = layers.ReLU(name=f"{name}_relu_1")(y)
    y = _norm(_conv(y, filters, 3, f"{name}_conv_2"), f"{name}_norm_2", gamma_initializer="zeros")
    return layers.ReLU(name=f"{name}_relu_2")(layers.Add(name=f"{name}_add")([y, shortcut]))


def _enlarge(x, filters, name):
    x = layers.Conv2DTranspose(filters, 2, 2, name=f"{name}_conv")(x)
    return layers.ReLU(name=f"{name}_relu")(_norm(x, f"{name}_norm"))


def _conv(x, filters, size, name):
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return layers.Conv2D(
        filters, size, padding="same", use_bias=False, kernel_initializer=initializer, name=name
    )(x)


def _norm(x, name, **options):
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name=name, **options)(x)
