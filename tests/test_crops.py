"""Masked crops: what is inside, what is not, and that size is seen."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.describe.crops import FILL, crops_of, masked_crop

SIDE = 128


def disk(diameter: float, x: float = SIDE / 2, y: float = SIDE / 2, side: int = SIDE) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[:side, :side] + 0.5
    return np.hypot(rows - y, cols - x) <= diameter / 2


def shown(crop: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a crop that the object fills at least half."""
    return np.abs(crop.astype(int) - FILL).max(axis=2) > 64


def area(crop: NDArray[np.uint8]) -> float:
    """Pixels of a crop of a mid-grey object that the object fills; one it fills by half counts as half."""
    return float(np.abs(crop.astype(int) - FILL).max(axis=2).sum() / 128)


def grey(side: int = SIDE) -> NDArray[np.uint8]:
    return np.full((side, side, 3), 128, dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, SIDE), st.sampled_from([32, 64]))
def test_diameter_shown_is_the_square_root_of_the_diameter(diameter: int, size: int) -> None:
    wide = np.flatnonzero(shown(masked_crop(grey(), disk(diameter), size)).any(axis=0))
    assert abs((wide[-1] + 1 - wide[0]) - size * np.sqrt(diameter / SIDE)) <= 3  # px, of which 1 each side is rim


def test_of_two_objects_of_one_shape_the_larger_shows_larger() -> None:
    areas = [area(masked_crop(grey(), disk(diameter), 32)) for diameter in (20, 28, 40, 56, 80, 112)]
    assert all(larger > 1.2 * smaller for smaller, larger in pairwise(areas))


def test_a_bar_shows_as_long_askew_as_upright() -> None:
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    upright = (np.abs(rows) < 4) & (np.abs(cols) < 40)
    along, across = (rows + cols) / np.sqrt(2), (rows - cols) / np.sqrt(2)
    askew = (np.abs(across) < 4) & (np.abs(along) < 40)
    areas = [area(masked_crop(grey(), mask, 64)) for mask in (upright, askew)]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)  # by the side of its box it would show 1.37 times as large


@settings(max_examples=40, deadline=None)
@given(st.integers(15, SIDE - 15), st.integers(15, SIDE - 15))
def test_place_does_not_matter(x: int, y: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    moved = np.roll(image, (y - SIDE // 2, x - SIDE // 2), axis=(0, 1))
    assert np.array_equal(masked_crop(image, disk(20), 32), masked_crop(moved, disk(20, x, y), 32))


def test_pixels_outside_the_mask_do_not_matter() -> None:
    image, other = grey(), grey()
    other[~disk(50)] = (9, 200, 30)
    assert np.array_equal(masked_crop(image, disk(50), 32), masked_crop(other, disk(50), 32))
    inside, ring = masked_crop(image, disk(50), 32), disk(50) & ~disk(30)
    hole = masked_crop(image, ring, 32)
    assert tuple(inside[16, 16]) == (128, 128, 128)
    assert tuple(hole[16, 16]) == FILL


@pytest.mark.parametrize("corner", [(0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1)])
def test_a_single_pixel_at_the_border_shows(corner: tuple[int, int]) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[corner] = True
    crop = masked_crop(grey(), mask, 32)
    assert crop.shape == (32, 32, 3)
    assert (crop != FILL).any()


def test_mask_of_the_whole_image_is_cut_nowhere() -> None:
    image = grey()
    image[:4, :4] = image[-4:, -4:] = 0
    crop = masked_crop(image, np.ones((SIDE, SIDE), dtype=np.bool_), 64)
    dark = (crop.astype(int).max(axis=2) < 120).nonzero()
    assert dark[0].size and dark[0].min() < 16 and dark[0].max() > 48


def test_nothing_to_show() -> None:
    crop = masked_crop(grey(), np.zeros((SIDE, SIDE), dtype=np.bool_), 32)
    assert (crop == FILL).all()
    assert crops_of(grey(), [], 32).shape == (0, 32, 32, 3)
    assert crops_of(grey(), [disk(20), disk(40)], 32).shape == (2, 32, 32, 3)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(64, 64\).*\(128, 128, 3\)"):
        masked_crop(grey(), disk(20, 32, 32, 64), 32)


def test_fill_is_the_callers_to_choose() -> None:
    assert tuple(masked_crop(grey(), disk(20), 32, fill=(0, 0, 0))[0, 0]) == (0, 0, 0)
