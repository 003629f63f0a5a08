"""The text memory bank M_T: what the normal images say, and the ranges within which they say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tmuad import masks
from tmuad.banks.text_index import TextIndex
from tmuad.describe.description import ImageDescription, class_order
from tmuad.masks import Runs

MIN_SIZE_RANGE = 0.1  # a size range is at least this share of its middle wide: few normals do not prove a narrow one
MIN_PLACE = 0.02  # an object may always move this share of the image's side
SLIP, AGREED = 0.03, 0.9  # see `outvoted`
OUTLIER = 6.0  # robust standard deviations from which one normal object's size or place is a slip of the segmenter
MIN_SPREAD = 0.02  # smallest standard deviation of a size that is believed, as a share of the size
ENOUGH = 30  # with fewer normal images the ranges are widened, because they have not shown their width yet


@dataclass(frozen=True)
class Range:
    """Closed interval of a quantity over the normal images (Eqs. 1 and 2)."""

    low: float
    high: float

    def outside(self, value: float) -> float:
        """alpha: how far `value` lies outside, in widths of the interval, clipped to 1; 0 inside (design, section 6)."""
        width = max(self.high - self.low, MIN_SIZE_RANGE * (self.high + self.low) / 2, 1e-9)
        return float(np.clip(max(self.low - value, value - self.high) / width, 0, 1))


@dataclass(frozen=True)
class ClassNormal:
    """What the normal images show of one object class."""

    counts: tuple[int, ...]  # distinct counts seen, ascending; 0 where some image lacks the class
    size: Range  # of the class as a whole, share of the image: s_min, s_max
    object_size: Range  # of its single objects
    places: NDArray[np.float64]  # (N, 2) x, y of every object seen
    reach: float  # no normal object was farther than this from the next normal one of another image
    region: Runs  # I_c: all pixels the class was seen at


def outvoted(entries: Sequence[ImageDescription]) -> list[int]:
    """Indices of entries that all others contradict: slips of the segmenter, kept out of the bank and reported.

    An entry is outvoted when it shows a number of objects of some class that at most SLIP of the entries show, while
    AGREED of them show one and the same other number.
    """
    n = len(entries)
    wrong: set[int] = set()
    for name in {c.object_class for entry in entries for c in entry.classes}:
        counts = np.array([entry.by_name[name].count if name in entry.by_name else 0 for entry in entries])
        values, seen = np.unique(counts, return_counts=True)
        if seen.max() >= AGREED * n:
            for value, times in zip(values, seen, strict=True):
                if times <= SLIP * n:
                    wrong.update(np.flatnonzero(counts == value).tolist())
    return sorted(wrong)


class _Counts:
    """How many objects of each class each of many texts names."""

    def __init__(self, many: Sequence[tuple[tuple[str, int], ...]]) -> None:
        distinct = {counts: number for number, counts in enumerate(dict.fromkeys(many))}
        self._group = np.array([distinct[counts] for counts in many], dtype=np.int64)  # (n,)
        self._names = {name: i for i, name in enumerate(sorted({name for counts in distinct for name, _ in counts}))}
        self._table = np.zeros((len(distinct), len(self._names)), dtype=np.int64)  # (groups, classes)
        for counts, row in distinct.items():
            for name, count in counts:
                self._table[row, self._names[name]] = count

    def nearest(self, counts: Mapping[str, int]) -> NDArray[np.int64]:
        """Those (m,) of the texts, ascending, that differ by the fewest objects; classes that none has differ for all."""
        mine = np.zeros(len(self._names), dtype=np.int64)
        for name in counts.keys() & self._names.keys():
            mine[self._names[name]] = counts[name]
        difference = np.abs(self._table - mine).sum(axis=1)
        return np.flatnonzero((difference == difference.min())[self._group])


class TextBank:
    """M_T. `entries` are the descriptions of the normal images; everything else follows from them."""

    def __init__(self, entries: Sequence[ImageDescription], shape: tuple[int, int]) -> None:
        self.entries = list(entries)
        self.shape = shape  # (S, S)

    @cached_property
    def unique_texts(self) -> dict[str, int]:
        """Each distinct text and the first entry that has it: normal images repeat each other."""
        unique: dict[str, int] = {}
        for i, entry in enumerate(self.entries):
            unique.setdefault(entry.text, i)
        return unique

    def nearest(self, query: ImageDescription) -> int:
        """T_sim: the entry whose text is most similar to the query's, of a bank that is not empty; the first of equals."""
        row, _ = self._index.nearest(query.text)
        return self.unique_texts[self._index.texts[row]]

    def nearest_among_counts(self, query: ImageDescription) -> int:
        """As `nearest`, of the entries alone whose counts differ from the query's by the fewest objects.

        One digit is a small part of a text: by similarity alone, a normal image with another number of screws in the same
        places wins over one with the right number a little farther off. Of equals, the counts seen first come first.
        """
        index, entries, counts = self._by_counts
        row, _ = index.nearest(query.text, counts.nearest({c.object_class: c.count for c in query.classes}))
        return entries[row]

    @cached_property
    def _index(self) -> TextIndex:
        return TextIndex(self.unique_texts)

    @cached_property
    def _by_counts(self) -> tuple[TextIndex, list[int], "_Counts"]:
        """The distinct texts, those of equal counts together; the first entry of each; the counts of each."""
        groups: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
        for i, entry in enumerate(self.entries):
            counts = tuple((c.object_class, c.count) for c in entry.classes)
            groups.setdefault(counts, {}).setdefault(entry.text, i)
        first = {text: i for texts in reversed(groups.values()) for text, i in texts.items()}
        index = TextIndex(text for texts in groups.values() for text in texts)
        own = [counts for counts, texts in groups.items() for text in texts if first[text] == texts[text]]
        return index, [first[text] for text in index.texts], _Counts(own)

    @cached_property
    def classes(self) -> dict[str, ClassNormal]:
        names = sorted({c.object_class for entry in self.entries for c in entry.classes}, key=class_order)
        return {name: self._normal(name) for name in names}

    def rows(self) -> list[dict[str, Any]]:
        """What is normal, one row of TEXT_BANK_SCHEMA per object class."""
        return [
            {
                "object_class": name,
                "images": sum(name in entry.by_name for entry in self.entries),
                "counts": list(normal.counts),
                "size_low": normal.size.low,
                "size_high": normal.size.high,
                "object_size_low": normal.object_size.low,
                "object_size_high": normal.object_size.high,
                "reach": normal.reach,
                "runs": normal.region.tolist(),
            }
            for name, normal in self.classes.items()
        ]

    def _normal(self, name: str) -> ClassNormal:
        seen = [entry.by_name.get(name) for entry in self.entries]
        present = [c for c in seen if c is not None]
        owner = np.array([i for i, c in enumerate(present) for _ in c.objects])
        places = np.array([(o.x, o.y) for c in present for o in c.objects])
        areas = [o.area for c in present for o in c.objects]
        sizes = [c.size for c in present]
        reach, usual = _reach(_nearest_elsewhere(places, owner), len(self.entries))
        return ClassNormal(
            counts=tuple(sorted({0 if c is None else c.count for c in seen})),
            size=_range(sizes, len(self.entries)),
            object_size=_range(areas, len(self.entries)),
            places=places[usual],
            reach=reach,
            region=masks.union([o.runs for c in present for o in c.objects], self.shape),
        )


def _range(values: Sequence[float], n_images: int) -> Range:
    kept = np.asarray(values)[_usual(np.asarray(values), MIN_SPREAD * float(np.median(values)))]
    low, high = float(kept.min()), float(kept.max())
    slack = max(0.0, 1 - n_images / ENOUGH) * 0.5 * (low + high) / 2 * 0.5
    return Range(low - slack, high + slack)


def _usual(values: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Which `values` are no slips: within OUTLIER robust standard deviations (at least `least` each) of the median."""
    away = np.abs(values - np.median(values))
    return np.asarray(away <= OUTLIER * max(1.4826 * float(np.median(away)), least))


def _nearest_elsewhere(places: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance (N,) from each place to the nearest of another image; infinite where there is none."""
    if not len(places):
        return np.zeros(0)
    tree = cKDTree(places)
    within = int(np.bincount(owner).max()) + 1  # of so many neighbours one is of another image, if there is another
    nearest = np.empty(len(places))
    for start in range(0, len(places), 8192):  # blocks: memory stays at 8192 neighbourhoods
        block = slice(start, start + 8192)
        gap, neighbour = tree.query(places[block], k=min(within, len(places)))
        gap, neighbour = gap.reshape(-1, min(within, len(places))), neighbour.reshape(-1, min(within, len(places)))
        gap[owner[neighbour] == owner[block, None]] = np.inf
        nearest[block] = gap.min(axis=1)
    return nearest


def _reach(nearest: NDArray[np.float64], n_images: int) -> tuple[float, NDArray[np.bool_]]:
    """How far a normal object may be from the next normal place, and which places are no slips."""
    finite = np.isfinite(nearest)
    if not finite.any():  # a single image, or a class seen once
        return 0.1, np.ones(len(nearest), dtype=np.bool_)
    usual = np.zeros(len(nearest), dtype=np.bool_)
    usual[finite] = _usual(nearest[finite], MIN_PLACE / 2)
    slack = 1 + max(0.0, 1 - n_images / ENOUGH)
    return max(MIN_PLACE, float(nearest[usual].max())) * slack, usual
