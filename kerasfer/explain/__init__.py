"""Explains a model: where it looks, and which regions and positions count.

`maps` computes the maps from the gradients of `gradients`. `faithfulness` evaluates a map,
`overlays` and `figures` draw it, and `pictures` applies all of this to picture files.
"""

from kerasfer.explain.faithfulness import insertion_deletion
from kerasfer.explain.gradients import NoFeatureMap
from kerasfer.explain.maps import (
    Explanation,
    attention_of_regions,
    enlarge,
    explain,
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
