"""The shape of the paper's claims on the units at hand: which comparison holds there, and which does not.

A claim says that one variant does better than others. Both are looked at in the same bootstrap resamples of the same test
images, so that their difference has an interval of its own; it is that to the best of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tmuad.evaluate.bootstrap import LEVEL
from tmuad.evaluate.cells import Key
from tmuad.report.paper.scopes import Scope
from tmuad.report.paper.sources import Found, Sources, first_of, mean_of

VERDICTS = (
    "holds",
    "holds, within noise",
    "undecided: equal",
    "does not hold, within noise",
    "does not hold",
    "not run",
)
SAME = 1e-9  # figures that differ by less are equal


@dataclass(frozen=True)
class Claim:
    """That the best of `better` does better than the best of `others`.

    Each is a bank ("banks/text"), all three (""), a variant, or whatever variant of the profile in force stands for a row or
    column of the paper's table ("row 6/...").
    """

    text: str
    where: str  # in the paper
    key: Key
    better: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """A claim on one unit, or on the mean of several."""

    claim: Claim
    scope: str
    winner: str
    rival: str
    values: tuple[float, float]  # of winner and rival, 0..1
    difference: tuple[float, float] | None  # its interval
    needs: str = ""

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.needs:
            return "not run"
        if abs(self.values[0] - self.values[1]) < SAME:
            return "undecided: equal"
        holds = self.values[0] > self.values[1]
        low, high = self.difference or (0.0, 0.0)
        clear = low > 0 if holds else high < 0
        return ("holds" if holds else "does not hold") + ("" if clear else ", within noise")


LOGICAL, STRUCTURAL, AVERAGE, ALL = (
    ("image", name) for name in ("auroc_logical", "auroc_structural", "average", "auroc")
)
IMAGE_BANKS, TEXT = ("banks/objects", "banks/patches"), ("banks/text",)
PAIRS = ("banks/text+objects", "banks/text+patches", "banks/objects+patches")
ENCODED = (
    "row 6/whole image by VLM, CLIP text encoder",
    "row 6/whole image by VLM, T5 encoder",
    "row 6/Grounded SAM first, VLM per segment, T5 encoder",
    "row 6/Grounded SAM, positions by VLM (Algorithm 1), T5 encoder",
)
CLASS_LEVEL = ("row 6/Grounded SAM, positions by VLM (Algorithm 1), class-level text matching",)
CLAIMS = (
    Claim("the text bank is the best single bank on logical anomalies", "Table V", LOGICAL, TEXT, IMAGE_BANKS),
    Claim("the image banks are better than the text bank on structural anomalies", "Table V", STRUCTURAL, IMAGE_BANKS, TEXT),
    Claim("the object bank is the best single bank on structural anomalies, image by image", "IV-D", STRUCTURAL,
          ("banks/objects",), ("banks/text", "banks/patches")),
    Claim("the patch bank is the best single bank on structural anomalies, pixel by pixel", "IV-D",
          ("pixel", "auroc_structural"), ("banks/patches",), ("banks/text", "banks/objects")),
    Claim("all three banks together are better than any one or two, over both kinds", "Table V", AVERAGE, ("",),
          (*TEXT, *IMAGE_BANKS, *PAIRS)),
    Claim("matching class by class beats comparing texts as vectors", "Table VI", LOGICAL, CLASS_LEVEL, ENCODED),
    Claim("segmenting first beats describing the whole image", "Table VI", LOGICAL, ENCODED[2:3], ENCODED[:2]),
    Claim("regions of any kind make a better object bank than named objects", "Table VIII", ALL,
          ("row 8/CLIP, SAM only", "row 8/DINOv2, SAM only"), ("row 8/CLIP, Grounded SAM", "row 8/DINOv2, Grounded SAM")),
    Claim("two patch encoders together are better than either alone", "Table IX", ALL, ("row 9/DINOv2+CLIP",),
          ("row 9/DINOv2", "row 9/CLIP")),
    Claim("with four normal images, relaxed matching is better than strict", "Table X", ALL, ("four-relaxed",),
          ("four-strict",)),
    Claim("more centroids than 100 bring little: 300 are not better by more than a point", "Fig. 18", ALL, ("k-100",),
          ("k-300 less a point",)),
)  # fmt: skip
POINT, ROW = " less a point", "row "


def judge_claims(scope: Scope, sources: Sources) -> list[Judged]:
    """Every claim on each unit of `scope`, and on their mean where there are several."""
    places: list[tuple[str, tuple[str, ...]]] = [(unit, (unit,)) for unit in scope.units]
    if len(scope.units) > 1:
        places.append((f"mean of {scope.name}", scope.units))
    return [_judged(claim, name, units, sources) for claim in CLAIMS for name, units in places]


def _judged(claim: Claim, name: str, units: Sequence[str], sources: Sources) -> Judged:
    better, others = (
        {_named(one, sources): _found(_named(one, sources), claim.key, units, sources) for one in side}
        for side in (claim.better, claim.others)
    )
    # A pair of banks that was not evaluated must not hide that a claim was not tested.
    needs = list(dict.fromkeys(f.needs for f in (*better.values(), *others.values()) if f.cell is None))
    if needs:
        return Judged(claim, name, "", "", (np.nan, np.nan), None, "; ".join(needs))
    (winner, a), (rival, b) = (max(group.items(), key=lambda item: item[1].value or 0.0) for group in (better, others))
    assert a.cell is not None and b.cell is not None
    less = 0.01 if rival.endswith(POINT) else 0.0
    values = (a.cell.value, b.cell.value - less)
    return Judged(claim, name, shown(winner), shown(rival), values, _interval(a, b, less))


def _named(name: str, sources: Sources) -> str:
    """The variant that stands for a row; the row itself where the profile has none, and any other name as it is."""
    table, _, row = name.removeprefix(ROW).partition("/")
    return (sources.as_row(int(table), row) or name) if name.startswith(ROW) else name


def _found(name: str, key: Key, units: Sequence[str], sources: Sources) -> Found:
    name = name.removesuffix(POINT)
    if name.startswith(ROW):
        row = name.partition("/")[2]
        return Found(needs=f"a variant `as: {row}` in variants.yaml for the profile {sources.params.profile}")
    if name and not name.startswith("banks/"):
        return mean_of([sources.variant(unit, name, key) for unit in units])
    place = tuple(name.split("/")) if name else ()
    return mean_of([first_of(sources.metric(unit, (*place, *key))) for unit in units])


def _interval(a: Found, b: Found, less: float) -> tuple[float, float] | None:
    assert a.cell is not None and b.cell is not None
    if len(a.cell.replicates) != len(b.cell.replicates) or len(a.cell.replicates) < 2:
        return None
    drawn = (a.cell.replicates - b.cell.replicates)[1:] + less
    if np.isnan(drawn).mean() > 0.5:
        return None
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def shown(name: str) -> str:
    """A bank or a variant by the name that people know."""
    return name.removeprefix("banks/").replace("+", " + ") or "all three"
