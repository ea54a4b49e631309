import keras
from keras import ops

from kerasfer.layers import RegionCrops, SPDAttention
from kerasfer.models.backbones import make_backbone, preprocessing
from kerasfer.models.heads import classify


def spd_attention(
    class_names,
    image_size=224,
    backbone="resnet18",
    weights=None,
    stem="imagenet",
    feature_stage="P5",
    crops=5,
    crop_mode="random",
    crop_area=0.75,
    axis="spatial",
    bimap_units=None,
    shrinkage=1e-4,
    epsilon=1e-4,
    logreg_weight=1e-3,
    logreg_form="squared",
    normalize=True,
    method="eigh",
    frozen=False,
    dropout=0.0,
):
    """Builds SPD-Attention, which weights regions of a face by the covariance of their features.

    A shared backbone processes the face and crops of it. The second-order statistics of each
    region's feature map determine the weight of its feature vector, and the weighted sum of the
    vectors is classified.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels.
        backbone: As in `kerasfer.models.make_backbone`.
        weights: As in `make_backbone`.
        stem: As in `make_backbone`.
        feature_stage: Stage whose feature map the covariance uses, `"P2"` to `"P5"`. The feature
            vectors always come from the last stage.
        crops, crop_mode, crop_area: As `crops`, `mode` and `area` of `kerasfer.layers.RegionCrops`.
            With the mode `"landmarks"` there is one crop per landmark.
        axis, shrinkage, epsilon, logreg_weight, logreg_form, normalize, method: As in
            `kerasfer.layers.SPDAttention`.
        bimap_units: Its `units`.
        frozen: Whether the backbone is frozen.
        dropout: Dropout rate before the classifier, in [0, 1).

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255] →
        probabilities `(batch, num_classes)`. With landmarks the input is a dict of `"pictures"` and
        `"landmarks"`, as in `kerasfer.data.batches.Batches`.

    Example:
        >>> spd_attention(("happy", "sad"), image_size=48, stem="small").output_shape
        (None, 2)

    Source: Du et al., Local-manifold Attention for Facial Expression Recognition, 2022.
    """
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    inputs, scaled = pictures, preprocessing(backbone)(pictures)
    if crop_mode == "landmarks":
        landmarks = keras.Input((crops, 2), name="landmarks")
        inputs, scaled = {"pictures": pictures, "landmarks": landmarks}, [scaled, landmarks]
    crop = RegionCrops(
        crops, crop_mode, crop_area, data_format="channels_last", name="region_crops"
    )
    regions = crop(scaled)
    flat = ops.reshape(regions, (-1, image_size, image_size, 3))
    extractor = make_backbone(
        backbone, image_size, weights, stem, stages=(feature_stage, "P5"), name="backbone"
    )
    extractor.trainable = not frozen
    maps, last_maps = extractor(flat)
    vectors = keras.layers.GlobalAveragePooling2D(name="features")(last_maps)
    attended = SPDAttention(
        units=bimap_units,
        axis=axis,
        shrinkage=shrinkage,
        epsilon=epsilon,
        logreg_weight=logreg_weight,
        logreg_form=logreg_form,
        normalize=normalize,
        method=method,
        data_format="channels_last",
        name="spd_attention",
    )(
        [
            ops.reshape(maps, (-1, 1 + crops, *maps.shape[1:])),
            ops.reshape(vectors, (-1, 1 + crops, vectors.shape[-1])),
        ]
    )
    return keras.Model(inputs, classify(attended, class_names, dropout), name="spd_attention")
