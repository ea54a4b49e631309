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
from kerasfer.models.backbones import make_backbone, preprocessing
from kerasfer.models.heads import classify


def covpool(
    class_names,
    image_size=100,
    bimap_units=128,
    shrinkage=1e-4,
    epsilon=1e-4,
    logreg_weight=0.0,
    logreg_form="squared",
    method="eigh",
    dropout=0.0,
    backbone=None,
    weights=None,
    stem="imagenet",
    frozen=False,
):
    """Builds Covariance Pooling, a convolutional network with a covariance of its channels.

    By default the network is the small one of the paper. At 100 px its covariance of 256 channels
    is computed from 144 positions, so it is always singular and more than 100 of its eigenvalues
    are equal.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels, at least 16.
        bimap_units: Output size of the `BiMap`, at most the number of channels.
        shrinkage, epsilon, logreg_weight, logreg_form, method: As in
            `kerasfer.layers.SPDAttention`.
        dropout: Dropout rate before the classifier, in [0, 1).
        backbone: The network: `None` for that of the paper, or as in
            `kerasfer.models.make_backbone`.
        weights, stem: As in `make_backbone`. The network of the paper has neither.
        frozen: Whether the `backbone` is frozen.

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`.

    Example:
        >>> covpool(("happy", "sad")).output_shape
        (None, 2)

    Source: Acharya et al., Covariance Pooling for Facial Expression Recognition, CVPRW 2018,
    table 2, model 2.
    """
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    x = preprocessing(backbone)(pictures)
    if backbone is None:
        if (weights, stem, frozen) != (None, "imagenet", False):
            raise ValueError(
                "`weights`, `stem` and `frozen` belong to a `backbone`, which is None. "
                f"Received: weights={weights!r}, stem={stem!r}, frozen={frozen}."
            )
        x = _small_network(x)
    else:
        extractor = make_backbone(backbone, image_size, weights, stem, name="backbone")
        extractor.trainable = not frozen
        x = extractor(x)
    x = Covariance(axis="channel", data_format="channels_last", name="covariance")(x)
    x = SPDProject(shrinkage, name="spd_project")(x)
    x = BiMap(bimap_units, name="bimap")(x)
    x = LogEig(epsilon, logreg_weight, logreg_form, method, name="log_eig")(x)
    x = Vech(name="vech")(x)
    x = layers.Dense(2000, activation="relu", name="dense_1")(x)
    x = layers.Dense(128, name="dense_2")(x)
    return keras.Model(pictures, classify(x, class_names, dropout), name="covpool")


def _small_network(x):
    """Adds the convolutions of the paper."""
    for number, filters in enumerate((64, "pool", 96, "pool", 128, 128, "pool", 256, 256)):
        if filters == "pool":
            x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
            continue
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{number}")(x)
        x = FusedBatchNormalization(momentum=0.9, name=f"norm_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
    return x
