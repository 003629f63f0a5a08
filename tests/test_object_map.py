"""S_O: the segments' distances painted on their masks, against a loop over pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad import masks
from tmuad.score.objects import object_map

SHAPE = (5, 6)
BITS = st.lists(st.booleans(), min_size=30, max_size=30).map(lambda values: np.array(values).reshape(SHAPE))
SEGMENTS = st.lists(st.tuples(BITS, st.floats(-5, 5, width=32)), max_size=5)


@settings(max_examples=60)
@given(SEGMENTS, st.sampled_from(["sum", "mean", "max"]))
def test_the_map_equals_a_loop_over_pixels(segments, overlap) -> None:  # type: ignore[no-untyped-def]
    runs, values = [masks.encode(mask) for mask, _ in segments], np.float32([value for _, value in segments])
    drawn = object_map(runs, values, SHAPE, overlap)
    assert drawn.dtype == np.float32
    combine = {"sum": sum, "mean": np.mean, "max": max}[overlap]
    for y, x in np.ndindex(*SHAPE):
        here = [value for mask, value in segments if mask[y, x]]
        assert drawn[y, x] == pytest.approx(combine(here) if here else 0, abs=1e-4)


@given(SEGMENTS, st.randoms())
@settings(max_examples=30)
def test_the_order_of_segments_changes_nothing(segments, random) -> None:  # type: ignore[no-untyped-def]
    other = segments[:]
    random.shuffle(other)
    one, two = (
        object_map([masks.encode(m) for m, _ in s], np.float32([v for _, v in s]), SHAPE) for s in (segments, other)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_mean_does_not_grow_with_nesting() -> None:
    whole, part = np.ones(SHAPE, dtype=np.bool_), np.zeros(SHAPE, dtype=np.bool_)
    part[1:3, 1:3] = True
    runs = [masks.encode(whole), masks.encode(part), masks.encode(part)]
    drawn = object_map(runs, np.float32([2, 2, 2]), SHAPE)
    np.testing.assert_allclose(drawn, 2)


def test_a_distance_too_few_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="zip"):
        object_map([masks.encode(np.ones(SHAPE, dtype=np.bool_))], np.float32([]), SHAPE)
