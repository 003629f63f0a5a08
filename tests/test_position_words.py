"""Answers of language models about positions: what is understood, and that nothing breaks the parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmuad.describe.position import READING_ORDER
from tmuad.describe.position_words import parse_answer, parse_cells

CELLS = list(READING_ORDER)
NAMES = ["screw", "lens cap", "LED 2", "2 pin plug"]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("left", ["left"]),
        ("upper left, middle", ["top left", "centre"]),
        ("The screw is in the bottom-right corner.", ["bottom right"]),
        ("top centre and lower left", ["top", "bottom left"]),
        ("center", ["centre"]),
        ("centre left", ["left"]),
        ("left; left; LEFT", ["left"]),
        ("right\ntop", ["top", "right"]),
        ("from left to right", []),
        ("all over the place", []),
        ("", []),
        ("leftover topping", []),
    ],
)
def test_words_for_cells(text: str, cells: list[str]) -> None:
    assert parse_cells(text) == cells


@pytest.mark.parametrize(
    "answer",
    [
        '{"screw": ["top left", "centre"], "lens cap": "bottom"}',
        'Sure! Here it is:\n```json\n{"screw": ["upper left", "center"], "Lens Cap": ["lower middle"]}\n```',
        "- screw: top left and centre\n- lens cap: bottom",
        "1. **Screw**: top left, middle\n2. lens cap: at the bottom (center)",
        '{broken {"screw": ["top left", "centre"], "lens cap": "bottom", "robot": "left"} trailing }',
        '{"screw": "top left, centre"}\nlens cap: bottom\nscrew: right',
    ],
)
def test_the_ways_models_answer(answer: str) -> None:
    assert parse_answer(answer, NAMES) == {"screw": ["top left", "centre"], "lens cap": ["bottom"]}


@pytest.mark.parametrize(
    "answer", ["", "I see no screw.", "{}", "[]", '{"screw": []}', '{"screw": {}}', "screw", "null", "{" * 5000]
)
def test_answers_that_say_nothing(answer: str) -> None:
    assert parse_answer(answer, NAMES) == {}


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(CELLS), min_size=1, unique=True)))
def test_a_proper_answer_is_read_as_it_is_meant(answer: dict[str, list[str]]) -> None:
    expected = {name: sorted(cells, key=READING_ORDER.__getitem__) for name, cells in answer.items()}
    assert parse_answer(json.dumps(answer), NAMES) == expected
    assert parse_answer("\n".join(f"{n}: {', '.join(c)}" for n, c in answer.items()), NAMES) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*NAMES, "x"]) | st.text(), inner),
)
PIECES = st.sampled_from([*NAMES, *CELLS, "{", "}", '"', ":", ",", "[", "]", "\n", "```json", "\\", "\x00", "é"])


@given(
    st.text() | st.lists(PIECES).map("".join) | JSON.map(json.dumps) | st.binary().map(lambda b: b.decode("latin-1"))
)
def test_no_answer_breaks_it_and_the_vocabulary_is_the_grids(answer: str) -> None:
    for name, cells in parse_answer(answer, NAMES).items():
        assert name in NAMES
        assert cells and set(cells) <= set(CELLS) and cells == sorted(set(cells), key=READING_ORDER.__getitem__)
