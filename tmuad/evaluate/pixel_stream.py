"""All pixel-level figures of a stream of maps, in memory that does not grow with their number.

`count_map` reduces a map and its ground truth to sparse counts; `PixelStream` adds them up. Streams of two shards are
merged by adding them. The bins are those of `pixel_metrics`: exact for maps stored in float16.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.evaluate.pixel_metrics import PixelHistogram, bins_of, lazy_zeros, values_of
from tmuad.evaluate.ranking import Ranking, auroc_of, average_precision_of, f1_max_of
from tmuad.evaluate.regions import Marked, Truth, overlap_area, saturated_shares

AUPRO_LIMIT = 0.3  # false-positive rate up to which PRO is integrated (MVTec AD)
SPRO_LIMITS = {"spro_1": 0.01, "spro_5": 0.05, "spro_10": 0.1, "spro_30": 0.3, "spro_100": 1.0}  # MVTec LOCO
Figures = dict[str, NDArray[np.float64]]  # name -> (...)


@dataclass(frozen=True)
class MapCounts:
    """One map in sparse form. `bins` (N,) are those in use, ascending; the other arrays (N,) belong to them."""

    bins: NDArray[np.int64]
    negatives: NDArray[np.int64]  # defect-free pixels
    positives: NDArray[np.int64]  # anomalous pixels
    overlap: NDArray[np.float64]  # what the anomalous pixels add to PRO; sums to `regions`
    regions: int  # connected components of the ground truth
    saturated: dict[str, NDArray[np.float64]]  # type of defect -> what its pixels add to sPRO
    defects: dict[str, int]  # type of defect -> defects of that type


def count_map(scores: NDArray[np.floating], truth: Truth | Marked | None, name: str = "map") -> MapCounts:
    """The counts of one map (H, W); `truth` is None for a good image.

    Raises:
        ValueError: sizes differ, a mask is not boolean, or a score is NaN or beyond float32; says so of `name`.
    """
    keys = bins_of(scores, truth.mask if isinstance(truth, Truth) else None, name)
    if isinstance(truth, Truth):
        truth = marked_of(truth, name)
    elif truth is not None and truth.shape != scores.shape:
        raise ValueError(f"{name}: the map is {scores.shape} but its mask is {truth.shape}; they must be of one size")
    first = int(keys.min())
    inside = (keys - np.uint32(first)).astype(np.int64)
    counts = np.bincount(inside)
    used = np.flatnonzero(counts > 0)
    bins, total = used + first, counts[used]
    if truth is None or not truth.pixels.size:
        return MapCounts(bins, total, np.zeros_like(total), np.zeros(len(used)), 0, {}, {})
    place = np.empty(counts.size, dtype=np.int64)  # of a bin among those in use; nothing is written elsewhere
    place[used] = np.arange(len(used))
    anomalous = place[inside[truth.pixels]]
    positives = np.bincount(anomalous, minlength=len(used))
    overlap = np.bincount(anomalous, truth.shares, len(used)).astype(np.float64)
    saturated: dict[str, NDArray[np.float64]] = {}
    defects: dict[str, int] = {}
    for defect, pixels, saturation in truth.defects:
        if pixels.size:
            distinct, weights = saturated_shares(place[inside[pixels]], saturation)
            saturated.setdefault(defect, np.zeros(len(used)))[distinct] += weights
            defects[defect] = defects.get(defect, 0) + 1
    return MapCounts(bins, total - positives, positives, overlap, truth.regions, saturated, defects)


def marked_of(truth: Truth, name: str) -> Marked:
    """Raises ValueError, which says so of `name`, where the mask of a defect is of another size than the image's."""
    try:
        return Marked.of(truth)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class PixelStream:
    """The maps of one group of images. 32 MiB at most, of which only bins in use are touched."""

    def __init__(self) -> None:
        self.histogram = PixelHistogram()
        self.overlap, self.saturated = lazy_zeros(2, np.float64)
        self.pixels = 0
        self.anomalous = 0  # of the pixels
        self.regions = 0
        self.defects = 0

    def add(self, counts: MapCounts, defect: str | None = None) -> None:
        """Add one map; where `defect` is given, sPRO looks at defects of that type alone (false positives: at all)."""
        self.histogram.touch(int(counts.bins[0]), int(counts.bins[-1]) + 1)
        self.histogram.negatives[counts.bins] += counts.negatives
        anomalous = int(counts.positives.sum())
        self.pixels += int(counts.negatives.sum()) + anomalous
        self.anomalous += anomalous
        if not counts.regions:
            return
        self.histogram.positives[counts.bins] += counts.positives
        self.overlap[counts.bins] += counts.overlap
        self.regions += counts.regions
        for name, weights in counts.saturated.items():
            if defect in (None, name):
                self.saturated[counts.bins] += weights
                self.defects += counts.defects[name]

    def merge(self, other: "PixelStream") -> None:
        """Add what `other` has seen: the same as one stream of both, in any order."""
        self.histogram.merge(other.histogram)
        used = slice(other.histogram.low, other.histogram.high)
        self.overlap[used] += other.overlap[used]
        self.saturated[used] += other.saturated[used]
        self.pixels += other.pixels
        self.anomalous += other.anomalous
        self.regions += other.regions
        self.defects += other.defects

    def figures(self) -> dict[str, float]:
        """`auroc`, `ap`, `f1_max`, `aupro`, and where defects have a saturation the keys of `SPRO_LIMITS`; in 0..1.

        NaN where there are no anomalous or no normal pixels.
        """
        return figures_of([self])


def merged_streams(parts: Iterable[PixelStream]) -> PixelStream:
    """One stream of all that `parts` have seen; they stay as they are."""
    total = PixelStream()
    for part in parts:
        total.merge(part)
    return total


def figures_of(streams: Sequence[PixelStream]) -> dict[str, float]:
    """The figures of all that `streams` have seen together; see `PixelStream.figures`."""
    _, positives, negatives, overlap, saturated = _summed(streams)
    regions, defects = (sum(counts) for counts in zip(*((s.regions, s.defects) for s in streams), strict=True))
    figures = pixel_figures(positives, negatives, overlap, regions, saturated if defects else None, defects)
    return {name: float(value) for name, value in figures.items()}


def problem_of(streams: Sequence[PixelStream]) -> str | None:
    """Why the figures of `streams` together are undefined; None if they are defined."""
    pixels, anomalous = (
        sum(counts) for counts in zip((0, 0), *((s.pixels, s.anomalous) for s in streams), strict=True)
    )
    lacking = [what for what, count in (("normal", pixels - anomalous), ("anomalous", anomalous)) if not count]
    return f"no {' and no '.join(lacking)} samples" if lacking else None


def ranking_of(streams: Sequence[PixelStream]) -> Ranking:
    """The pixels of all that `streams` have seen together, by score."""
    bins, positives, negatives, _, _ = _summed(streams)
    return Ranking(values_of(bins), positives.astype(np.int64), negatives.astype(np.int64))


def _summed(streams: Sequence[PixelStream]) -> tuple[NDArray[Any], ...]:
    """Bins in use from the highest score down, and in them positives, negatives, overlap, saturated: (G,) each.

    Counts are sums of integers in float64: exact up to 2**53 pixels.
    """
    low, high = min(s.histogram.low for s in streams), max(s.histogram.high for s in streams)
    anything = np.zeros(max(0, high - low), dtype=np.bool_)
    for s in streams:
        mine = slice(s.histogram.low, max(s.histogram.low, s.histogram.high))
        here = anything[mine.start - low : mine.stop - low]
        here |= s.histogram.positives[mine] > 0
        here |= s.histogram.negatives[mine] > 0
    used = np.flatnonzero(anything)[::-1] + low
    total = np.zeros((4, len(used)))
    for s in streams:
        rows = (s.histogram.positives, s.histogram.negatives, s.overlap, s.saturated)
        total += np.stack([counts[used] for counts in rows])
    return used, *total


def pixel_figures(
    positives: NDArray[Any],
    negatives: NDArray[Any],
    overlap: NDArray[Any],
    regions: NDArray[Any] | float,
    saturated: NDArray[Any] | None,
    defects: NDArray[Any] | float,
) -> Figures:
    """The figures of counts (..., G) in bins, highest score first; see `PixelStream.figures`."""
    figures = {
        "auroc": auroc_of(positives, negatives),
        "ap": average_precision_of(positives, negatives),
        "f1_max": f1_max_of(positives, negatives),
        "aupro": overlap_area(negatives, overlap, regions, AUPRO_LIMIT),
    }
    if saturated is not None:
        for name, limit in SPRO_LIMITS.items():
            figures[name] = overlap_area(negatives, saturated, defects, limit)
    return figures
