"""Why a model says what it says: where it looks, which regions and which places count.

`maps` computes, with what `gradients` has of each backend; `faithfulness` judges a map, `heat` and
`figures` draw it, and `explaining` does it all for files of pictures.
"""

from kerasfer.explain.faithfulness import insertion_deletion
from kerasfer.explain.gradients import NoFeatureMap
from kerasfer.explain.heat import overlay
from kerasfer.explain.maps import (
    Explanation,
    attention_of_regions,
    enlarge,
    explain,
    heat_map,
    position_pairs,
    shares_of_places,
)

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
