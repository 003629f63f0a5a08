"""The index of texts against one difflib ratio per text, ties included; counts of classes against a loop."""

import difflib

import cydifflib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

import tmuad.banks.text_index as module
import tmuad.banks.text_order as order
from tmuad.banks.text import TextBank
from tmuad.banks.text_index import TextIndex


def slow_nearest(query: str, texts: list[str]) -> tuple[int, float]:
    ratios = [difflib.SequenceMatcher(None, text, query, autojunk=False).ratio() for text in texts]
    return (ratios.index(max(ratios)), max(ratios)) if texts else (-1, -1.0)


WHERE = st.sampled_from(["left", "top", "top left", "centre", "bottom right"])
PART = st.builds("{} class-{} at {}, {} %".format, st.integers(1, 3), st.integers(1, 3), WHERE, st.integers(3, 12))
DESCRIPTION = st.lists(PART, min_size=1, max_size=5).map("; ".join)
ANYTHING = DESCRIPTION | st.text(alphabet="ab ;1", max_size=8) | st.text(max_size=12)


@settings(max_examples=300)
@given(ANYTHING, st.lists(ANYTHING, max_size=30, unique=True))
@example("", [""])
@example("", ["a", "b"])
@example("винт", ["", "нитв", "винт M4"])
@example("a\ud800", ["\ud800"])
@example("b" * 300, ["ab" * 200, "b" * 299 + "a"])
def test_nearest_equals_difflib_over_all_and_the_first_of_equals_wins(query: str, texts: list[str]) -> None:
    wanted = slow_nearest(query, texts)
    for together in (0, 1000):  # bounds of all texts together, and of one after the other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "TOGETHER", together)
            assert TextIndex(texts).nearest(query) == wanted


@settings(max_examples=60)
@given(DESCRIPTION, st.lists(DESCRIPTION, min_size=1, max_size=30, unique=True), st.data())
def test_of_some_rows_alone(query: str, texts: list[str], data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1))))
    row, ratio = TextIndex(texts).nearest(query, np.array(rows, dtype=np.int64))
    slow, best = slow_nearest(query, [texts[i] for i in rows])
    assert (row, ratio) == (rows[slow] if rows else -1, best)


@pytest.mark.parametrize("together", [0, 10, 1000])
@pytest.mark.parametrize("many", [0, 20, 1000])
def test_many_alike_texts_in_blocks_and_batches(many: int, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(module, "BEGIN", 1)
    monkeypatch.setattr(module, "MANY", many)
    monkeypatch.setattr(module, "TOGETHER", together)
    monkeypatch.setattr(module, "FIRST", 5)
    monkeypatch.setattr(module, "MOST", 50)
    monkeypatch.setattr(order, "BATCH", 11)
    random = np.random.default_rng(0)
    texts = list(dict.fromkeys(description(random) for _ in range(250)))
    index = TextIndex(texts)
    for query in [description(random) for _ in range(12)] + [texts[100] + " ", texts[7][3:], "nothing"]:
        assert index.nearest(query) == brute_nearest(query, texts)


def description(random: np.random.Generator, parts: int = 8) -> str:
    cells = random.choice(["left", "top", "top left", "right", "bottom"], parts)
    return "; ".join(f"1 class-{i} at {cell}, {random.integers(4, 8)} %" for i, cell in enumerate(cells))


@pytest.mark.parametrize("fault", ["missing", "extra", "moved"])
def test_few_of_many_texts_are_compared_one_by_one(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries far from every text, too: that is what the bound by order is for."""
    random = np.random.default_rng(1)
    texts = list(dict.fromkeys(description(random) for _ in range(1500)))
    compared: list[int] = []
    compare = module._Search.compare
    monkeypatch.setattr(module._Search, "compare", lambda search, row: (compared.append(row), compare(search, row)))
    index = TextIndex(texts)
    for text in [description(random) for _ in range(4)]:
        parts = text.split("; ")
        if fault == "missing":
            parts.pop(3)
        elif fault == "extra":
            parts.insert(5, "2 class-9 at centre, bottom right, 11 %")
        else:
            parts[4] = "1 class-4 at bottom right, 6 %"
        query = "; ".join(parts)
        assert index.nearest(query) == brute_nearest(query, texts)
    assert len(compared) < 4 * 25


def brute_nearest(query: str, texts: list[str]) -> tuple[int, float]:
    """As `slow_nearest`, with the faster twin of difflib that the tests above hold against it."""
    matcher = cydifflib.SequenceMatcher(None, "", query, autojunk=False)
    ratios = []
    for text in texts:
        matcher.set_seq1(text)
        ratios.append(matcher.ratio())
    return ratios.index(max(ratios)), max(ratios)


def slow_among_counts(query, entries) -> float:
    def difference(entry) -> int:
        names = {c.object_class for c in (*query.classes, *entry.classes)}
        counts = [{c.object_class: c.count for c in image.classes} for image in (query, entry)]
        return sum(abs(counts[0].get(name, 0) - counts[1].get(name, 0)) for name in names)

    least = min(difference(entry) for entry in entries)
    texts = list(dict.fromkeys(entry.text for entry in entries if difference(entry) == least))
    return max(slow_nearest(query.text, [text])[1] for text in texts)


THINGS = st.lists(
    st.builds(thing, st.sampled_from("abc"), st.sampled_from([0.2, 0.5, 0.8]), st.sampled_from([0.2, 0.5, 0.8])),
    max_size=5,
)


@settings(max_examples=60)
@given(THINGS, st.lists(THINGS, min_size=1, max_size=12))
def test_among_the_nearest_counts(query_things, many) -> None:
    entries = [scene(i, *things) for i, things in enumerate(many)]
    query = scene(99, *query_things, thing("only here", 0.5, 0.5))
    found = entries[TextBank(entries, SHAPE).nearest_among_counts(query)]
    assert found.text == next(entry.text for entry in entries if entry.text == found.text)
    assert slow_nearest(query.text, [found.text])[1] == slow_among_counts(query, entries)
    assert slow_among_counts(query, [found]) == slow_among_counts(query, entries)
    same = entries[TextBank(entries, SHAPE).nearest(query)]
    assert same.image_id == entries[slow_nearest(query.text, [entry.text for entry in entries])[0]].image_id


def test_of_equals_the_counts_seen_first_come_first() -> None:
    """Both differ by one object and are as similar."""
    entries = [scene(0, thing("a", 0.2, 0.2)), scene(1, thing("b", 0.2, 0.2)), scene(2, thing("a", 0.2, 0.2))]
    query = scene(9, thing("a", 0.2, 0.2), thing("b", 0.2, 0.2))
    assert TextBank(entries, SHAPE).nearest_among_counts(query) == 0
