"""Maps on patch grids: interpolation against scipy, smoothing, and what both must keep."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.grid import interpolate, smoothed


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "target"), [((5, 5), (20, 20)), ((3, 7), (10, 9)), ((8, 8), (56, 56)), ((9, 9), (4, 6))]
)
def test_interpolation_equals_scipys_between_cell_centres(shape: tuple[int, int], target: tuple[int, int]) -> None:
    m = noise(*shape)
    places = [np.clip((np.arange(t) + 0.5) * s / t - 0.5, 0, s - 1) for s, t in zip(shape, target, strict=True)]
    reference = ndi.map_coordinates(m.astype(np.float64), np.meshgrid(*places, indexing="ij"), order=1)
    np.testing.assert_allclose(interpolate(m, target), reference, atol=1e-5)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 60), st.integers(1, 60))
def test_values_stay_within_those_of_the_map(h: int, w: int, height: int, width: int) -> None:
    m = noise(h, w)
    grown = interpolate(m, (height, width))
    assert grown.shape == (height, width) and grown.dtype == np.float32
    assert grown.min() >= m.min() - 1e-5 and grown.max() <= m.max() + 1e-5


def test_the_same_shape_is_the_same_map_and_a_cell_grows_in_its_place() -> None:
    m = noise(6, 6)
    assert interpolate(m, (6, 6)) is m
    peak = np.zeros((7, 7), dtype=np.float32)
    peak[2, 5] = 1
    y, x = np.unravel_index(interpolate(peak, (70, 70)).argmax(), (70, 70))
    assert 20 <= y < 30 and 50 <= x < 60


def test_a_single_cell_is_constant() -> None:
    np.testing.assert_allclose(interpolate(np.float32([[3]]), (4, 5)), 3)


def test_smoothing_keeps_a_constant_and_follows_the_side() -> None:
    np.testing.assert_allclose(smoothed(np.full((12, 12), 2.5), 0.1), 2.5, atol=1e-6)
    m = noise(20, 20)
    np.testing.assert_allclose(smoothed(m, 0.1), ndi.gaussian_filter(m, 2.0, mode="nearest"), atol=1e-6)
    assert smoothed(m.astype(np.float16), 0.1).dtype == np.float32
