"""Why a model says what it says: where it looks, which regions and which places count.

Maps are at the size of the pictures, whatever the size of the feature map they come from.
"""

from dataclasses import dataclass

import numpy as np
from keras import ops
from PIL import Image

from kerasfer.errors import RunError
from kerasfer.explain.faithfulness import Faithfulness, insertion_deletion, random_maps
from kerasfer.explain.gradients import compute, cut, part, to_numpy
from kerasfer.layers import BilinearPool, Covariance, RegionCrops, SPDAttention

BATCH = 16  # pictures differentiated at once
NUM_RANDOM = 4  # random maps that a map is compared with


@dataclass(frozen=True, eq=False)
class Explanation:
    """Holds why a model gave one picture the probability of one class.

    Args:
        picture: uint8 `(S, S, 3)`, what the model saw.
        class_names: the classes.
        class_index: the class that is explained.
        probabilities: float32 `(num_classes,)`.
        heat: float32 `(S, S)` in [0, 1], of `heat_map`.
        regions: of SPD-Attention, coefficients `(regions,)` and boxes `(regions, 4)`, else None.
        pairs: of OBSR-Net, `(h, w, h, w)` of `position_pairs`, else None.
        score: `Faithfulness` of the heat map, or None where it was not asked for.
        random_score: the mean one of random maps.
    """

    picture: np.ndarray
    class_names: tuple[str, ...]
    class_index: int
    probabilities: np.ndarray
    heat: np.ndarray
    regions: tuple | None = None
    pairs: np.ndarray | None = None
    score: Faithfulness | None = None
    random_score: Faithfulness | None = None

    @property
    def label(self):
        """Name of the class that is explained."""
        return self.class_names[self.class_index]

    @property
    def probability(self):
        """Its probability, in [0, 1]."""
        return float(self.probabilities[self.class_index])


def explain(model, pictures, class_index=None, *, steps=0):
    """Explains what a model says of face crops.

    Args:
        model: `keras.Model` of kerasfer.
        pictures: uint8 `(n, S, S, 3)`, S the model's picture size.
        class_index: int, the class to explain; None for the most probable of each picture.
        steps: steps of the insertion and deletion scores, as in `insertion_deletion`; 0 for none.

    Returns:
        A list of n `Explanation`.

    Raises:
        NoFeatureMap: the model has no place that could be shown.
    """
    images = np.asarray(pictures, dtype="float32")
    probabilities = to_numpy(model.predict_on_batch(images))
    classes = probabilities.argmax(1) if class_index is None else np.full(len(images), class_index)
    heats = heat_map(model, images, classes)
    regions = attention_of_regions(model, images) if has(model, SPDAttention) else None
    pairs = position_pairs(model, images, classes) if has(model, BilinearPool) else None
    coarse = cut(model).front.outputs[0].shape[1:3]
    names = tuple(model.layers[-1].class_names)
    explanations = []
    for i, (picture, heat) in enumerate(zip(pictures, heats, strict=True)):
        scores = [None, None]
        if steps:
            options = {"class_index": int(classes[i]), "steps": steps}
            rivals = random_maps(coarse, len(heat), NUM_RANDOM, seed=i)
            scores = [
                insertion_deletion(model, images[i], heat, **options),
                Faithfulness.mean(
                    [insertion_deletion(model, images[i], rival, **options) for rival in rivals]
                ),
            ]
        explanations.append(
            Explanation(
                picture,
                names,
                int(classes[i]),
                probabilities[i],
                heat,
                None if regions is None else (regions[0][i], regions[1]),
                None if pairs is None else pairs[i],
                *scores,
            )
        )
    return explanations


def heat_map(model, images, class_index=None, *, method=None):
    """Shows where in each picture a class is seen (Grad-CAM).

    The channels of the last feature map are weighed by the mean gradient of the class's logit and
    summed; what speaks against the class is cut off. Where a model has several such maps, two
    extractors or the regions of SPD-Attention, each is laid where it was seen and all are summed.

    A covariance of channels ignores what all places share, so that its mean gradient is zero but
    for rounding. There each place is weighed by its own gradient (HiRes-CAM); behind an average
    pooling the two are the same.

    Args:
        model: `keras.Model` of kerasfer.
        images: float32 RGB `(n, S, S, 3)` in [0, 255], S the model's picture size.
        class_index: int, or int `(n,)`; None for the most probable class of each picture.
        method: a key of `METHODS`; None for `"hires_cam"` where a model pools by a covariance of
            channels, else `"grad_cam"`.

    Returns:
        float32 `(n, S, S)` in [0, 1]; the largest value of each map is 1, unless nothing speaks
        for the class.

    Raises:
        NoFeatureMap: the model has no feature map of several positions.

    Example:

    >>> heat_map(load_model("runs/quickstart/model.keras"), images).shape  # (8, 48, 48, 3)
    (8, 48, 48)

    Source: Selvaraju et al., Grad-CAM, ICCV 2017; Draelos and Carin, Use HiResCAM instead of
    Grad-CAM, 2020, equation (8); Du et al. 2022, figure 6.
    """
    if method is None:
        method = "hires_cam" if _pools_by_covariance(model) else "grad_cam"
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}.")
    parts = cut(model)
    size = images.shape[1]
    summed = np.zeros((len(images), size, size), "float32")
    boxes = None
    for start in range(0, len(images), BATCH):
        batch = slice(start, start + BATCH)
        wanted = class_index if np.ndim(class_index) == 0 else np.asarray(class_index)[batch]
        maps = parts.maps(images[batch])
        gradients = parts.gradients(maps, wanted)
        for each, gradient in zip(maps, gradients, strict=True):
            seen = METHODS[method](to_numpy(each), gradient)  # (n · regions, h, w)
            seen = seen.reshape(len(images[batch]), -1, *seen.shape[1:])
            if seen.shape[1] > 1 and boxes is None:
                boxes = region_boxes(model)
            for i, of_picture in enumerate(seen):
                summed[start + i] += _lay_out(of_picture, boxes, size)
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
    """Tells how much SPD-Attention counts each region of each picture.

    Args:
        model: `keras.Model` with a `kerasfer.layers.SPDAttention`.
        images: float32 RGB `(n, S, S, 3)` in [0, 255].

    Returns:
        Coefficients, float32 `(n, regions)` in [0, 1], and the regions' boxes, float32
        `(regions, 4)`: left, top, width, height as shares of the picture. Region 0 is the whole.

    Raises:
        ValueError: the model has no such layer.
    """
    attention = _only(model, SPDAttention)
    regions = part(model, "regions", lambda: attention.input)
    scores = []
    for start in range(0, len(images), BATCH):
        inputs = compute(regions, images[start : start + BATCH])
        inputs = [ops.convert_to_tensor(each) for each in inputs]
        scores.append(to_numpy(attention(inputs, return_attention_scores=True)[1]))
    return np.concatenate(scores), region_boxes(model)


def region_boxes(model):
    """Tells where the regions of a model with `RegionCrops` lie at inference.

    Returns:
        float32 `(regions, 4)`: left, top, width, height as shares of the picture.
    """
    layer = _only(model, RegionCrops)
    config = {**layer.get_config(), "dtype": "float32"}  # half precision cannot count to 224
    height, width = layer.input.shape[1:3]
    # The layer itself is asked: what it makes of a picture of coordinates tells where it cut.
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    picture = np.stack([columns, rows, rows], axis=-1)[None].astype("float32")
    crop = RegionCrops.from_config(config)
    seen = to_numpy(crop(ops.convert_to_tensor(picture), training=False))[0]
    boxes = []
    for axis, size in ((2, width), (1, height)):
        first, second = size // 3, size - 1 - size // 3  # away from the repeated edge
        line = np.take(seen[..., 2 - axis], 0, axis=3 - axis)  # (regions, size)
        share = (line[:, second] - line[:, first]) / (second - first)
        boxes.append(((line[:, first] - (first + 0.5) * share + 0.5) / size, share))
    (left, wide), (top, tall) = boxes
    return np.stack([left, top, wide, tall], axis=1).astype("float32")


def position_pairs(model, images, class_index=None):
    """Splits the logit of a class into what OBSR-Net's two extractors see at pairs of places.

    The logit is w · z + b, where z is the pooled matrix M = Σ_l f_A(l) f_B(l)ᵀ after its signed
    root and its norm. For one picture both only scale the entries: z = s ⊙ M with s = z / M. So
    with G = w ⊙ s, the value of a pair is f_A(l)ᵀ G f_B(m), and of the pairs of equal places,
    which are the ones that are pooled, it is the place's exact share: they sum to the logit less
    its bias. The other pairs tell what would be added if A's view of l met B's view of m.

    Args:
        model: `keras.Model` with a `kerasfer.layers.BilinearPool` before its classifier.
        images: float32 RGB `(n, S, S, 3)` in [0, 255].
        class_index: int, or int `(n,)`; None for the most probable class of each picture.

    Returns:
        float32 `(n, h, w, h, w)`: of A's place (row, column) and of B's.

    Raises:
        ValueError: the model has no such layer.

    Source: the decomposition is kerasfer's own; pooling as in Lyu et al. 2024, (1) to (6).
    """
    pool = _only(model, BilinearPool)
    maps = list(pool.input) if isinstance(pool.input, (list, tuple)) else [pool.input]
    front = part(model, "pairs", lambda: [*maps, pool.output, model.layers[-1].input])
    kernel = to_numpy(model.get_layer("logits").kernel)
    shape = maps[0].shape
    sides = shape[1:3] if pool.data_format == "channels_last" else shape[2:]
    pairs = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        outputs = [to_numpy(output) for output in compute(front, batch)]
        for i, (*seen, pooled, logits) in enumerate(zip(*outputs, strict=True), start):
            a, b = (_rows(each, pool.data_format) for each in (seen[0], seen[-1]))
            matrix = a.T @ b
            wanted = class_index if np.ndim(class_index) == 0 else class_index[i]
            wanted = logits.argmax() if wanted is None else wanted
            weighed = (kernel[:, wanted] * pooled).reshape(matrix.shape)
            scaled = np.divide(weighed, matrix, out=np.zeros_like(matrix), where=matrix != 0)
            pairs.append((a @ scaled @ b.T).reshape(*sides, *sides))
    return np.stack(pairs)


def shares_of_places(pairs):
    """Takes the pairs of equal places, `(h, w)`, out of one picture's pairs `(h, w, h, w)`."""
    height, width = pairs.shape[:2]
    return np.diagonal(pairs.reshape(height * width, -1)).reshape(height, width)


def has(model, layer_class):
    """Whether a model has a layer of a class."""
    return any(isinstance(layer, layer_class) for layer in model.layers)


def class_of(class_names, name):
    """Returns the index of a class.

    Raises:
        RunError: there is none of that name.
    """
    if name not in class_names:
        raise RunError(
            f"The model knows the classes {', '.join(class_names)}. Received: --class {name}."
        )
    return list(class_names).index(name)


def _lay_out(maps, boxes, size):
    """Sums the maps of a picture's regions `(regions, h, w)`, each enlarged to where it lies."""
    if len(maps) == 1:
        return enlarge(maps[0], size, size)
    summed = np.zeros((size, size), "float32")
    for each, box in zip(maps, boxes, strict=True):
        left, top, width, height = (round(float(share) * size) for share in box)
        height, width = min(height, size - top), min(width, size - left)
        summed[top : top + height, left : left + width] += enlarge(each, height, width)
    return summed


def enlarge(values, height, width):
    """Enlarges a float map `(h, w)` bilinearly."""
    image = Image.fromarray(np.ascontiguousarray(values, "float32"))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _rows(feature_map, data_format):
    if data_format == "channels_first":
        feature_map = np.moveaxis(feature_map, 0, -1)
    return feature_map.reshape(-1, feature_map.shape[-1])


def _only(model, layer_class):
    found = [layer for layer in model.layers if isinstance(layer, layer_class)]
    if len(found) != 1:
        raise ValueError(
            f"The model must have one layer {layer_class.__name__}. "
            f"Received: {model.name}, which has {len(found)}."
        )
    return found[0]
