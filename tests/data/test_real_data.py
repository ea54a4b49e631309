"""Against the real releases under $KERASFER_DATA; skipped where they are not."""

import os
from pathlib import Path

import numpy as np
import pytest

from kerasfer.data import load_dataset

ROOT = Path(os.environ.get("KERASFER_DATA", "no data"))
SPLITS = ("train", "validation", "test")
# Copies without the 173 rows that FER+ leaves unnamed are in use too.
FER2013_COUNTS = {35887: [28709, 3589, 3589], 35714: [28561, 3579, 3574]}


def count(samples):
    return [int((samples.splits == split).sum()) for split in SPLITS]


@pytest.mark.skipif(not (ROOT / "fer2013").is_dir(), reason="needs FER2013 in $KERASFER_DATA")
def test_fer2013_counts():
    samples = load_dataset("fer2013")
    assert count(samples) == FER2013_COUNTS[len(samples)]
    supports = np.bincount(samples.targets[samples.splits == "test"])
    np.testing.assert_allclose(supports, [491, 55, 528, 879, 594, 416, 626], atol=8)


@pytest.mark.skipif(not (ROOT / "ferplus").is_dir(), reason="needs FER+ in $KERASFER_DATA")
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("argmax8", [28559, 3579, 3573]),
        ("majority", [25060, 3199, 3153]),
        ("probability", [28559, 3579, 3573]),
    ],
)
def test_ferplus_counts(labels, expected):
    assert count(load_dataset("ferplus", labels=labels)) == expected
