"""What AUROC, AP, F1 and the ROC curve are computed from: the counts of positives and negatives at each distinct score.

Images with their scores and pixels in histogram bins both become a `Ranking`, so that every metric is written once.
Samples of one score are one group: ties count half in AUROC, and no threshold falls between them. The functions take
the counts along the last axis, highest score first, and any axes before it: bootstrap resamples are one more axis.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]  # (..., G) number or weight of samples per group, highest score first
Values = NDArray[np.float64]  # (...)


@dataclass(frozen=True)
class Ranking:
    """Samples grouped by score, highest first. Metrics of a ranking that lacks one of the two kinds are NaN."""

    values: NDArray[np.float64]  # (G,) descending scores
    positives: NDArray[np.int64]  # (G,) anomalous samples with that score
    negatives: NDArray[np.int64]  # (G,) normal samples with that score

    @property
    def problem(self) -> str | None:
        """Why the metrics are undefined; None if they are defined."""
        lacking = [
            name for name, counts in (("normal", self.negatives), ("anomalous", self.positives)) if not counts.any()
        ]
        return f"no {' and no '.join(lacking)} samples" if lacking else None

    def auroc(self) -> float:
        """Probability that an anomalous sample outscores a normal one, ties counted half; in 0..1."""
        return float(auroc_of(self.positives, self.negatives))

    def average_precision(self) -> float:
        """Sum over thresholds of precision times the gain in recall (no interpolation); in 0..1."""
        return float(average_precision_of(self.positives, self.negatives))

    def f1_max(self) -> tuple[float, float]:
        """The best F1 that any threshold reaches, and the lowest score called anomalous there (the highest such)."""
        if self.problem:
            return float("nan"), float("nan")
        f1 = _f1(self.positives, self.negatives)
        best = int(f1.argmax())
        return float(f1[best]), float(self.values[best])

    def roc_curve(self, points: int = 200) -> NDArray[np.float64]:
        """At most `points` vertices of the ROC curve, (R, 2): false-positive and true-positive rate, (0, 0) to (1, 1).

        The vertices are the curve's own, spaced evenly along it. Empty where the curve is undefined.
        """
        if self.problem:
            return np.zeros((0, 2))
        counts = np.stack((self.negatives, self.positives), axis=1)
        rates = np.concatenate((np.zeros((1, 2)), np.cumsum(counts, axis=0) / counts.sum(axis=0)))
        # The length along the curve never falls, because both rates grow: bisection finds the vertices at even steps.
        wanted = np.linspace(0, 2, points)
        chosen = np.searchsorted(rates.sum(axis=1), wanted - 1e-12).clip(max=len(rates) - 1)
        vertices: NDArray[np.float64] = rates[np.unique(np.concatenate(([0], chosen[1:-1], [len(rates) - 1])))]
        return vertices


def auroc_of(positives: Counts, negatives: Counts) -> Values:
    """AUROC (...), NaN where there are no positives or no negatives."""
    # In float64: the pixel pairs of a large data set overflow int64. Exact up to 2**53 pairs, 1e-15 off beyond.
    hits, alarms = positives.astype(np.float64), negatives.astype(np.float64)
    above = np.cumsum(hits, axis=-1) - hits
    pairs = hits.sum(axis=-1) * alarms.sum(axis=-1)
    return _quotient(np.sum(alarms * (above + hits / 2), axis=-1), pairs)


def average_precision_of(positives: Counts, negatives: Counts) -> Values:
    """Average precision (...), NaN where there are no positives or no negatives."""
    hits = np.cumsum(positives, axis=-1, dtype=np.float64)
    called = hits + np.cumsum(negatives, axis=-1, dtype=np.float64)
    # A resample may leave the first groups empty: nothing is called there, and nothing is gained.
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _defined(_quotient(np.sum(positives * precision, axis=-1), _total(hits)), positives, negatives)


def f1_max_of(positives: Counts, negatives: Counts) -> Values:
    """The best F1 over all thresholds (...), NaN where there are no positives or no negatives."""
    if positives.shape[-1] == 0:
        return np.full(positives.shape[:-1], np.nan)
    return _defined(_f1(positives, negatives).max(axis=-1), positives, negatives)


def _f1(positives: Counts, negatives: Counts) -> NDArray[np.float64]:
    """F1 (..., G) of calling everything anomalous down to each group."""
    hits = np.cumsum(positives, axis=-1, dtype=np.float64)
    called = hits + np.cumsum(negatives, axis=-1, dtype=np.float64)
    return _quotient(2 * hits, called + hits[..., -1:])


def _total(cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    return cumulative[..., -1] if cumulative.shape[-1] else np.zeros(cumulative.shape[:-1])


def _quotient(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part` / `whole`, NaN where the whole is zero."""
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return quotient


def _defined(values: Values, positives: Counts, negatives: Counts) -> Values:
    return np.where((positives.sum(axis=-1) > 0) & (negatives.sum(axis=-1) > 0), values, np.nan)
