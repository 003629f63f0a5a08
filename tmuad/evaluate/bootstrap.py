"""Bootstrap over images: how much would a figure vary if other images of the same kind had been photographed?

In each resample an image counts a Poisson(1) number of times (Poisson bootstrap). The numbers are drawn from the image's
own identifier and the seed: they depend neither on the order of the images nor on how they are split into shards, and
two runs on the same images are resampled alike, which is what makes their difference a paired one.

Pixels are resampled with their image. Resamples share one set of coarse bins, so that memory is resamples x bins and
does not grow with the images. An interval is the percentile interval of the replicates, moved by the difference that the
coarse bins make to the figure itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tmuad.evaluate.pixel_metrics import BINS, PixelHistogram
from tmuad.evaluate.pixel_stream import Figures, MapCounts, pixel_figures

LEVEL = 0.95
COARSE = 512  # bins between the scores of the pilot images; some more lie outside
_OCTAVE = 1 << 11  # fine bins in which a score doubles
_BLOCK = 64  # images whose counts meet the resamples in one matrix product
_POISSON = np.cumsum([np.exp(-1.0) / np.prod(np.arange(1.0, k + 1)) for k in range(16)])  # P(at most k), mean 1


@dataclass(frozen=True)
class Bootstrap:
    """How to resample; without resamples there are no intervals."""

    resamples: int = 500
    seed: int = 0


def image_weights(image_ids: Sequence[str], bootstrap: Bootstrap) -> NDArray[np.float32]:
    """How often each image counts in each resample, (N, 1 + resamples); the first column is 1: the images themselves."""
    weights = np.ones((len(image_ids), 1 + bootstrap.resamples), dtype=np.float32)
    for row, image_id in zip(weights, image_ids, strict=True):
        digest = hashlib.sha256(f"{bootstrap.seed}\0{image_id}".encode()).digest()
        draws = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16]))).random(bootstrap.resamples)
        row[1:] = np.searchsorted(_POISSON, draws)
    return weights


def interval(exact: float, replicates: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile interval of a figure in 0..1 from its `replicates` (1 + B,), whose first is that of the images.

    NaN where the figure is undefined, or where it is in more than half of the resamples: too few images to tell.
    """
    drawn = replicates[1:]
    if np.isnan(exact) or drawn.size == 0 or np.isnan(drawn).mean() > 0.5:
        return float("nan"), float("nan")
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (exact - replicates[0])
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def coarse_edges(pilot: PixelHistogram, size: int = COARSE) -> NDArray[np.int64]:
    """First fine bin of each coarse bin, ascending from 0: about equally many pixels of `pilot` in each.

    A third follows the anomalous pixels, a third the defect-free ones, a third the highest of these, because figures at
    low false-positive rates depend on them. Scores beyond those of the pilot fall into bins a quarter octave wide.
    """
    parts = [np.zeros(1, dtype=np.int64)]
    tail = np.concatenate((np.linspace(0, 1, size // 3), np.geomspace(1e-6, 1, size // 3)))
    for counts, levels in ((pilot.negatives, tail), (pilot.positives, np.linspace(0, 1, size // 3))):
        used = np.flatnonzero(counts > 0)[::-1]
        if used.size:
            above = np.cumsum(counts[used])
            parts.append(used[np.searchsorted(above, levels * above[-1]).clip(max=used.size - 1)])
    inner = np.concatenate(parts)
    top = int(inner.max()) + 1
    beyond = np.concatenate((np.arange(top, top + 4 * _OCTAVE, _OCTAVE // 4), np.arange(top, BINS, _OCTAVE)))
    return np.unique(np.concatenate((inner, beyond[beyond < BINS])))


class PixelResamples:
    """The pixel counts of one group of images in every resample, (1 + B, K) in coarse bins."""

    def __init__(self, edges: NDArray[np.int64], resamples: int) -> None:
        self.edges = edges
        shape = (1 + resamples, len(edges))
        # positives, negatives, overlap, saturated
        self.counts = np.zeros((4, *shape), dtype=np.float32)
        self.regions = np.zeros(shape[0])
        self.defects = np.zeros(shape[0])
        self._pending: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    @cached_property
    def _coarse(self) -> NDArray[np.int32]:
        """(BINS,) the coarse bin of each fine one: a search among the edges would take ten times as long."""
        return np.repeat(np.arange(len(self.edges), dtype=np.int32), np.diff(self.edges, append=BINS))

    def add(self, counts: MapCounts, weights: NDArray[np.float32], defect: str | None = None) -> None:
        """Add one map whose image has `weights` (1 + B,); see `PixelStream.add`."""
        coarse = self._coarse[counts.bins]
        names = [name for name in counts.saturated if defect in (None, name)]
        saturated = sum((counts.saturated[name] for name in names), np.zeros(len(coarse)))
        row = np.zeros((4, len(self.edges)))
        for total, column in zip(row, (counts.positives, counts.negatives, counts.overlap, saturated), strict=True):
            if column.any():
                total[:] = np.bincount(coarse, column, len(self.edges))
        self._pending.append((row.astype(np.float32), weights))
        self.regions += weights * counts.regions
        self.defects += weights * sum(counts.defects[name] for name in names)
        if len(self._pending) == _BLOCK:
            self._flush()

    def merge(self, other: "PixelResamples") -> None:
        """Add what `other` has seen.

        Raises:
            ValueError: the two have other bins or numbers of resamples.
        """
        if self.counts.shape != other.counts.shape or not np.array_equal(self.edges, other.edges):
            raise ValueError("resamples with different bins or of different number cannot be merged; share the edges")
        self._flush()
        other._flush()
        self.counts += other.counts
        self.regions += other.regions
        self.defects += other.defects

    def figures(self) -> Figures:
        """Each figure as (1 + B,), that of the images themselves first; see `PixelStream.figures`."""
        self._flush()
        # From the highest score down; bins that nothing ever fell into are left out.
        used = np.flatnonzero(self.counts[:2, 0].any(axis=0))[::-1]
        positives, negatives, overlap, saturated = self.counts[:, :, used]
        spro = saturated if self.defects[0] else None
        return pixel_figures(positives, negatives, overlap, self.regions, spro, self.defects)

    def _flush(self) -> None:
        if self._pending:
            rows, weights = zip(*self._pending, strict=True)
            drawn = np.stack(weights, axis=1)  # (1 + B, M)
            for kind, block in enumerate(np.stack(rows, axis=1)):  # (M, K)
                if block.any():
                    self.counts[kind] += drawn @ block
            self._pending.clear()


def merged_resamples(parts: Sequence[PixelResamples]) -> PixelResamples:
    """One group of all that `parts` (one at least, sharing their edges) have seen; they stay as they are."""
    total = PixelResamples(parts[0].edges, parts[0].counts.shape[1] - 1)
    for part in parts:
        total.merge(part)
    return total
