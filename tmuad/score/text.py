"""The class-level text anomaly score S_T and the findings behind it (Algorithm 2 of the paper).

The paper marks the merged mask of a class that differs from the most similar normal text. Here each difference is a
finding of its own, with the objects it concerns, so that the map shows the one extra part and not its rightful twins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tmuad import masks
from tmuad.banks.text import ClassNormal, Range, TextBank
from tmuad.config import TextScoreParams
from tmuad.describe.description import ClassDescription, ImageDescription, SceneObject, grid_words
from tmuad.describe.position import cell

Attribute = Literal["missing", "extra", "position", "size", "appearance"]


@dataclass(frozen=True)
class Finding:
    """One difference between an image and what is normal."""

    object_class: str
    attribute: Attribute
    expected: str
    found: str
    strength: float  # 0..1, the value S_T takes on the region
    region: masks.Runs  # (S, S)
    count: int  # objects concerned
    where: str  # grid cells in words


def find_differences(query: ImageDescription, bank: TextBank, params: TextScoreParams) -> tuple[list[Finding], int]:
    """Findings for `query`, and the index of T_sim in the bank (-1 for an empty bank)."""
    if not bank.entries:
        return [], -1
    strict = params.strict(len(bank.entries))
    index = bank.nearest(query) if params.similar == "text" else bank.nearest_among_counts(query)
    similar = bank.entries[index]
    findings: list[Finding] = []
    present = masks.union([o.runs for o in query.objects], bank.shape)
    for described in query.classes:
        normal = bank.classes.get(described.object_class)
        expected = similar.by_name.get(described.object_class)
        if normal is None or expected is None:
            findings.append(_extra(described, described.objects, 0, bank))
            continue
        if not strict:  # few-shot: paper, Table X
            continue
        rightful, surplus, absent = _pair(described, expected, normal)
        if surplus:
            findings.append(_extra(described, surplus, expected.count, bank))
        if absent:
            findings.append(_missing(expected, absent, described, normal, present, bank, params))
        if params.position == "words":
            findings += _said_elsewhere(described, expected, bank)
        else:
            findings += _misplaced(rightful, normal, bank)
        findings += _missized(described, rightful, normal, bank, counted=not surplus and not absent)
    for expected in similar.classes:
        if expected.object_class not in query.by_name:  # line: if O_class^t not in {O_class^j}
            normal = bank.classes[expected.object_class]
            findings.append(_missing(expected, expected.objects, None, normal, present, bank, params))
    return sorted(findings, key=lambda f: -f.strength), index


def text_map(findings: Sequence[Finding], shape: tuple[int, int]) -> NDArray[np.float32]:
    """S_T: pixel-wise maximum of the findings' strengths over their regions, (S, S) float32 in 0..1."""
    score = np.zeros(shape, dtype=np.float32)
    for finding in findings:
        region = masks.decode(finding.region, shape)
        score[region] = np.maximum(score[region], np.float32(finding.strength))
    return score


def weigh(findings: Sequence[Finding], reliability: dict[str, float]) -> list[Finding]:
    """`findings` with strengths times the reliability of their "class/attribute"; what is left without strength is dropped."""
    weighed = [
        replace(f, strength=f.strength * reliability.get(f"{f.object_class}/{f.attribute}", 1.0)) for f in findings
    ]
    return sorted((f for f in weighed if f.strength > 0.01), key=lambda f: -f.strength)


def _pair(
    found: ClassDescription, expected: ClassDescription, normal: ClassNormal
) -> tuple[list[SceneObject], list[SceneObject], list[SceneObject]]:
    """Objects of `found` with a partner in `expected`, without one, and those of `expected` without: nearest pairs first."""
    here = np.array([(o.x, o.y) for o in found.objects])
    there = np.array([(o.x, o.y) for o in expected.objects])
    cost = np.linalg.norm(here[:, None] - there[None], axis=2)
    # An object of a strange size is the odd one out rather than the one that stands a little farther off.
    cost = cost + 0.5 * np.array([normal.object_size.outside(o.area) for o in found.objects])[:, None]
    rows, columns = linear_sum_assignment(cost)
    surplus = [o for i, o in enumerate(found.objects) if i not in set(rows)]
    absent = [o for j, o in enumerate(expected.objects) if j not in set(columns)]
    return [found.objects[i] for i in rows], surplus, absent


def _extra(found: ClassDescription, surplus: Sequence[SceneObject], expected: int, bank: TextBank) -> Finding:
    region = masks.union([o.runs for o in surplus], bank.shape)
    words = str(expected) if expected else "none"
    return Finding(found.object_class, "extra", words, str(found.count), 1.0, region, len(surplus), grid_words(surplus))


def _missing(
    expected: ClassDescription,
    absent: Sequence[SceneObject],
    found: ClassDescription | None,
    normal: ClassNormal,
    present: masks.Runs,
    bank: TextBank,
    params: TextScoreParams,
) -> Finding:
    count = 0 if found is None else found.count
    if found is not None and params.undercount == "paper":
        region = masks.union([o.runs for o in found.objects], bank.shape)  # the merged mask of what is there
    elif found is not None:
        # Where the class may be, less what is there already: the empty place (the authors' script).
        empty = masks.decode(normal.region, bank.shape) & ~masks.decode(present, bank.shape)
        region = masks.encode(_near(empty, absent, bank.shape))
    else:
        region = normal.region
    return Finding(
        expected.object_class, "missing", str(expected.count), str(count), 1.0, region, len(absent), grid_words(absent)
    )


def _near(empty: NDArray[np.bool_], absent: Sequence[SceneObject], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The part of `empty` that the absent objects of T_sim would cover; all of it where they cover none."""
    there = np.zeros(shape, dtype=np.bool_)
    for o in absent:
        there |= masks.decode(o.runs, shape)
    return empty & there if (empty & there).any() else empty


def _misplaced(objects: Sequence[SceneObject], normal: ClassNormal, bank: TextBank) -> list[Finding]:
    findings = []
    for o in objects:
        gaps = np.linalg.norm(normal.places - (o.x, o.y), axis=1)
        nearest = int(gaps.argmin())
        strength = float(np.clip((gaps[nearest] - normal.reach) / max(normal.reach, 0.04), 0, 1))
        if strength > 0:
            there, here = cell(*normal.places[nearest]), cell(o.x, o.y)
            away, within = _in_percent(float(gaps[nearest]), normal.reach)
            expected = there if there != here else f"{there}, within {within} %"
            found = here if there != here else f"{here}, {away} % of the side away"
            findings.append(Finding(o.object_class, "position", expected, found, strength, o.runs, 1, here))
    return findings


def _said_elsewhere(found: ClassDescription, expected: ClassDescription, bank: TextBank) -> list[Finding]:
    """O_pos in words against that of T_sim: the merged mask where they differ (line: S_T = max(S_T, I_class))."""
    if found.position == expected.position or found.count != expected.count:  # a wrong count has a finding of its own
        return []
    region = masks.union([o.runs for o in found.objects], bank.shape)
    where = grid_words(found.objects)
    return [Finding(found.object_class, "position", expected.position, found.position, 1.0, region, found.count, where)]


def _missized(
    described: ClassDescription, objects: Sequence[SceneObject], normal: ClassNormal, bank: TextBank, counted: bool
) -> list[Finding]:
    """alpha for each object and, where the count is right, for the class as a whole (line: S_T = max(S_T, alpha I))."""
    findings = []
    for o in objects:
        if (alpha := normal.object_size.outside(o.area)) > 0:
            expected, found = _sizes(normal.object_size, o.area)
            findings.append(Finding(o.object_class, "size", expected, found, alpha, o.runs, 1, cell(o.x, o.y)))
    if counted and not findings and (alpha := normal.size.outside(described.size)) > 0:
        region = masks.union([o.runs for o in described.objects], bank.shape)
        expected, found = _sizes(normal.size, described.size)
        where = grid_words(described.objects)
        findings.append(Finding(described.object_class, "size", expected, found, alpha, region, described.count, where))
    return findings


def _sizes(normal: Range, size: float) -> tuple[str, str]:
    found, low, high = _in_percent(size, max(normal.low, 0), normal.high)
    return f"{low} to {high} %", f"{found} %"


def _in_percent(value: float, *bounds: float) -> list[str]:
    """`value` and its `bounds` in percent, with two digits or as many more as it takes to tell it from them."""
    words: list[str] = []
    for digits in range(2, 8):
        words = [
            np.format_float_positional(100 * share, precision=digits, unique=False, fractional=False, trim="-")
            for share in (value, *bounds)
        ]
        if words[0] not in words[1:]:
            break
    return words
