"""What AUROC, AP, F1 and the ROC curve are computed from: the counts of positives and negatives at each distinct score.

Images with their scores and pixels in histogram bins both become a `Ranking`, so that every metric is written once.
Samples of one score are one group: ties count half in AUROC, and no threshold falls between them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        if self.problem:
            return float("nan")
        # In float64: the pixel pairs of a large data set overflow int64. Exact up to 2**53 pairs, 1e-15 off beyond.
        positives, negatives = self.positives.astype(np.float64), self.negatives.astype(np.float64)
        above = np.cumsum(positives) - positives
        return float(np.sum(negatives * (above + positives / 2)) / (positives.sum() * negatives.sum()))

    def average_precision(self) -> float:
        """Sum over thresholds of precision times the gain in recall (no interpolation); in 0..1."""
        if self.problem:
            return float("nan")
        hits, alarms = self._cumulative()
        return float(np.sum(self.positives * (hits / alarms)) / hits[-1])

    def f1_max(self) -> tuple[float, float]:
        """The best F1 that any threshold reaches, and the lowest score called anomalous there (the highest such)."""
        if self.problem:
            return float("nan"), float("nan")
        hits, alarms = self._cumulative()
        f1 = 2 * hits / (alarms + hits[-1])
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

    def _cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        hits = np.cumsum(self.positives, dtype=np.float64)
        return hits, hits + np.cumsum(self.negatives, dtype=np.float64)
