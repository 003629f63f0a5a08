"""From what a language model says of positions to the vocabulary of the nine-grid."""

import json
import re
from collections.abc import Sequence

from tmuad.describe.position import CELLS, READING_ORDER

LONGEST = 20_000  # characters of an answer that are looked at

_ROWS = {"top": 0, "upper": 0, "above": 0, "bottom": 2, "lower": 2, "below": 2}
_COLUMNS = {"left": 0, "right": 2}
_MIDDLE = {"centre", "center", "middle", "central"}
_WORD = re.compile(r"[a-z]+")
_NUMBER = re.compile(r"^\d+[.)]\s*")  # of a list's item; '2 pin plug' is a name
_BREAK = re.compile(r"[,;/|\n\[\]]|\band\b|\bor\b")


def parse_cells(text: str) -> list[str]:
    """The cells that `text` names, in reading order; none where it names none.

    'upper left, middle' -> ['top left', 'centre']; 'centre left' -> ['left']; 'top centre' -> ['top'].
    """
    found = set()
    for part in _BREAK.split(text.lower().replace("-", " ")):
        words = set(_WORD.findall(part))
        row = {_ROWS[w] for w in words if w in _ROWS}
        column = {_COLUMNS[w] for w in words if w in _COLUMNS}
        if len(row) > 1 or len(column) > 1 or not (row or column or words & _MIDDLE):
            continue  # 'from left to right' is no place
        found.add(CELLS[row.pop() if row else 1][column.pop() if column else 1])
    return sorted(found, key=READING_ORDER.__getitem__)


def parse_answer(answer: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Cells of each of `names` that `answer` says something usable of; the others are missing from the result.

    JSON anywhere in the answer is taken first, then lines such as '- screw: left and top right'.
    """
    answer = answer[:LONGEST]
    wanted = {_plain(name): name for name in names}
    found: dict[str, list[str]] = {}
    for key, value in [*_json_pairs(answer), *_line_pairs(answer)]:
        name = wanted.get(_plain(key))
        if name is not None and name not in found and (cells := parse_cells(value)):
            found[name] = cells
    return found


def _json_pairs(answer: str) -> list[tuple[str, str]]:
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", answer):
        try:
            value, _ = decoder.raw_decode(answer, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return [(str(key), _as_text(item)) for key, item in value.items()]
    return []


def _as_text(value: object) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _line_pairs(answer: str) -> list[tuple[str, str]]:
    pairs = []
    for line in answer.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            name = key.strip(" \t-*\"'`")
            pairs += [(name, value), (_NUMBER.sub("", name).strip(" *\"'`"), value)]
    return pairs


def _plain(name: str) -> str:
    return " ".join(name.lower().strip(" \"'`*").split())
