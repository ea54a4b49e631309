"""Explains predictions by heat maps, attention over regions and pairs of positions.

`maps` computes heat maps and scores from the gradients of `gradients`, and `faithfulness` evaluates
heat maps. `explanation` combines both, `overlays` and `figures` draw the results, and `pictures`
explains the faces in picture files.
"""

from kerasfer.explain.explanation import Explanation, explain
from kerasfer.explain.faithfulness import insertion_deletion
from kerasfer.explain.gradients import NoFeatureMap
from kerasfer.explain.maps import (
    attention_of_regions,
    enlarge,
    heat_map,
    position_pairs,
    shares_of_places,
)
from kerasfer.explain.overlays import overlay

__all__ = [
    "Explanation",
    "NoFeatureMap",
    "attention_of_regions",
    "enlarge",
    "explain",
    "heat_map",
    "insertion_deletion",
    "overlay",
    "position_pairs",
    "shares_of_places",
]
