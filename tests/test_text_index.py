"""The index of texts against one difflib ratio per text, ties included; counts of classes against a loop."""

import difflib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

import tmuad.banks.text_index as module
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
    assert TextIndex(texts).nearest(query) == slow_nearest(query, texts)


@settings(max_examples=60)
@given(DESCRIPTION, st.lists(DESCRIPTION, min_size=1, max_size=30, unique=True), st.data())
def test_of_some_rows_alone(query: str, texts: list[str], data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1))))
    row, ratio = TextIndex(texts).nearest(query, np.array(rows, dtype=np.int64))
    slow, best = slow_nearest(query, [texts[i] for i in rows])
    assert (row, ratio) == (rows[slow] if rows else -1, best)


@pytest.mark.parametrize("batch", [1, 64])
def test_many_alike_texts_in_blocks_and_batches(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(module, "FIRST", batch)
    monkeypatch.setattr(module, "MANY", 3)
    random = np.random.default_rng(0)

    def text() -> str:
        cells = random.choice(["left", "top", "top left", "right", "bottom"], 8)
        return "; ".join(f"1 class-{i} at {cell}, {random.integers(4, 8)} %" for i, cell in enumerate(cells))

    texts = list(dict.fromkeys(text() for _ in range(250)))
    index = TextIndex(texts)
    for query in [text() for _ in range(12)] + [texts[100] + " ", texts[7][3:], "nothing"]:
        assert index.nearest(query) == slow_nearest(query, texts)


def test_few_of_many_texts_are_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    texts = [
        "; ".join(f"{random.integers(1, 3)} class-{i} at left, {random.integers(2, 9)} %" for i in range(7))
        for _ in range(3000)
    ]
    compared: list[int] = []
    compare = module._Search.compare
    monkeypatch.setattr(module._Search, "compare", lambda search, row: (compared.append(row), compare(search, row)))
    index = TextIndex(texts)
    for text in texts[:20]:
        index.nearest(text.replace("class-3 at left", "class-3 at top left"))
    assert len(compared) < 20 * 40


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
