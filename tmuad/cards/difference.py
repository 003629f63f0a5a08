"""An image against what is normal, field by field: class, count, position, size.

These are the facts of the text bank. The findings are what the verdict makes of them: a field may lie outside its normal
range and still be no reason, where normal images are seen to leave that range too.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tmuad.banks.text import ClassNormal, TextBank
from tmuad.describe.description import ClassDescription, ImageDescription, SceneObject, class_order, grid_words
from tmuad.describe.position import READING_ORDER, cell
from tmuad.score.sentences import Names, noun
from tmuad.score.text import _sizes

ABSENT = "none"


@dataclass(frozen=True)
class Field:
    """One line of the comparison, in words."""

    object_class: str
    name: str  # what a person calls the class
    field: str  # count | position | size | size of one
    found: str
    normal: str
    nearest: str  # in the normal image with the most similar text; "" without one
    outside: bool  # found lies outside of what is normal


def compare(image: ImageDescription, bank: TextBank, nearest: ImageDescription | None, names: Names) -> list[Field]:
    """Fields of every class that the image shows or a normal image does, in canonical order of the classes."""
    known = set(image.by_name) | set(bank.classes)
    fields: list[Field] = []
    for object_class in sorted(known, key=class_order):
        found, normal = image.by_name.get(object_class), bank.classes.get(object_class)
        twin = nearest.by_name.get(object_class) if nearest else None
        rows = [_count(found, normal, twin, nearest is not None)]
        if found is not None:
            rows += [_position(found, normal, twin), _size(found, normal, twin)]
            if found.count > 1:
                rows.append(_size_of_one(found, normal, twin))
        name = noun(object_class, 1, names)
        fields += [Field(object_class, name, *row) for row in rows]
    return fields


_Row = tuple[str, str, str, str, bool]  # field, found, normal, nearest, outside


def _count(
    found: ClassDescription | None, normal: ClassNormal | None, twin: ClassDescription | None, any_twin: bool
) -> _Row:
    count = found.count if found else 0
    expected = _numbers(normal.counts) if normal else ABSENT
    there = (str(twin.count) if twin else "0") if any_twin else ""
    return "count", str(count), expected, there, count not in (normal.counts if normal else (0,))


def _position(found: ClassDescription, normal: ClassNormal | None, twin: ClassDescription | None) -> _Row:
    there = grid_words(twin.objects) if twin else ""
    if normal is None:
        return "position", grid_words(found.objects), ABSENT, there, True
    seen = Counter(cell(x, y) for x, y in normal.places)
    places = ", ".join(sorted(seen, key=READING_ORDER.__getitem__))
    away = max(_away(o, normal) for o in found.objects)
    here = grid_words(found.objects)
    if away > normal.reach:
        # Two digits or more, so that what is outside never reads as if it were within.
        here += f"; {_above(100 * away, 100 * normal.reach)} % of the side from the next normal place"
        places += f"; within {100 * normal.reach:.3g} %"
    return "position", here, places, there, away > normal.reach


def _size(found: ClassDescription, normal: ClassNormal | None, twin: ClassDescription | None) -> _Row:
    there = f"{100 * twin.size:.3g} %" if twin else ""
    if normal is None:
        return "size", f"{100 * found.size:.3g} %", ABSENT, there, True
    expected, words = _sizes(normal.size, found.size)
    return "size", words, expected, there, normal.size.outside(found.size) > 0


def _size_of_one(found: ClassDescription, normal: ClassNormal | None, twin: ClassDescription | None) -> _Row:
    there = ", ".join(f"{100 * o.area:.3g}" for o in twin.objects) + " %" if twin else ""
    if normal is None:
        return "size of one", ", ".join(f"{100 * o.area:.3g}" for o in found.objects) + " %", ABSENT, there, True
    outside = [o for o in found.objects if normal.object_size.outside(o.area) > 0]
    expected = _sizes(normal.object_size, found.objects[0].area)[0]
    words = [_sizes(normal.object_size, o.area)[1].removesuffix(" %") for o in found.objects]
    return "size of one", ", ".join(words) + " %", expected, there, bool(outside)


def _away(o: SceneObject, normal: ClassNormal) -> float:
    return float(np.linalg.norm(normal.places - (o.x, o.y), axis=1).min())


def _above(value: float, bound: float) -> str:
    for digits in range(2, 8):
        if float(text := f"{value:.{digits}g}") > float(f"{bound:.3g}"):
            return text
    return f"{value:g}"


def _numbers(counts: tuple[int, ...]) -> str:
    """'2', '1 or 4', '0 to 3'."""
    if len(counts) > 2 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]} to {counts[-1]}"
    return " or ".join(map(str, counts))
