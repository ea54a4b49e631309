"""How well a heat map tells what a model needs, so that it can be judged and not only admired."""

from dataclasses import dataclass

import numpy as np
from keras import ops
from PIL import Image, ImageFilter

STEPS = 16
BLUR = 1 / 6  # deviation of the blur as a share of the side: of the face only tone and place remain


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Holds how the probability of a class moves while a map's pixels come or go.

    Args:
        insertion: area under the curve while pixels come, in [0, 1]; the higher the better.
        deletion: area under the curve while pixels go, in [0, 1]; the lower the better.
        insertion_curve: float32 `(steps + 1,)`.
        deletion_curve: float32 `(steps + 1,)`.
    """

    insertion: float
    deletion: float
    insertion_curve: np.ndarray
    deletion_curve: np.ndarray

    @classmethod
    def mean(cls, scores):
        """Averages several."""
        curves = [
            np.mean([getattr(score, name) for score in scores], axis=0)
            for name in ("insertion_curve", "deletion_curve")
        ]
        return cls(*(_area(curve) for curve in curves), *curves)


def insertion_deletion(model, image, heat, class_index=None, *, steps=STEPS):
    """Scores a map by what happens when pixels are shown or hidden in its order.

    Insertion begins with the picture heavily blurred, a Gaussian of a sixth of its side, and
    shows the pixels with the highest values first; deletion begins with the picture and paints
    the same pixels over with the picture's mean color. A map that finds what the model needs
    makes the probability rise early and fall early. Compare with `random_maps`.

    Args:
        model: `keras.Model` that returns probabilities.
        image: float32 RGB `(S, S, 3)` in [0, 255].
        heat: float `(S, S)`; only its order counts.
        class_index: int; None for the most probable class of the picture.
        steps: in how many equal steps the pixels come or go, at least 1.

    Returns:
        `Faithfulness`.

    Raises:
        ValueError: the map is not as large as the picture.

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 3.3.
    """
    if heat.shape != image.shape[:2]:
        raise ValueError(
            f"The map must be as large as the picture. Received: map {heat.shape}, picture "
            f"{image.shape}."
        )
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1. Received: steps={steps}.")
    image = np.asarray(image, "float32")
    rank = _ranks(heat)
    # One picture a step: the first `share` of the pixels have come, or gone.
    shares = np.arange(steps + 1) / steps
    first = (rank < (shares * rank.size)[:, None, None])[..., None]
    shown = np.where(first, image, _blurred(image))
    hidden = np.where(first, image.mean(axis=(0, 1)), image)
    probabilities = ops.convert_to_numpy(
        model.predict_on_batch(np.concatenate([shown, hidden]).astype("float32"))
    )
    if class_index is None:
        class_index = int(probabilities[steps].argmax())  # of the picture as it is
    insertion, deletion = np.split(probabilities[:, class_index], 2)
    return Faithfulness(_area(insertion), _area(deletion), insertion, deletion)


def random_maps(coarse, size, number, seed=0):
    """Draws random maps as coarse as a feature map, which a heat map should beat.

    Args:
        coarse: rows and columns of the feature map.
        size: side of the maps in pixels.
        number: how many.
        seed: int >= 0.

    Returns:
        float32 `(number, size, size)`.
    """
    drawn = np.random.default_rng(seed).random((number, *coarse), "float32")
    return np.stack(
        [
            np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR))
            for each in drawn
        ]
    )


def _ranks(heat):
    """Numbers the pixels from the highest value on; ties in an order that is random but fixed."""
    shuffled = np.random.default_rng(0).permutation(heat.size)
    order = shuffled[np.argsort(-heat.ravel()[shuffled], kind="stable")]
    ranks = np.empty(heat.size, "int64")
    ranks[order] = np.arange(heat.size)
    return ranks.reshape(heat.shape)


def _blurred(image):
    picture = Image.fromarray(image.clip(0, 255).astype("uint8"))
    blurred = picture.filter(ImageFilter.GaussianBlur(BLUR * len(image)))
    return np.asarray(blurred, "float32")


def _area(curve):
    """The area under a curve over [0, 1], by trapezoids."""
    return float((curve[1:] + curve[:-1]).mean() / 2)
