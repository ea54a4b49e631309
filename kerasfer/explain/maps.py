"""Computes heat maps, the attention of regions, and the contributions of pairs of positions.

Heat maps have the size of the pictures. The size of the feature map does not matter.
"""

import numpy as np
from keras import ops
from PIL import Image

from kerasfer.explain.gradients import compute, cut, part, to_numpy
from kerasfer.layers import BilinearPool, Covariance, RegionCrops, SPDAttention

BATCH_SIZE = 16  # Pictures whose gradients are computed at once.


def heat_map(model, images, class_index=None, *, method=None):
    """Computes heat maps of the positions that increase the logit of a class (Grad-CAM).

    The channels of the last feature map are weighted by the mean gradient of the logit and summed.
    Negative values are set to zero. If a model has several last feature maps, such as those of two
    feature extractors or of the regions of SPD-Attention, each map is enlarged to its region of
    the picture, and the maps are summed.

    The covariance of channels does not change if a constant is added to all positions, so the mean
    of its gradient is zero except for rounding errors. For models with such a pooling, each
    position is therefore weighted by its own gradient (HiResCAM). For global average pooling both
    methods give the same result.

    Args:
        model: A functional `keras.Model` of kerasfer.
        images: float32 RGB `(n, S, S, 3)` in [0, 255], where S is the input size of the model.
        class_index: int, or int `(n,)`. `None` selects the most probable class of each picture.
        method: A key of `METHODS`. `None` selects `"hires_cam"` for models with a covariance of
            channels and `"grad_cam"` for others.

    Returns:
        float32 `(n, S, S)` in [0, 1]. The maximum of each map is 1, or 0 if no position increases
        the logit.

    Raises:
        NoFeatureMap: If the model has no feature map of several positions.

    Example:

    ```python
    model = load_model("runs/quickstart/model.keras")
    heat_map(model, images)  # (8, 48, 48) for images of the shape (8, 48, 48, 3)
    ```

    Reference:

    - Selvaraju et al., Grad-CAM, ICCV 2017.
    - Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020, equation (8).
    - Du et al., 2022, figure 6.
    """
    if method is None:
        method = "hires_cam" if _pools_by_covariance(model) else "grad_cam"
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}.")
    parts = cut(model)
    size = images.shape[1]
    summed = np.zeros((len(images), size, size), "float32")
    boxes = None
    for start in range(0, len(images), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        target = class_index if np.ndim(class_index) == 0 else np.asarray(class_index)[batch]
        maps = parts.maps(images[batch])
        gradients = parts.gradients(maps, target)
        for each, gradient in zip(maps, gradients, strict=True):
            heat = METHODS[method](to_numpy(each), gradient)  # (n * regions, h, w)
            heat = heat.reshape(len(images[batch]), -1, *heat.shape[1:])
            if heat.shape[1] > 1 and boxes is None:
                boxes = region_boxes(model)
            for i, regions in enumerate(heat):
                summed[start + i] += _sum_regions(regions, boxes, size)
    summed = np.maximum(summed, 0)
    largest = summed.max(axis=(1, 2), keepdims=True)
    return np.divide(summed, largest, out=np.zeros_like(summed), where=largest > 0)


def _grad_cam(maps, gradients):
    return (gradients.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1)


def _hires_cam(maps, gradients):
    return (gradients * maps).sum(axis=-1)


METHODS = {"grad_cam": _grad_cam, "hires_cam": _hires_cam}


def _pools_by_covariance(model):
    return any(isinstance(one, Covariance) and one.axis == "channel" for one in model.layers)


def attention_of_regions(model, images):
    """Computes the attention scores of SPD-Attention for the regions of pictures.

    Args:
        model: `keras.Model` with a `kerasfer.layers.SPDAttention` layer.
        images: float32 RGB `(n, S, S, 3)` in [0, 255].

    Returns:
        A tuple `(scores, boxes)`. The scores are float32 `(n, regions)` in [0, 1]. The boxes are
        float32 `(regions, 4)`: left, top, width and height as fractions of the picture. Region 0
        is the whole picture.

    Raises:
        ValueError: If the model does not have exactly one such layer.
    """
    attention = _find_layer(model, SPDAttention)
    regions = part(model, "regions", lambda: attention.input)
    scores = []
    for start in range(0, len(images), BATCH_SIZE):
        inputs = compute(regions, images[start : start + BATCH_SIZE])
        inputs = [ops.convert_to_tensor(each) for each in inputs]
        scores.append(to_numpy(attention(inputs, return_attention_scores=True)[1]))
    return np.concatenate(scores), region_boxes(model)


def region_boxes(model):
    """Computes the boxes of the regions that `RegionCrops` crops at inference.

    Args:
        model: `keras.Model` with a `kerasfer.layers.RegionCrops` layer.

    Returns:
        float32 `(regions, 4)`: left, top, width and height as fractions of the picture.

    Raises:
        ValueError: If the model does not have exactly one such layer.
    """
    layer = _find_layer(model, RegionCrops)
    # Half precision is too coarse for coordinates.
    config = {**layer.get_config(), "dtype": "float32"}
    height, width = layer.input.shape[1:3]
    # The layer is applied to a picture of coordinates, so the crops contain their own positions.
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    picture = np.stack([columns, rows, rows], axis=-1)[None].astype("float32")
    crop = RegionCrops.from_config(config)
    seen = to_numpy(crop(ops.convert_to_tensor(picture), training=False))[0]
    boxes = []
    for axis, size in ((2, width), (1, height)):
        first, second = size // 3, size - 1 - size // 3  # Away from the edge, which is repeated.
        line = np.take(seen[..., 2 - axis], 0, axis=3 - axis)  # (regions, size)
        share = (line[:, second] - line[:, first]) / (second - first)
        boxes.append(((line[:, first] - (first + 0.5) * share + 0.5) / size, share))
    (left, wide), (top, tall) = boxes
    return np.stack([left, top, wide, tall], axis=1).astype("float32")


def position_pairs(model, images, class_index=None):
    """Decomposes the logit of a class of OBSR-Net over pairs of positions.

    The logit is `w · z + b`, where `z` is the pooled matrix `M = Σ_l f_A(l) f_B(l)ᵀ` of the two
    feature extractors A and B after the signed square root and the normalization. For a given
    picture both only scale the entries: `z = s ⊙ M` with `s = z / M`. With `G = w ⊙ s`, the value
    of the pair `(l, m)` is `f_A(l)ᵀ G f_B(m)`.

    The values of the pairs of equal positions are the exact contributions of these positions, and
    their sum is the logit minus the bias. The other pairs are not pooled. Their values show how
    the features of A at `l` would contribute together with those of B at `m`.

    Args:
        model: `keras.Model` with a `kerasfer.layers.BilinearPool` layer before its classifier.
        images: float32 RGB `(n, S, S, 3)` in [0, 255].
        class_index: int, or int `(n,)`. `None` selects the most probable class of each picture.

    Returns:
        float32 `(n, h, w, h, w)`, indexed by the row and column of A and the row and column of B.

    Raises:
        ValueError: If the model does not have exactly one such layer.

    Reference:

    - Lyu et al., 2024, equations (1) to (6), for the pooling. The paper does not contain the
      decomposition.
    """
    pool = _find_layer(model, BilinearPool)
    maps = list(pool.input) if isinstance(pool.input, (list, tuple)) else [pool.input]
    front = part(model, "pairs", lambda: [*maps, pool.output, model.layers[-1].input])
    kernel = to_numpy(model.get_layer("logits").kernel)
    shape = maps[0].shape
    sides = shape[1:3] if pool.data_format == "channels_last" else shape[2:]
    pairs = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        outputs = [to_numpy(output) for output in compute(front, batch)]
        for i, (*features, pooled, logits) in enumerate(zip(*outputs, strict=True), start):
            a, b = (_rows(each, pool.data_format) for each in (features[0], features[-1]))
            matrix = a.T @ b
            target = class_index if np.ndim(class_index) == 0 else class_index[i]
            target = logits.argmax() if target is None else target
            weighted = (kernel[:, target] * pooled).reshape(matrix.shape)
            scaled = np.divide(weighted, matrix, out=np.zeros_like(matrix), where=matrix != 0)
            pairs.append((a @ scaled @ b.T).reshape(*sides, *sides))
    return np.stack(pairs)


def shares_of_places(pairs):
    """Returns the contribution of each position to the logit of a class.

    Args:
        pairs: The pairs of one picture from `position_pairs`, `(h, w, h, w)`.

    Returns:
        `(h, w)`, the values of the pairs of equal positions.

    Example:

    >>> shares_of_places(np.arange(4.0).reshape(1, 2, 1, 2)).tolist()
    [[0.0, 3.0]]
    """
    height, width = pairs.shape[:2]
    return np.diagonal(pairs.reshape(height * width, -1)).reshape(height, width)


def _sum_regions(maps, boxes, size):
    """Sums the maps `(regions, h, w)` of a picture, each enlarged to the box of its region."""
    if len(maps) == 1:
        return enlarge(maps[0], size, size)
    summed = np.zeros((size, size), "float32")
    for each, box in zip(maps, boxes, strict=True):
        left, top, width, height = (round(float(share) * size) for share in box)
        height, width = min(height, size - top), min(width, size - left)
        summed[top : top + height, left : left + width] += enlarge(each, height, width)
    return summed


def enlarge(values, height, width):
    """Enlarges a float map `(h, w)` to `(height, width)` by bilinear interpolation."""
    image = Image.fromarray(np.ascontiguousarray(values, "float32"))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _rows(feature_map, data_format):
    if data_format == "channels_first":
        feature_map = np.moveaxis(feature_map, 0, -1)
    return feature_map.reshape(-1, feature_map.shape[-1])


def _find_layer(model, layer_class):
    found = [layer for layer in model.layers if isinstance(layer, layer_class)]
    if len(found) != 1:
        raise ValueError(
            f"The model must have exactly one {layer_class.__name__} layer. "
            f"Received: {model.name}, which has {len(found)}."
        )
    return found[0]
