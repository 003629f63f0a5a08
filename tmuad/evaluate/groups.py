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
from tmuad.evaluate.pixel_metrics import PixelHistogram
from tmuad.evaluate.pixel_stream import (
    SPRO_LIMITS,
    MapCounts,
    PixelStream,
    count_map,
    figures_of,
    problem_of,
    ranking_of,
)
from tmuad.evaluate.ranking import Ranking
from tmuad.evaluate.regions import Truth
from tmuad.parallel import cores, fork_map

T = TypeVar("T")
PILOT = 8  # images of each kind that show where a map's scores lie, before the bootstrap's bins are fixed

Maps = Callable[[str], Mapping[str, NDArray[np.floating]]]  # image_id -> {"fused": (S, S), "text": (S, S), ...}
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
) -> PixelFigures:
    """Figures of every map of the images in `test`, whose rows `weights` (N, 1 + B) belong to; see `PixelGroups.fill`.

    Those of `defect_map` also by type of defect. The maps are shared out to this machine's cores.
    """
    names = list(maps(test["image_id"].iloc[0])) if len(test) else []
    shares = [names[i :: cores()] for i in range(min(cores(), len(names)))]

    def look(share: Sequence[str]) -> PixelFigures:
        groups = PixelGroups(share, defect_map, bootstrap)
        groups.fill(test, weights, maps, masks)
        return PixelFigures({name: groups.of_map(name) for name in share}, groups.types, groups.problems)

    parts = list(fork_map(look, shares, chunk=1))
    found = {name: figures for part in parts for name, figures in part.maps.items()}
    first = parts[0] if parts else PixelFigures({}, {}, [])
    return PixelFigures({name: found[name] for name in names}, first.types, first.problems)


class PixelGroups:
    """Name of the map -> kind of the image, or type of the defect -> `Group`."""

    def __init__(self, names: Sequence[str], defect_map: str, bootstrap: Bootstrap) -> None:
        self.names = names  # of the maps that are looked at
        self.defect_map = defect_map  # the one whose figures are given by type of defect, too
        self.bootstrap = bootstrap
        self.kinds: dict[str, dict[str, Group]] = {}
        self.defects: dict[str, Group] = {}
        self.types: dict[str, tuple[str, ...]] = {}  # path of an anomalous image -> types of its defects
        self.problems: list[str] = []  # why sPRO cannot be computed
        self._edges: dict[str, NDArray[np.int64]] = {}

    def fill(self, test: pd.DataFrame, weights: NDArray[np.float32], maps: Maps, masks: Masks) -> None:
        """Look at every image of `test`, whose rows `weights` (N, 1 + B) belong to.

        Raises:
            ArtifactError: a score of a map is not finite, or a map and its mask differ in size.
        """
        rows = list(zip(test["image_id"], test["path"], test["kind"], test["defect"], strict=True))
        if self.bootstrap.resamples:
            self._look(rows, maps, masks)
        for (image_id, path, kind, defect), weight in zip(rows, weights, strict=True):
            truth = None if kind == "good" else _truth(masks(path))
            if truth is not None:
                self.types[path] = tuple(dict.fromkeys(d.name for d in truth.defects)) or (defect,)
                if truth.problem:
                    self.problems.append(truth.problem)
            found = maps(image_id)
            for name in self.names:
                counts = _guarded(count_map, found[name], truth, f"{path}: the {name} map")
                _add(self._group(self.kinds.setdefault(name, {}), kind, name), counts, weight, path)
                if truth is not None and name == self.defect_map:
                    for one in self.types[path]:
                        _add(self._group(self.defects, one, name), counts, weight, path, one)

    def of_map(self, name: str) -> MapFigures:
        """All figures of one map."""
        chosen = {
            kinds: [g.stream for g in self._chosen(name, kinds)] for kinds in (KINDS, *((kind,) for kind in KINDS))
        }
        good, mine = self._chosen(name, ()), name == self.defect_map
        return MapFigures(
            by_kind(lambda kinds: self._cells(good, self._chosen(name, kinds)[len(good) :])),
            {kinds: problem_of(streams) for kinds, streams in chosen.items()},
            {one: self._cells(good, [group]) for one, group in self.defects.items()} if mine else {},
            ranking_of(chosen[KINDS]) if mine else None,
        )

    def _chosen(self, name: str, kinds: Sequence[str]) -> list[Group]:
        groups = self.kinds[name]
        return [groups[kind] for kind in ("good", *kinds) if kind in groups]

    def _cells(self, good: Sequence[Group], bad: Sequence[Group]) -> dict[str, Cell]:
        groups = [*good, *bad]
        exact = figures_of([group.stream for group in groups]) if groups else {}
        resampled = [group.resamples for group in groups if group.resamples is not None]
        drawn = merged_resamples(resampled).figures() if resampled else {}
        nothing = np.full(1 + self.bootstrap.resamples, np.nan)
        names = [*exact, *(SPRO_LIMITS if self._any_spro() and "spro_1" not in exact else ())]
        cells = {name: Cell(exact.get(name, np.nan), drawn.get(name, nothing)) for name in names}
        if self.problems:  # never a figure on a part of the defects
            cells |= {name: Cell(np.nan, nothing) for name in SPRO_LIMITS}
        return trusted(cells, *(sum(len(group.images) for group in part) for part in (good, bad)))

    def _any_spro(self) -> bool:
        return any(group.stream.defects for groups in self.kinds.values() for group in groups.values())

    def _group(self, groups: dict[str, Group], key: str, name: str) -> Group:
        if key not in groups:
            edges = self._edges.get(name)
            resamples = None if edges is None else PixelResamples(edges, self.bootstrap.resamples)
            groups[key] = Group(PixelStream(), resamples, [])
        return groups[key]

    def _look(self, rows: Sequence[tuple[str, str, str, str]], maps: Maps, masks: Masks) -> None:
        """Fix the bootstrap's bins from a few images spread evenly over each kind."""
        pilots: dict[str, PixelHistogram] = {}
        for kind in sorted({row[2] for row in rows}):
            mine = [row for row in rows if row[2] == kind]
            for index in np.unique(np.linspace(0, len(mine) - 1, PILOT).round().astype(int)):
                image_id, path = mine[index][:2]
                mask = None if kind == "good" else _truth(masks(path)).mask
                found = maps(image_id)
                for name in self.names:
                    pilot = pilots.setdefault(name, PixelHistogram())
                    _guarded(pilot.add, found[name], mask, f"{path}: the {name} map")
        self._edges = {name: coarse_edges(pilot) for name, pilot in pilots.items()}


def _add(group: Group, counts: MapCounts, weight: NDArray[np.float32], path: str, defect: str | None = None) -> None:
    group.images.append(path)
    group.stream.add(counts, defect)
    if group.resamples is not None:
        group.resamples.add(counts, weight, defect)


def _truth(mask: NDArray[np.bool_] | Truth) -> Truth:
    return mask if isinstance(mask, Truth) else Truth(mask)


def _guarded(call: Callable[..., T], *arguments: object) -> T:
    try:
        return call(*arguments)
    except ValueError as error:
        raise ArtifactError(f"{error}; run the score stage again") from None
