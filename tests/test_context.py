"""Patches in their context: deviations from class and place, against a loop, and the grid of classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad import masks
from tmuad.banks import context as module
from tmuad.banks.context import BACKGROUND, CLIP, Context, class_grid
from tmuad.describe.description import SceneObject, describe
from tmuad.describe.table import scene_object

SIDE, DEPTH = 24, 3


def features(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(SIDE, SIDE, DEPTH)) + np.mgrid[:SIDE, :SIDE][1][..., None] / 8).astype(np.float32)


def grid() -> NDArray[np.str_]:
    classes = np.full((SIDE, SIDE), BACKGROUND, dtype="<U4")
    classes[:10, :10] = "nut"
    classes[20, 20] = "speck"
    return classes


def thing(name: str, side: slice, shape: tuple[int, int]) -> SceneObject:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[side, side] = True
    return scene_object(name, masks.encode(mask), shape)


@pytest.fixture(scope="module")
def fitted() -> Context:
    return Context.fit((features(i), grid()) for i in range(6))


def test_mean_and_spread_of_a_class_equal_those_of_its_patches(fitted: Context) -> None:
    rows = np.concatenate([features(i)[grid() == "nut"] for i in range(6)]).astype(np.float64)
    everything = np.concatenate([features(i).reshape(-1, DEPTH) for i in range(6)]).astype(np.float64)
    nut = fitted.classes.index("nut")
    np.testing.assert_allclose(fitted.class_mean[nut], rows.mean(axis=0), atol=2e-3)
    floor = module.FLOOR * everything.std(axis=0) + 0.02
    np.testing.assert_allclose(fitted.class_spread[nut], rows.std(axis=0) + floor, rtol=2e-3)


def test_a_class_of_few_patches_counts_as_background(fitted: Context) -> None:
    assert fitted.classes == (BACKGROUND, "nut")  # not "speck"
    rows = fitted(features(9), grid())
    assert rows.shape == (SIDE, SIDE, 3 * DEPTH)
    as_background = fitted(features(9), np.where(grid() == "speck", BACKGROUND, grid()))
    np.testing.assert_array_equal(rows, as_background)


def test_deviations_are_differences_in_spreads_clipped(fitted: Context) -> None:
    image = features(9)
    image[3, 4] = 1000
    rows = fitted(image, grid())
    np.testing.assert_array_equal(rows[..., :DEPTH], image)
    nut, y, x = fitted.classes.index("nut"), 5, 6
    expected = (image[y, x] - fitted.class_mean[nut]) / fitted.class_spread[nut]
    np.testing.assert_allclose(rows[y, x, DEPTH : 2 * DEPTH], expected, rtol=1e-5)
    expected = (image[y, x] - fitted.place_mean[y, x]) / fitted.place_spread[y, x]
    np.testing.assert_allclose(rows[y, x, 2 * DEPTH :], expected, rtol=1e-5)
    assert (rows[3, 4, DEPTH:] == CLIP).all()


def test_rows_of_some_cells_equal_those_of_the_whole_map(fitted: Context) -> None:
    cells = np.array([0, 17, 200, SIDE * SIDE - 1])
    image = features(3)
    some = fitted.rows(image.reshape(-1, DEPTH)[cells], grid(), cells)
    np.testing.assert_array_equal(some, fitted(image, grid()).reshape(-1, 3 * DEPTH)[cells])


def test_a_channel_that_never_varies_gives_finite_deviations() -> None:
    flat = np.ones((SIDE, SIDE, DEPTH), np.float32)
    constant = Context.fit([(flat, grid())])
    assert np.isfinite(constant(flat + 1, grid())).all()


def test_a_patch_is_of_the_object_that_covers_it_and_of_the_smaller_of_two() -> None:
    shape = (96, 96)
    large, small = thing("tray", slice(0, 64), shape), thing("nut", slice(16, 32), shape)
    classes = class_grid(describe("x", [small, large]), shape, 12)
    assert classes.shape == (12, 12)
    assert classes[3, 3] == "nut" and classes[6, 6] == "tray" and classes[11, 11] == BACKGROUND
    assert classes[8, 3] == "tray"  # the rim belongs to the object
    assert (class_grid(describe("x", []), shape, 12) == BACKGROUND).all()


@given(st.integers(0, 2**32 - 1), st.integers(13, 70), st.integers(1, 13))
def test_pixels_are_counted_cell_by_cell(seed: int, size: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), dtype=np.bool_)
    low, high = np.sort(rng.integers(0, size + 1, 2))
    mask[low:high] = rng.random((high - low, size)) < rng.random()
    ends = [*(i * size // side for i in range(side)), size]
    slow = [[mask[ends[i] : ends[i + 1], ends[j] : ends[j + 1]].sum() for j in range(side)] for i in range(side)]
    np.testing.assert_array_equal(module._pixels_in_cells(masks.encode(mask), mask.shape, side), slow)
