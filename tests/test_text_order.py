"""Characters in common in the same order, for many texts at once, against the table of the textbook."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tmuad.banks.text_order import WIDEST, Alphabet, Band, Halves, codes


def slow_common(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b):
            diagonal, row[j + 1] = row[j + 1], diagonal + 1 if x == y else max(row[j], row[j + 1])
    return row[-1]


def halves(texts: list[str]) -> Halves:
    return Halves(texts, Alphabet(np.unique(codes("".join(texts)))))


FEW_LETTERS = st.text(alphabet="ab; ", max_size=120)
TEXT = FEW_LETTERS | st.text(alphabet="abcdefgh; ", max_size=40) | st.text(max_size=12)
BAND = st.integers(0, WIDEST - 1).flatmap(lambda of: st.builds(Band, st.integers(0, WIDEST - 1 - of), st.just(of)))


@settings(max_examples=400)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=6), BAND)
@example("", ["", "ab; c"], Band(0, 0))
@example("a" * 200, ["b" * 200, "a" * 200], Band(3, 3))  # far more is left over than a byte holds
@example("a" * 300, ["b" * 300], Band(WIDEST // 2, WIDEST // 2))
@example("\ud800b", ["\ud800; b", "b; \ud800"], Band(9, 9))
def test_what_is_left_over_is_exact_within_the_band(query: str, texts: list[str], band: Band) -> None:
    found = halves(texts).left_over(query, np.arange(len(texts)), band)
    for text, left in zip(texts, found, strict=True):
        common = slow_common(text, query)
        if len(text) - common <= band.text and len(query) - common <= band.query:
            assert left == len(text) - common
        else:  # too many at the most, or more than the band: never taken for near
            assert left > band.text or left >= len(text) - common


@given(st.lists(FEW_LETTERS, min_size=2, max_size=8), FEW_LETTERS, st.data())
def test_texts_do_not_change_each_others_figures(texts: list[str], query: str, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=12)))
    together = halves(texts).left_over(query, rows, Band(20, 20))
    alone = [halves([texts[row]]).left_over(query, np.array([0]), Band(20, 20))[0] for row in rows]
    assert together.tolist() == alone


@pytest.mark.parametrize("count", [300, 40000])
def test_alphabets_of_any_size(count: int) -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(min(count, 20000))) + "".join(
        chr(0x20000 + i) for i in range(max(0, count - 20000))
    )
    texts = [letters[-20:] + "; " + letters[:20], letters[:30]] + [letters[i : i + 90] for i in range(0, count, 90)]
    found = halves(texts).left_over(letters[2:22], np.array([0, 1]), Band(28, 28))
    assert found.tolist() == [len(texts[0]) - 18, 10]
