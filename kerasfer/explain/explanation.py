"""Explains the predictions of a model for face crops."""

from dataclasses import dataclass

import numpy as np

from kerasfer.explain.faithfulness import Faithfulness, insertion_deletion, random_maps
from kerasfer.explain.gradients import cut, to_numpy
from kerasfer.explain.maps import attention_of_regions, heat_map, position_pairs
from kerasfer.layers import BilinearPool, SPDAttention

NUM_RANDOM = 4  # Random maps with which a heat map is compared.


@dataclass(frozen=True, eq=False)
class Explanation:
    """Holds the explanation of the probability of one class for one picture.

    Args:
        picture: The input of the model, uint8 `(S, S, 3)`.
        class_names: The names of the classes.
        class_index: The index of the class that is explained.
        probabilities: float32 `(num_classes,)`.
        heat: The result of `heat_map`, float32 `(S, S)` in [0, 1].
        regions: The result of `attention_of_regions`, scores `(regions,)` and boxes
            `(regions, 4)`. `None` for models without SPD-Attention.
        pairs: The result of `position_pairs`, `(h, w, h, w)`. `None` for models other than
            OBSR-Net.
        score: The `Faithfulness` of the heat map. `None` if it was not computed.
        random_score: The mean `Faithfulness` of random maps. `None` if it was not computed.
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
        """The name of the class that is explained."""
        return self.class_names[self.class_index]

    @property
    def probability(self):
        """The probability of the class that is explained, in [0, 1]."""
        return float(self.probabilities[self.class_index])


def explain(model, pictures, class_index=None, *, steps=0):
    """Explains the predictions of a model for face crops.

    Args:
        model: A functional `keras.Model` of kerasfer.
        pictures: uint8 RGB `(n, S, S, 3)`, where S is the input size of the model.
        class_index: The index of the class to explain. `None` selects the most probable class of
            each picture.
        steps: The number of steps of the insertion and deletion scores, as in
            `insertion_deletion`. 0 omits the scores.

    Returns:
        A list of n `Explanation`.

    Raises:
        NoFeatureMap: If the model has no feature map of several positions.
    """
    images = np.asarray(pictures, dtype="float32")
    probabilities = to_numpy(model.predict_on_batch(images))
    classes = probabilities.argmax(1) if class_index is None else np.full(len(images), class_index)
    heats = heat_map(model, images, classes)
    regions = attention_of_regions(model, images) if _has_layer(model, SPDAttention) else None
    pairs = position_pairs(model, images, classes) if _has_layer(model, BilinearPool) else None
    resolution = cut(model).front.outputs[0].shape[1:3]
    names = tuple(model.layers[-1].class_names)
    explanations = []
    for i, (picture, heat) in enumerate(zip(pictures, heats, strict=True)):
        scores = [None, None]
        if steps:
            options = {"class_index": int(classes[i]), "steps": steps}
            baselines = random_maps(resolution, len(heat), NUM_RANDOM, seed=i)
            scores = [
                insertion_deletion(model, images[i], heat, **options),
                Faithfulness.mean(
                    [insertion_deletion(model, images[i], each, **options) for each in baselines]
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


def _has_layer(model, layer_class):
    """Returns whether a model has a layer of the class `layer_class`."""
    return any(isinstance(layer, layer_class) for layer in model.layers)
