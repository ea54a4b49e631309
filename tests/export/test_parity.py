"""The comparison of an export with its model, and the criteria of a mismatch."""

import re

import numpy as np
import pytest

from kerasfer.errors import RunError
from kerasfer.export.parity import compare, find_mismatch


def test_compare_by_hand():
    reference = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8], [0.1, 0.7, 0.2]])
    answers = np.array([[0.5, 0.3, 0.2], [0.2, 0.38, 0.42], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
    found = compare(answers, reference, targets=np.array([0, 2, 0, 1]))
    assert found["num_pictures"] == 4
    assert found["top1_agreement"] == 0.5
    assert found["clear_agreement"] == 0.75  # without the near-tie
    assert found["changed_lead"] == {"median": pytest.approx(0.3), "max": pytest.approx(0.6)}
    assert found["max_probability_difference"] == pytest.approx(0.6)
    assert found["mean_probability_difference"] == pytest.approx((0.04 + 1.2) / 12)
    accuracy = found["accuracy"]
    assert (accuracy["model"], accuracy["exported"], accuracy["change"]) == (0.5, 0.5, 0)
    # One gained and one lost: (2 / 6 - 2 / 6) ± 1.96 √((4 / 6) / 6).
    assert accuracy["interval"] == pytest.approx([-0.6533, 0.6533], abs=1e-4)
    assert compare(reference, reference)["changed_lead"] is None


@pytest.mark.parametrize("bad", [np.array([[np.nan, 1.0]]), np.ones((2, 2)), np.ones((1, 3))])
def test_compare_rejects_invalid_probabilities(bad):
    with pytest.raises(RunError, match=r"Expected finite probabilities of shape \(1, 2\)"):
        compare(bad, np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(
    "agreement, difference, expected",
    [
        (1.0, 1e-3, None),
        (0.999, 0.0, None),
        (0.998, 0.0, r"2 of 1000 pictures get another class \(99.80% agreement"),
        (1.0, 1.1e-3, "a probability differs by 0.0011 \\(at most 0.001 expected"),
    ],
)
def test_an_unquantized_export_must_be_the_same(agreement, difference, expected):
    found = find_mismatch(
        {
            "num_pictures": 1000,
            "top1_agreement": agreement,
            "max_probability_difference": difference,
        },
        "none",
    )
    assert found is None if expected is None else re.search(expected, found)


def answers_of(num_pictures, gained=0, lost=0, lead=0.05):
    """Predictions of a model and its export, which corrects some and makes some wrong."""
    right, wrong = np.array([0.5 + lead / 2, 0.5 - lead / 2]), np.array([0.5 - lead / 2, 0.5])
    before = np.array([right] * num_pictures)
    after = before.copy()
    before[:gained] = after[gained : gained + lost] = [wrong[0], 1 - wrong[0]]
    return compare(after, before, np.zeros(num_pictures, int))


@pytest.mark.parametrize(
    "changes, expected",
    [
        # 3 % of near ties change both ways, and the accuracy does not.
        ({"num_pictures": 1000, "gained": 15, "lost": 15}, None),
        # So do clear answers, but the interval excludes a loss of 2 points.
        ({"num_pictures": 1000, "gained": 15, "lost": 15, "lead": 0.5}, None),
        ({"num_pictures": 1000, "lost": 20}, r"from 100.0% to 98.0% .*: -2.9 to -1.1 points\)"),
        # Few pictures say little about the accuracy, so clear answers must not change.
        ({"num_pictures": 100, "gained": 1, "lost": 2}, None),
        (
            {"num_pictures": 100, "gained": 1, "lost": 2, "lead": 0.3},
            "3 of 100 .*97.00% agreement",
        ),
    ],
)
def test_a_quantized_export_must_not_lose_accuracy(changes, expected):
    found = find_mismatch(answers_of(**changes), "int8")
    assert found is None if expected is None else re.search(expected, found)


def test_without_classes_only_near_ties_may_change():
    compared = answers_of(100, gained=2, lead=0.3)
    del compared["accuracy"]
    assert find_mismatch(compared, "int8").startswith("2 of 100 pictures get another class")
    assert find_mismatch({**compared, "clear_agreement": 0.99}, "int8") is None
