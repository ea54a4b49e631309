import math

import numpy as np
import pytest
from scipy.stats import chi2

from kerasfer.evaluate.paired import paired_difference


def outcomes(both, first_only, second_only, neither):
    first = [True] * both + [True] * first_only + [False] * second_only + [False] * neither
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return [first], [second]


def test_a_single_pair_is_mcnemars_test():
    result = paired_difference(*outcomes(both=500, first_only=60, second_only=35, neither=405))
    assert result.difference == pytest.approx(0.025)
    assert result.by_seed == (result.difference,)
    assert result.p_value == pytest.approx(chi2.sf((60 - 35) ** 2 / (60 + 35), df=1))
    variance = (60 + 35 - (60 - 35) ** 2 / 1000) / 1000
    low, high = 0.025 - 1.959964 * math.sqrt(variance / 1000), result.interval[1]
    assert result.interval[0] == pytest.approx(low)
    assert low + high == pytest.approx(0.05)


def test_the_test_is_symmetric():
    first, second = outcomes(both=10, first_only=7, second_only=3, neither=5)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.difference == -back.difference
    assert there.p_value == back.p_value


def test_pictures_are_the_observations():
    # A second seed with the same predictions is no new evidence, and one with the opposite
    # difference cancels it.
    first, second = outcomes(both=100, first_only=30, second_only=10, neither=60)
    once = paired_difference(first, second)
    twice = paired_difference(first * 2, second * 2)
    assert twice.difference == once.difference
    assert twice.p_value == pytest.approx(once.p_value)
    assert twice.interval == pytest.approx(once.interval)
    opposite = paired_difference(first + second, second + first)
    assert opposite.difference == 0 and opposite.p_value == 1
    assert opposite.by_seed == (once.difference, -once.difference)


def test_equally_accurate_models_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    rejected = [
        paired_difference(*(rng.uniform(size=(2, 2, 300)) < 0.6)).p_value < 0.05
        for _ in range(1000)
    ]
    assert 0.03 < np.mean(rejected) < 0.07


def test_equal_predictions():
    result = paired_difference([[True, False]], [[True, False]])
    assert (result.difference, result.interval, result.p_value) == (0, (0, 0), 1)


@pytest.mark.parametrize("other", [[[True]], [True, False], [[True, False], [True, False]]])
def test_other_pictures_cannot_be_compared(other):
    with pytest.raises(ValueError, match=r"must have the same shape `\(seeds, n\)`. Received: "):
        paired_difference([[True, False]], other)
    with pytest.raises(ValueError, match="must have the same shape"):
        paired_difference(np.zeros((1, 0)), np.zeros((1, 0)))
