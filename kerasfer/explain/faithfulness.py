"""Evaluates how well a heat map identifies the pixels on which a prediction depends."""

from dataclasses import dataclass

import numpy as np
from keras import ops
from PIL import Image, ImageFilter

STEPS = 16
# Standard deviation of the blur as a fraction of the side. Only the color and the position of the
# face remain visible.
BLUR = 1 / 6


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Holds the insertion and deletion scores of a heat map.

    Args:
        insertion: Area under the insertion curve, in [0, 1]. Higher is better.
        deletion: Area under the deletion curve, in [0, 1]. Lower is better.
        insertion_curve: The probability of the class after each step in which pixels are
            inserted, float32 `(steps + 1,)`.
        deletion_curve: The same for steps in which pixels are deleted, float32 `(steps + 1,)`.
    """

    insertion: float
    deletion: float
    insertion_curve: np.ndarray
    deletion_curve: np.ndarray

    @classmethod
    def mean(cls, scores):
        """Returns the mean of a list of `Faithfulness`."""
        curves = [
            np.mean([getattr(score, name) for score in scores], axis=0)
            for name in ("insertion_curve", "deletion_curve")
        ]
        return cls(*(_area(curve) for curve in curves), *curves)


def insertion_deletion(model, image, heat, class_index=None, *, steps=STEPS):
    """Computes the insertion and deletion scores of a heat map.

    Insertion starts with a blurred picture and reveals the pixels with the highest values first.
    The blur is Gaussian, with a standard deviation of a sixth of the side. Deletion starts with
    the picture and replaces the same pixels by the mean color of the picture. With a faithful map
    the probability of the class rises early during insertion and falls early during deletion.
    Compare the scores with those of `random_maps`.

    Args:
        model: `keras.Model` that returns probabilities.
        image: float32 RGB `(S, S, 3)` in [0, 255].
        heat: float `(S, S)`. Only the order of the values matters.
        class_index: int. `None` selects the most probable class of the picture.
        steps: The number of steps, at least 1. The same number of pixels changes in each step.

    Returns:
        A `Faithfulness`.

    Raises:
        ValueError: If the sizes of the map and the picture differ, or `steps` is below 1.

    Example:

    >>> class Brightness:
    ...     def predict_on_batch(self, images):
    ...         bright = images.mean(axis=(1, 2, 3)) / 255
    ...         return np.stack([1 - bright, bright], axis=1)
    >>> image = np.zeros((8, 8, 3))
    >>> image[:, :4] = 255
    >>> scores = insertion_deletion(Brightness(), image, image[..., 0], class_index=1, steps=2)
    >>> scores.deletion_curve.tolist()
    [0.5, 0.25, 0.5]

    Reference:

    - Petsiuk, Das and Saenko, RISE, BMVC 2018, section 3.3.
    """
    if heat.shape != image.shape[:2]:
        raise ValueError(
            f"`heat` must have the height and width of the picture. Received: "
            f"heat.shape={heat.shape}, image.shape={image.shape}."
        )
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1. Received: steps={steps}.")
    image = np.asarray(image, "float32")
    rank = _ranks(heat)
    # One picture for each step, in which this fraction of the pixels is inserted or deleted.
    fractions = np.arange(steps + 1) / steps
    changed = (rank < (fractions * rank.size)[:, None, None])[..., None]
    inserted = np.where(changed, image, _blurred(image))
    deleted = np.where(changed, image.mean(axis=(0, 1)), image)
    probabilities = ops.convert_to_numpy(
        model.predict_on_batch(np.concatenate([inserted, deleted]).astype("float32"))
    )
    if class_index is None:
        class_index = int(probabilities[steps].argmax())  # Of the whole picture.
    insertion, deletion = np.split(probabilities[:, class_index], 2)
    return Faithfulness(_area(insertion), _area(deletion), insertion, deletion)


def random_maps(resolution, size, number, seed=0):
    """Draws random maps with the resolution of a feature map, as a baseline for heat maps.

    Args:
        resolution: The rows and columns of the feature map.
        size: The side of the random maps, in pixels.
        number: The number of maps.
        seed: int, at least 0.

    Returns:
        float32 `(number, size, size)`.
    """
    drawn = np.random.default_rng(seed).random((number, *resolution), "float32")
    return np.stack(
        [
            np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR))
            for each in drawn
        ]
    )


def _ranks(heat):
    """Ranks the pixels by descending value. Ties are ordered randomly, with a fixed seed."""
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
    """Computes the area under a curve over [0, 1] with the trapezoidal rule."""
    return float((curve[1:] + curve[:-1]).mean() / 2)
