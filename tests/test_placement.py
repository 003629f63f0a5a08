"""What is normal where: against a slow reference, and where the images say nothing about places."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.placement import PRIOR, SHARED, Placement

WINDOW, BLUR = 0.2, 0.05


def maps(seed: int, n: int, side: int = 20, busy: float = 0.0) -> NDArray[np.float32]:
    """Noise; `busy` is added to a block in the upper left corner."""
    values = np.random.default_rng(seed).normal(size=(n, side, side)).astype(np.float32)
    values[:, 2:8, 2:8] += busy
    return values


@pytest.mark.parametrize("n", [2, 5, 40])
def test_level_and_spread_equal_the_definition(n: int) -> None:
    side, given_maps = 12, maps(0, n, 12)
    width = max(1, round(WINDOW * side))
    highest = np.empty_like(given_maps, dtype=np.float64)
    low = -(width // 2)  # of scipy's windows: an even one reaches one farther up
    for i in range(n):
        for y in range(side):
            for x in range(side):
                cells = [
                    given_maps[i, min(max(y + dy, 0), side - 1), min(max(x + dx, 0), side - 1)]
                    for dy in range(low, low + width)
                    for dx in range(low, low + width)
                ]
                highest[i, y, x] = max(cells)
    level = ndi.gaussian_filter(np.median(highest, axis=0), BLUR * side, mode="nearest")
    spread = ndi.gaussian_filter(highest.std(axis=0), BLUR * side, mode="nearest")
    trust = n / (n + PRIOR)
    shared = SHARED * trust + 1 - trust
    placement = Placement.fit(given_maps, WINDOW, BLUR)
    np.testing.assert_allclose(placement.level, trust * level + (1 - trust) * level.mean(), atol=1e-4)
    np.testing.assert_allclose(placement.spread, (1 - shared) * spread + shared * spread.mean(), atol=1e-4)


def test_the_same_deviation_means_less_where_normal_images_deviate() -> None:
    placement = Placement.fit(maps(0, 60, busy=4.0), WINDOW, BLUR)
    query = np.full((20, 20), 6.0, dtype=np.float32)
    scored = placement(query)
    assert scored[5, 5] < scored[15, 15] - 1


def test_what_is_nowhere_special_comes_out_flat() -> None:
    level = Placement.fit(maps(1, 200), 0.1, 0.1).level[4:-4, 4:-4]  # at the border a window holds fewer patches
    assert level.std() < 0.05 * level.mean()


@settings(max_examples=20)
@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_a_shift_moves_the_level_and_a_factor_the_spread(shift: float, factor: float) -> None:
    one, other = Placement.fit(maps(2, 9), WINDOW, BLUR), Placement.fit(maps(2, 9) * factor + shift, WINDOW, BLUR)
    np.testing.assert_allclose(other.level, one.level * factor + shift, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(other.spread, one.spread * factor, rtol=1e-3, atol=1e-3)
    query = maps(3, 1)[0]
    np.testing.assert_allclose(other(query * np.float32(factor) + np.float32(shift)), one(query), atol=1e-2)


def test_the_order_of_images_changes_nothing() -> None:
    given_maps = maps(4, 12)
    one, other = Placement.fit(given_maps, WINDOW, BLUR), Placement.fit(given_maps[::-1], WINDOW, BLUR)
    np.testing.assert_allclose(one.level, other.level, atol=1e-5)
    np.testing.assert_allclose(one.spread, other.spread, atol=1e-5)


@pytest.mark.parametrize("given_maps", [maps(0, 1), np.zeros((1, 8, 8), np.float32), np.zeros((7, 8, 8), np.float32)])
def test_one_image_or_no_variety_still_gives_a_finite_score(given_maps: NDArray[np.float32]) -> None:
    placement = Placement.fit(given_maps, WINDOW, BLUR)
    assert (placement.spread > 0).all()
    assert np.isfinite(placement(given_maps[0])).all()
