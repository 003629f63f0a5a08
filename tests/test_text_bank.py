"""The text bank: what it takes for normal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

from tmuad import masks
from tmuad.banks.text import ENOUGH, MIN_PLACE, Range, TextBank, outvoted

# ---- ranges

BOUNDS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(BOUNDS, st.floats(0, 1), st.floats(0, 1))
def test_alpha_is_zero_inside_and_grows_with_the_distance(bounds: list[float], a: float, b: float) -> None:
    normal = Range(*bounds)
    for value in (a, b):
        alpha = normal.outside(value)
        assert 0 <= alpha <= 1
        assert (alpha == 0) == (normal.low <= value <= normal.high) or alpha < 1e-6
    gap_a, gap_b = (max(normal.low - value, value - normal.high, 0) for value in (a, b))
    if gap_a <= gap_b:
        assert normal.outside(a) <= normal.outside(b)


def test_alpha_counts_widths_of_the_range() -> None:
    assert Range(0.2, 0.4).outside(0.5) == pytest.approx(0.5)
    assert Range(0.2, 0.4).outside(0.1) == pytest.approx(0.5)
    assert Range(0.2, 0.4).outside(0.9) == 1
    assert Range(0.2, 0.2).outside(0.21) == pytest.approx(0.5)  # a floor of a tenth of the middle
    assert Range(0.0, 0.0).outside(0.0) == 0
    assert Range(0.0, 0.0).outside(0.1) == 1


# ---- what is normal


def test_what_many_normal_images_show() -> None:
    sides = [3, 4, 5]
    bank = TextBank(
        [
            scene(i, thing("class-1", 0.25, 0.25, sides[i % 3]), *[thing("class-2", 0.75, 0.75)] * (i % 2))
            for i in range(ENOUGH)
        ],
        SHAPE,
    )
    assert list(bank.classes) == ["class-1", "class-2"]
    one, two = bank.classes["class-1"], bank.classes["class-2"]
    assert (one.counts, two.counts) == ((1,), (0, 1))
    assert (one.size.low, one.size.high) == pytest.approx((9 / 1024, 25 / 1024))
    assert masks.area(one.region) == 25
    assert masks.box(two.region, SHAPE) == (22, 22, 26, 26)
    assert len(one.places) == ENOUGH
    assert one.reach == MIN_PLACE


def test_few_images_widen_the_ranges() -> None:
    few, many = (TextBank([scene(i, thing("a", 0.5, 0.5)) for i in range(n)], SHAPE).classes["a"] for n in (5, ENOUGH))
    assert few.size.low < many.size.low == many.size.high < few.size.high
    assert few.reach > many.reach


def test_reach_equals_the_slow_search() -> None:
    random = np.random.default_rng(0)
    entries = [scene(i, *[thing("a", *random.uniform(0.1, 0.9, 2)) for _ in range(3)]) for i in range(ENOUGH)]
    reach = TextBank(entries, SHAPE).classes["a"].reach
    slow = max(
        min(np.hypot(o.x - p.x, o.y - p.y) for k, other in enumerate(entries) if k != i for p in other.objects)
        for i, entry in enumerate(entries)
        for o in entry.objects
    )
    assert reach == pytest.approx(max(MIN_PLACE, slow))


def test_reach_over_many_objects_needs_no_square_of_them() -> None:
    random = np.random.default_rng(0)
    entries = [scene(i, *[thing("a", *random.uniform(0.1, 0.9, 2)) for _ in range(20)]) for i in range(100)]
    assert TextBank(entries, SHAPE).classes["a"].reach < 0.1


def test_one_image_is_a_bank() -> None:
    normal = TextBank([scene(0, thing("a", 0.5, 0.5), thing("a", 0.2, 0.2))], SHAPE).classes["a"]
    assert normal.reach == pytest.approx(0.1)
    assert normal.size.low < 32 / 1024 < normal.size.high
    assert normal.counts == (2,)


def test_an_empty_bank_knows_nothing() -> None:
    bank = TextBank([], SHAPE)
    assert (bank.classes, bank.unique_texts, bank.rows()) == ({}, {}, [])


def test_equal_texts_fold_to_the_first() -> None:
    bank = TextBank([scene(0, thing("a", 0.5, 0.5)), scene(1), scene(2, thing("a", 0.52, 0.5)), scene(3)], SHAPE)
    assert list(bank.unique_texts.values()) == [0, 1]


def test_rows_tell_what_is_normal() -> None:
    (row,) = TextBank([scene(0, thing("a", 0.5, 0.5)), scene(1)], SHAPE).rows()
    assert (row["object_class"], row["images"], row["counts"]) == ("a", 1, [0, 1])
    assert masks.area(row["runs"]) == 16


# ---- slips of the segmenter


def test_an_entry_that_all_others_contradict_is_outvoted() -> None:
    entries = [scene(i, thing("a", 0.5, 0.5), thing("a", 0.2, 0.2)) for i in range(60)]
    entries[17] = scene(17, thing("a", 0.5, 0.5))
    entries[40] = scene(40, thing("a", 0.5, 0.5), thing("a", 0.2, 0.2), thing("b", 0.8, 0.8))
    assert outvoted(entries) == [17, 40]


def test_few_entries_outvote_none() -> None:
    assert outvoted([scene(i, thing("a", 0.5, 0.5)) for i in range(20)] + [scene(20)]) == []
    assert outvoted([]) == []


def test_counts_that_vary_are_no_slips() -> None:
    assert outvoted([scene(i, *[thing("a", 0.5, 0.5)] * (1 + i % 3)) for i in range(60)] + [scene(60)]) == []
