"""Run-length masks against loops over pixels."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tmuad import masks

Bool = NDArray[np.bool_]
SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
MASKS = SHAPES.flatmap(lambda shape: arrays(np.bool_, shape))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))


def slow_encode(mask: Bool) -> list[int]:
    """Pixel by pixel."""
    runs, current = [0], False
    for pixel in mask.ravel().tolist():
        if pixel != current:
            runs.append(0)
            current = pixel
        runs[-1] += 1
    return runs


@given(MASKS)
def test_encode_equals_a_loop_over_pixels(mask: Bool) -> None:
    runs = masks.encode(mask)
    assert runs.dtype == np.uint32
    assert runs.tolist() == slow_encode(mask)


@given(MASKS)
def test_decode_inverts_encode(mask: Bool) -> None:
    assert np.array_equal(masks.decode(masks.encode(mask), mask.shape), mask)


@given(MASKS)
def test_area_and_box_equal_those_of_the_pixels(mask: Bool) -> None:
    runs = masks.encode(mask)
    assert masks.area(runs) == mask.sum()
    x0, y0, x1, y1 = masks.box(runs, mask.shape)
    where = np.argwhere(mask)
    if len(where) == 0:
        assert (x0, y0, x1, y1) == (0, 0, 0, 0)
    else:
        assert [y0, x0] == where.min(axis=0).tolist()
        assert [y1 - 1, x1 - 1] == where.max(axis=0).tolist()


@given(MASKS)
def test_rows_are_those_with_foreground_and_between(mask: Bool) -> None:
    used = np.flatnonzero(mask.any(axis=1))
    rows = masks.rows(masks.encode(mask), (mask.shape[0], mask.shape[1]))
    assert (rows.start, rows.stop) == ((used[0], used[-1] + 1) if used.size else (0, 0))


@given(st.lists(arrays(np.uint32, st.integers(0, 5)), max_size=6))
def test_runs_laid_end_to_end_are_cut_again(many: list[masks.Runs]) -> None:
    flat = np.concatenate([np.zeros(0, np.uint32), *many])
    again = masks.cut(flat, np.array([len(runs) for runs in many], dtype=np.int64))
    assert [runs.tolist() for runs in again] == [runs.tolist() for runs in many]


@given(MASKS)
def test_moments_equal_those_of_the_pixels(mask: Bool) -> None:
    y, x = np.nonzero(mask)
    assert masks.moments(masks.encode(mask), mask.shape) == (len(x), float((x + 0.5).sum()), float((y + 0.5).sum()))


@given(st.lists(arrays(np.bool_, (5, 7)), max_size=4))
def test_second_moments_of_many_equal_those_of_the_pixels(many: list[Bool]) -> None:
    slow = []
    for mask in many:
        y, x = np.nonzero(mask)
        slow.append([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    found = masks.second_moments([masks.encode(mask) for mask in many], (5, 7))
    assert found.tolist() == np.array(slow, dtype=np.int64).reshape(-1, 6).tolist()


@given(st.lists(arrays(np.bool_, (5, 7)), max_size=4))
def test_boxes_of_many_equal_those_of_each(many: list[Bool]) -> None:
    runs = [masks.encode(mask) for mask in many]
    found, areas = masks.boxes(runs, (5, 7))
    assert found.tolist() == [list(masks.box(r, (5, 7))) for r in runs]
    assert areas.tolist() == [int(mask.sum()) for mask in many]


@settings(max_examples=50)
@given(PAIRS)
def test_union_and_intersection_equal_those_of_the_pixels(pair: tuple[Bool, Bool]) -> None:
    a, b = pair
    runs_a, runs_b = masks.encode(a), masks.encode(b)
    assert masks.intersection(runs_a, runs_b) == (a & b).sum()
    assert np.array_equal(masks.decode(masks.union([runs_a, runs_b], a.shape), a.shape), a | b)


def test_a_view_encodes_like_its_copy() -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    assert masks.encode(mask.T).tolist() == masks.encode(mask.T.copy()).tolist()


def test_runs_survive_lists_of_plain_integers() -> None:
    assert masks.area([2, 3, 1]) == 3  # type: ignore[arg-type]  (as they come back from Parquet)
    assert masks.decode([2, 3, 1], (2, 3)).tolist() == [[False, False, True], [True, True, False]]  # type: ignore[arg-type]


def test_the_union_of_nothing_is_empty() -> None:
    assert masks.area(masks.union([], (3, 4))) == 0


def test_lengths_beyond_32_bits_do_not_wrap() -> None:
    huge = np.array([0, 2**32 - 1, 2**32 - 1], dtype=np.uint32)
    with pytest.raises(ValueError, match="8589934590"):
        masks.decode(huge, (1, 1))
    assert masks.area(np.array([0, 2**32 - 1, 0, 2**32 - 1], dtype=np.uint32)) == 2 * (2**32 - 1)


@pytest.mark.parametrize("shape", [(2, 2), (3, 4)])
def test_runs_of_another_size_are_refused(shape: tuple[int, int]) -> None:
    runs = masks.encode(np.ones((3, 3), dtype=np.bool_))
    with pytest.raises(ValueError, match="9"):
        masks.decode(runs, shape)
    with pytest.raises(ValueError, match="different sizes"):
        masks.intersection(runs, masks.encode(np.ones(shape, dtype=np.bool_)))


@given(MASKS, st.integers(1, 3))
def test_eroded_and_dilated_as_scipy_does(mask: Bool, times: int) -> None:
    before = mask.copy()
    np.testing.assert_array_equal(masks.eroded(mask, times), ndi.binary_erosion(mask, iterations=times))
    np.testing.assert_array_equal(masks.dilated(mask, times), ndi.binary_dilation(mask, iterations=times))
    np.testing.assert_array_equal(mask, before)
