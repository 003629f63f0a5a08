"""Pixel-level figures of all maps of a unit: by kind of anomaly and by type of defect, in one pass over the images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad.errors import ArtifactError
from tmuad.evaluate.bootstrap import Bootstrap, PixelResamples, coarse_edges, merged_resamples
from tmuad.evaluate.cells import KINDS, Cell, by_kind, trusted
from tmuad.evaluate.pixel_stream import (
    SPRO_LIMITS,
    MapCounts,
    PixelStream,
    count_map,
    figures_of,
    marked_of,
    problem_of,
    ranking_of,
)
from tmuad.evaluate.ranking import Ranking
from tmuad.evaluate.regions import Marked, Truth
from tmuad.parallel import fork_map

T = TypeVar("T")
PILOT = 8  # images of each kind that show where a map's scores lie, before the bootstrap's bins are fixed

Maps = Callable[[str], Mapping[str, NDArray[np.floating]]]  # image_id -> {"fused": (S, S), "text": (S, S), ...}
Row = tuple[str, str, str, str]  # image_id, path, kind, type of defect
Masks = Callable[[str], NDArray[np.bool_] | Truth]  # path in the manifest -> ground truth (S, S)


@dataclass(frozen=True)
class Group:
    """The same images twice: exact, and in every resample (None where nothing is resampled)."""

    stream: PixelStream
    resamples: PixelResamples | None
    images: list[str]  # their paths


@dataclass(frozen=True)
class MapFigures:
    """The figures of one map, with their replicates."""

    cells: dict[str, Cell]  # see `by_kind`
    problems: dict[tuple[str, ...], str | None]  # kinds -> why their figures are undefined; None if they are defined
    defects: dict[str, dict[str, Cell]]  # by type of defect; of the map asked for alone
    ranking: Ranking | None  # of all pixels; of the map asked for alone


@dataclass(frozen=True)
class PixelFigures:
    """The figures of all maps of a unit."""

    maps: dict[str, MapFigures]
    types: dict[str, tuple[str, ...]]  # path of an anomalous image -> types of its defects
    problems: list[str]  # why sPRO cannot be computed


def pixel_figures_of(
    test: pd.DataFrame,
    weights: NDArray[np.float32],
    maps: Maps,
    masks: Masks,
    bootstrap: Bootstrap,
    defect_map: str = "",
    workers: int | None = None,
) -> PixelFigures:
    """Figures of every map of the images in `test`, whose rows `weights` (N, 1 + B) belong to.

    Those of `defect_map` also by type of defect. The maps are shared out to `workers` processes (default: one per core).

    Raises:
        ArtifactError: a score of a map is not finite, or a map and its mask differ in size.
    """
    rows = list(zip(test["image_id"], test["path"], test["kind"], test["defect"], strict=True))
    anomalous = [path for _, path, kind, _ in rows if kind != "good"]
    marked = dict(zip(anomalous, fork_map(lambda path: _marked(masks, path), anomalous, workers), strict=True))

    def look(name: str) -> tuple[MapFigures, dict[str, tuple[str, ...]], list[str]]:
        groups = PixelGroups(name, name == defect_map, bootstrap)
        groups.fill(rows, weights, maps, marked)
        return groups.figures(), groups.types, groups.problems

    names = list(maps(rows[0][0])) if rows else []
    parts = list(fork_map(look, names, workers, chunk=1))
    _, types, problems = parts[0] if parts else (None, {}, [])
    return PixelFigures({name: figures for name, (figures, _, _) in zip(names, parts, strict=True)}, types, problems)


class PixelGroups:
    """The images under one map: kind of the image, or type of the defect -> `Group`."""

    def __init__(self, name: str, by_defect: bool, bootstrap: Bootstrap) -> None:
        self.name = name  # of the map
        self.by_defect = by_defect  # whether there are figures by type of defect, too
        self.bootstrap = bootstrap
        self.kinds: dict[str, Group] = {}
        self.defects: dict[str, Group] = {}
        self.types: dict[str, tuple[str, ...]] = {}  # path of an anomalous image -> types of its defects
        self.problems: list[str] = []  # why sPRO cannot be computed
        self._edges: NDArray[np.int64] | None = None

    def fill(self, rows: Sequence[Row], weights: NDArray[np.float32], maps: Maps, marked: Mapping[str, Marked]) -> None:
        """Look at every image of `rows`, which `weights` (N, 1 + B) belong to; `marked` has the anomalous ones' paths."""

        def counted(row: Row) -> MapCounts:
            image_id, path, kind, _ = row
            truth = None if kind == "good" else marked[path]
            return _guarded(count_map, maps(image_id)[self.name], truth, f"{path}: the {self.name} map")

        known = self._look(rows, counted) if self.bootstrap.resamples else {}
        for row, weight in zip(rows, weights, strict=True):
            _, path, kind, defect = row
            truth = None if kind == "good" else marked[path]
            if truth is not None:
                self.types[path] = tuple(dict.fromkeys(name for name, _, _ in truth.defects)) or (defect,)
                if truth.problem:
                    self.problems.append(truth.problem)
            counts = known.pop(row) if row in known else counted(row)
            _add(self._group(self.kinds, kind), counts, weight, path)
            if truth is not None and self.by_defect:
                for one in self.types[path]:
                    _add(self._group(self.defects, one), counts, weight, path, one)

    def figures(self) -> MapFigures:
        """All figures of the map."""
        chosen = {kinds: [g.stream for g in self._chosen(kinds)] for kinds in (KINDS, *((kind,) for kind in KINDS))}
        good = self._chosen(())
        return MapFigures(
            by_kind(lambda kinds: self._cells(good, self._chosen(kinds)[len(good) :])),
            {kinds: problem_of(streams) for kinds, streams in chosen.items()},
            {one: self._cells(good, [group]) for one, group in self.defects.items()},
            ranking_of(chosen[KINDS]) if self.by_defect else None,
        )

    def _chosen(self, kinds: Sequence[str]) -> list[Group]:
        return [self.kinds[kind] for kind in ("good", *kinds) if kind in self.kinds]

    def _cells(self, good: Sequence[Group], bad: Sequence[Group]) -> dict[str, Cell]:
        groups = [*good, *bad]
        exact = figures_of([group.stream for group in groups]) if groups else {}
        resampled = [group.resamples for group in groups if group.resamples is not None]
        drawn = merged_resamples(resampled).figures() if resampled else {}
        nothing = np.full(1 + self.bootstrap.resamples, np.nan)
        any_spro = any(group.stream.defects for group in self.kinds.values())
        names = [*exact, *(SPRO_LIMITS if any_spro and "spro_1" not in exact else ())]
        cells = {name: Cell(exact.get(name, np.nan), drawn.get(name, nothing)) for name in names}
        if self.problems:  # never a figure on a part of the defects
            cells |= {name: Cell(np.nan, nothing) for name in SPRO_LIMITS}
        return trusted(cells, *(sum(len(group.images) for group in part) for part in (good, bad)))

    def _group(self, groups: dict[str, Group], key: str) -> Group:
        if key not in groups:
            resamples = None if self._edges is None else PixelResamples(self._edges, self.bootstrap.resamples)
            groups[key] = Group(PixelStream(), resamples, [])
        return groups[key]

    def _look(self, rows: Sequence[Row], counted: Callable[[Row], MapCounts]) -> dict[Row, MapCounts]:
        """Fix the bootstrap's bins from a few images spread evenly over each kind; their counts."""
        pilot, known = PixelStream(), {}
        for kind in sorted({row[2] for row in rows}):
            mine = [row for row in rows if row[2] == kind]
            for index in np.unique(np.linspace(0, len(mine) - 1, PILOT).round().astype(int)):
                known[mine[index]] = counted(mine[index])
                pilot.add(known[mine[index]])
        self._edges = coarse_edges(pilot.histogram)
        return known


def _add(group: Group, counts: MapCounts, weight: NDArray[np.float32], path: str, defect: str | None = None) -> None:
    group.images.append(path)
    group.stream.add(counts, defect)
    if group.resamples is not None:
        group.resamples.add(counts, weight, defect)


def _marked(masks: Masks, path: str) -> Marked:
    """The ground truth of one image."""
    truth = masks(path)
    try:
        return marked_of(truth if isinstance(truth, Truth) else Truth(truth), path)
    except ValueError as error:
        raise ArtifactError(f"{error}; the ground truth cannot be used") from None


def _guarded(call: Callable[..., T], *arguments: object) -> T:
    try:
        return call(*arguments)
    except ValueError as error:
        raise ArtifactError(f"{error}; run the score stage again") from None
