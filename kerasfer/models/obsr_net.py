import keras

from kerasfer.layers import BilinearPool
from kerasfer.models.backbones import make_backbone, preprocessing
from kerasfer.models.heads import classify


def obsr(
    class_names,
    image_size=224,
    backbone="resnet34",
    weights=None,
    stem="imagenet",
    shared=False,
    frozen=False,
    dropout=0.0,
):
    """Builds OBSR-Net: two feature extractors, bilinear pooling and softmax.

    The outer products of the two extractors' channels at each position are summed over all
    positions, so the extractors can specialize, for example on location and appearance.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels.
        backbone: As in `kerasfer.models.make_backbone`. If it is a `keras.Model`, the second
            extractor is a copy with the same weights.
        weights: As in `make_backbone`.
        stem: As in `make_backbone`.
        shared: Whether both extractors share their weights, at half the computation.
        frozen: Whether the extractors are frozen.
        dropout: Dropout rate before the classifier, in [0, 1).

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Example:
        >>> obsr(("happy", "sad"), image_size=48, stem="small", shared=True).output_shape
        (None, 2)

    Source: Lyu et al., Facial Expression Recognition via Optimized Bilinear ResNet34, 2024,
    section 2.3.
    """
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    scaled = preprocessing(backbone)(pictures)
    extractor = make_backbone(backbone, image_size, weights, stem, name="extractor_a")
    extractor.trainable = not frozen
    maps = [extractor(scaled)]
    if not shared:
        other = _another(extractor, backbone, image_size, weights, stem)
        other.trainable = not frozen
        maps.append(other(scaled))
    pool = BilinearPool(data_format="channels_last", name="bilinear_pool")
    features = pool(maps[0] if shared else maps)
    return keras.Model(pictures, classify(features, class_names, dropout), name="obsr")


def _another(extractor, backbone, image_size, weights, stem):
    if not isinstance(backbone, keras.Model):
        return make_backbone(backbone, image_size, weights, stem, name="extractor_b")
    other = keras.models.clone_model(extractor)
    other.set_weights(extractor.get_weights())
    other.name = "extractor_b"
    return other
