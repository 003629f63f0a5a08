"""Pixel-level metrics by a streaming histogram: fed image by image, in memory that does not grow with their number.

Bins are the top 20 bits of a score's float32 pattern: sign, exponent and 11 bits of mantissa. The patterns sort as the
numbers do, so a bin is an interval, and two scores share one only if they differ by less than 2**-11 (0.05 %) of
themselves. That is half a step of float16, over the whole range of float32: for a map stored in float16 the metrics are
exact, for another they are those of the map rounded this way.
"""

import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.evaluate.ranking import Ranking

RESOLUTION = 2.0**-11  # relative width of a bin
_DROPPED = 12  # bits of float32 that a bin does not tell apart
BINS = 1 << (32 - _DROPPED)
_SIGN = np.uint32(1 << 31)

# glibc gives freed memory back to the system above a threshold that follows the largest block freed so far, and a map's
# arrays then cost more page faults than arithmetic: three times the time. One untouched block raises the threshold.
_block = np.empty(31 << 20, dtype=np.uint8)
del _block


class PixelHistogram:
    """How many normal and anomalous pixels have which score: 16 MiB at most, of which only bins in use are touched."""

    def __init__(self) -> None:
        self.negatives, self.positives = lazy_zeros(2, np.int64)
        self.low, self.high = BINS, 0  # no bin outside of low..high is in use
        self._bins = np.zeros(0, dtype=np.int64)  # kept between maps: a fresh array costs more than the counting

    def add(self, scores: NDArray[np.floating], mask: NDArray[np.bool_] | None, name: str = "map") -> None:
        """Count the pixels of one map (H, W) whose anomalous pixels are `mask` (H, W); None: it has none.

        Raises:
            ValueError: sizes differ, the mask is not boolean, or a score is NaN or beyond float32; says so of `name`.
        """
        keys = bins_of(scores, mask, name)
        first = int(keys.min())
        if self._bins.size != keys.size:
            self._bins = np.empty(keys.size, dtype=np.int64)
        np.subtract(keys, first, out=self._bins, dtype=np.uint32)
        counts = np.bincount(self._bins)
        used = self.touch(first, first + counts.size)
        if mask is not None and mask.any():
            anomalous = np.bincount(self._bins[mask.ravel()], minlength=counts.size)
            self.positives[used] += anomalous
            counts -= anomalous
        self.negatives[used] += counts

    def merge(self, other: "PixelHistogram") -> None:
        """Count what `other` has counted as well: the same as one histogram fed with both streams, in any order."""
        if other.low < other.high:
            used = self.touch(other.low, other.high)
            self.positives[used] += other.positives[used]
            self.negatives[used] += other.negatives[used]

    def touch(self, low: int, high: int) -> slice:
        """The bins low..high, which are about to be written to."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        return slice(low, high)

    def ranking(self) -> Ranking:
        """The pixels by score, from which all metrics follow."""
        inside = slice(self.low, max(self.low, self.high))
        used = np.flatnonzero((self.positives[inside] + self.negatives[inside]) > 0)[::-1] + self.low
        return Ranking(values_of(used), self.positives[used], self.negatives[used])

    def auroc(self) -> float:
        """Pixel AUROC in 0..1; NaN where there are no anomalous or no normal pixels."""
        return self.ranking().auroc()

    def average_precision(self) -> float:
        """Pixel AP in 0..1; NaN where there are no anomalous or no normal pixels."""
        return self.ranking().average_precision()

    def f1_max(self) -> tuple[float, float]:
        """Best pixel F1 over all thresholds, and that threshold; NaN where one of the two kinds is missing."""
        return self.ranking().f1_max()


def merged(parts: Iterable[PixelHistogram]) -> PixelHistogram:
    """One histogram of all that `parts` have counted; they stay as they are."""
    total = PixelHistogram()
    for part in parts:
        total.merge(part)
    return total


def lazy_zeros(rows: int, dtype: Any) -> NDArray[Any]:
    """Zeros (rows, BINS) of 8 bytes each, of which pages that nobody writes to cost nothing, whatever malloc does."""
    return np.frombuffer(mmap.mmap(-1, rows * BINS * 8), dtype=dtype).reshape(rows, BINS)


def bins_of(scores: NDArray[np.floating], mask: NDArray[Any] | None, name: str) -> NDArray[np.uint32]:
    """The bin of each pixel of a map (H, W), as (H * W,), ascending with the score; 0 <= bin < BINS.

    Raises:
        ValueError: `mask` is of another size or not boolean, the map is empty, or a score is NaN or beyond float32.
    """
    if mask is not None and mask.dtype != np.bool_:
        raise ValueError(f"{name}: the mask must be boolean (True: anomalous), found {mask.dtype}")
    if mask is not None and mask.shape != scores.shape:
        raise ValueError(f"{name}: the map is {scores.shape} but its mask is {mask.shape}; they must be of one size")
    if scores.size == 0:
        raise ValueError(f"{name}: the map is empty")
    with np.errstate(over="ignore"):
        # -0.0 + 0 = 0.0: one bin for zero
        flat = np.ascontiguousarray(scores, dtype=np.float32).ravel() + np.float32(0)
    if not np.isfinite(flat).all():
        wrong = int(np.flatnonzero(~np.isfinite(flat))[0])
        row, column = divmod(wrong, scores.shape[-1])
        raise ValueError(
            f"{name}: the score at row {row}, column {column} is {scores.ravel()[wrong]}; it must be finite"
        )
    bits = flat.view(np.uint32)
    # Negative patterns ascend with magnitude, so they are turned over; positive ones are moved above them.
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN) if (bits & _SIGN).any() else bits | _SIGN
    return ordered >> np.uint32(_DROPPED)


def values_of(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """The score of smallest magnitude in each bin."""
    ordered = (keys << _DROPPED).astype(np.uint32)
    negative = (ordered & _SIGN) == 0
    bits = np.where(negative, ~(ordered | np.uint32((1 << _DROPPED) - 1)), ordered & ~_SIGN)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
