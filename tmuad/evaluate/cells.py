"""Cells: a figure with its bootstrap replicates, and how cells become the nested tree of metrics.json."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.evaluate.bootstrap import interval

KINDS = ("logical", "structural")
DIGITS = 6  # figures are rounded, so that a change of the last bit changes no file
INTERVAL_DIGITS = 4
Key = tuple[str, ...]  # where a cell stands: ("banks", "text", "image", "auroc_logical")
Tree = dict[str, Any]  # nested, JSON-ready
Reasons = list[tuple[str, str]]  # (metric, why it does not exist or needs a caution)


@dataclass(frozen=True)
class Cell:
    """A reported figure. NaN where it does not exist."""

    value: float
    replicates: NDArray[np.float64]  # (1 + B,) in each resample, that of the images themselves first
    exact: tuple[float, float] | None = None  # an interval that is known without resampling

    @property
    def interval(self) -> tuple[float, float]:
        return self.exact if self.exact is not None else interval(self.value, self.replicates)


Cells = dict[Key, Cell]


def trusted(cells: Mapping[str, Cell], *groups: int) -> dict[str, Cell]:
    """`cells` of groups of so many images; without replicates where one image alone stands for its group."""
    if min(groups) > 1:
        return dict(cells)
    return {name: Cell(cell.value, np.full_like(cell.replicates, np.nan)) for name, cell in cells.items()}


def by_kind(figures_of: Callable[[Sequence[str]], Mapping[str, Cell]]) -> dict[str, Cell]:
    """Each figure on all anomalies, by kind, and the mean of the kinds: auroc, auroc_logical, ..., average; ap, ...

    Args:
        figures_of: the figures of good images against those of the given kinds.
    """
    parts = [figures_of((kind,)) for kind in KINDS]
    cells: dict[str, Cell] = {}
    for name, whole in figures_of(KINDS).items():
        cells[name] = whole
        mine = [part[name] for part in parts]
        cells |= {f"{name}_{kind}": cell for kind, cell in zip(KINDS, mine, strict=True)}
        # Tables IV and V of the paper; Table I averages "auroc" over categories.
        mean = Cell(sum(cell.value for cell in mine) / 2, np.mean([cell.replicates for cell in mine], axis=0))
        cells["average" if name == "auroc" else f"{name}_average"] = mean
    return cells


def explain(names: Iterable[str], problem_of: Callable[[Sequence[str]], str | None], where: str) -> Reasons:
    """Why which of the cells of `by_kind` under `where` do not exist."""
    reasons: Reasons = []
    problems = {kind: (problem_of((kind,)) or "").replace("anomalous", kind) for kind in KINDS}
    whole = problem_of(KINDS)
    for name in names:
        kind = next((kind for kind in KINDS if name.endswith(f"_{kind}")), None)
        if name.endswith("average"):
            if any(problems.values()):
                reasons.append((f"{where}.{name}", "needs both the logical and the structural figure"))
        elif problem := problems[kind] if kind else whole:
            reasons.append((f"{where}.{name}", problem))
    return reasons


def value_tree(cells: Cells) -> Tree:
    """The values, nested by their keys; None for NaN and infinity, which JSON cannot say."""
    return _nested({key: rounded(cell.value) for key, cell in cells.items()})


def interval_tree(cells: Cells) -> Tree:
    """[low, high] of each cell that has an interval, nested as the values are."""
    bounds = {key: cell.interval for key, cell in cells.items()}
    kept = {
        key: [round(end, INTERVAL_DIGITS) for end in ends] for key, ends in bounds.items() if not math.isnan(ends[0])
    }
    return _nested(kept)


def rounded(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


def _nested(flat: Mapping[Key, Any]) -> Tree:
    tree: Tree = {}
    for (*path, last), value in flat.items():
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = value
    return tree
