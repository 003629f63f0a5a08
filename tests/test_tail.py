"""The smooth tail of normal scores: against the distribution they come from, and where it steps aside."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gamma

from tmuad.score.fuse import Calibration
from tmuad.score.tail import FEWEST, rarity


def calibration(scores: list[float]) -> Calibration:
    return Calibration({}, {}, {}, 1.0, 0.05, tuple(sorted(scores)))


def test_it_is_the_tail_of_the_distribution_that_the_scores_come_from() -> None:
    scores = gamma.rvs(2.0, scale=0.7, size=4000, random_state=np.random.default_rng(0)).tolist()
    for share in (0.3, 0.1, 0.02):
        assert rarity(gamma.isf(share, 2.0, scale=0.7), calibration(scores)) == pytest.approx(share, rel=0.12)


def test_of_twenty_scores_it_is_nearer_the_truth_than_counting() -> None:
    rng, at = np.random.default_rng(1), gamma.isf(0.1, 2.0)
    fitted = [calibration(gamma.rvs(2.0, size=20, random_state=rng).tolist()) for _ in range(200)]
    smooth = np.mean([(rarity(at, c) - 0.1) ** 2 for c in fitted])
    counted = np.mean([(c.p_value(at) - 0.1) ** 2 for c in fitted])
    assert smooth < 0.6 * counted


@given(
    st.lists(st.floats(0.01, 50), min_size=FEWEST, max_size=40), st.lists(st.floats(-1, 100), min_size=2, max_size=5)
)
def test_it_falls_with_the_score_and_is_a_share(normal: list[float], scores: list[float]) -> None:
    shares = [rarity(score, calibration(normal)) for score in sorted(scores)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares))


@pytest.mark.parametrize(
    "normal", [[], [1.0], [1.0, 2.0], [2.0] * 20, [0.0, *np.linspace(1, 2, 20)], [-1.0, *np.linspace(1, 2, 20)]]
)
def test_where_no_distribution_can_be_told_scores_are_counted(normal: list[float]) -> None:
    fitted = calibration([float(x) for x in normal])
    for score in (0.0, 1.5, 9.0):
        assert rarity(score, fitted) == fitted.p_value(score)
