"""Lists the number of pictures of each class in the official releases of the datasets.

The counts are in the order of the classes of each dataset. Some datasets have several variants,
such as the label rules of FER+.
"""

import numpy as np

from kerasfer.data.samples import WHOLE

OFFICIAL = {
    # {dataset: {variant: {split: number of pictures of each class}}}
    "affectnet": {
        "affectnet": {
            "train": (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750),
            "test": (500, 500, 500, 500, 500, 500, 500, 500),
        },
    },
    "ckplus": {
        "ckplus": {WHOLE: (135, 54, 177, 75, 207, 84, 249)},
        "ckplus with neutral": {WHOLE: (327, 135, 54, 177, 75, 207, 84, 249)},
    },
    "fer2013": {
        "fer2013": {
            "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
            "validation": (467, 56, 496, 895, 653, 415, 607),
            "test": (491, 55, 528, 879, 594, 416, 626),
        },
    },
    "ferplus": {
        "ferplus argmax8": {
            "train": (10388, 7539, 3588, 3549, 2478, 194, 656, 167),
            "validation": (1347, 899, 459, 418, 320, 36, 75, 25),
            "test": (1278, 929, 446, 448, 326, 23, 94, 29),
        },
        "ferplus majority": {
            "train": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
            "validation": (1182, 865, 415, 351, 287, 24, 62, 13),
            "test": (1090, 893, 396, 384, 273, 18, 83, 16),
        },
    },
    "rafdb": {
        "rafdb": {
            "train": (1290, 281, 717, 4772, 1982, 705, 2524),
            "test": (329, 74, 160, 1185, 478, 162, 680),
        },
    },
    "sfew": {
        "sfew": {
            "train": (178, 66, 98, 198, 150, 172, 96),
            "test": (77, 23, 47, 73, 86, 73, 57),
        },
        "sfew with RAF-DB": {
            "train": (883, 783, 379, 4970, 2674, 2154, 1386),
            "test": (77, 23, 47, 73, 86, 73, 57),
        },
    },
}


def official_counts(name, counts):
    """Finds the official counts that are closest to those of a dataset.

    Args:
        name: The name of the dataset.
        counts: `{split: number of pictures of each class}`, with the split `"whole"` if the dataset
            has no splits.

    Returns:
        The name of the variant and its official `{split: tuple}`, or `(None, None)` if no official
        counts are known.

    Example:

    >>> official_counts("ckplus", {"whole": [135, 54, 177, 75, 207, 84, 240]})[0]
    'ckplus'
    """
    classes = len(next(iter(counts.values())))
    variants = {
        variant: official
        for variant, official in OFFICIAL.get(name, {}).items()
        if len(next(iter(official.values()))) == classes
    }
    if not variants:
        return None, None

    def distance(variant):
        expected = variants[variant]
        splits = expected.keys() | counts.keys()
        nothing = [0] * classes
        return sum(
            np.abs(np.subtract(expected.get(split, nothing), counts.get(split, nothing))).sum()
            for split in splits
        )

    nearest = min(variants, key=distance)
    return nearest, variants[nearest]
