"""The portraits of one class's normal objects, and how far another one is from the nearest of them.

Where parts recur, be it printed labels, castings of one mould or the same few pieces, a normal object has a near twin here
and a damaged one has not. Where no two are alike, normal objects are as far from each other as from anything, the spread is
wide in proportion, and the distance says little. It is calibrated, so nobody needs to know which of the two holds.
"""

from dataclasses import dataclass, replace

import numpy as np

from tmuad.banks.centroids import Matrix, kmeans, nearest
from tmuad.banks.index import Centroids, compressed
from tmuad.config import ObjectBankParams

STEADY = 0.05  # of the level: no class is believed to vary less
BLOCK = 1024  # rows compared with all others at once


@dataclass(frozen=True)
class KnownPortraits:
    """Of one class; see `tmuad.encode.portraits`."""

    centroids: Centroids  # (K, LENGTH), rows of length 1
    level: float  # mean distance of normal objects
    spread: float  # its standard deviation

    @classmethod
    def fit(cls, portraits: Matrix, params: ObjectBankParams) -> "KnownPortraits":
        """From those of normal objects (n, LENGTH). Level and spread are those of each object to the others."""
        rows = portraits.astype(np.float16).astype(np.float32)  # float16 is what a bank's file keeps
        kept = kmeans(rows, params.clusters, params.seed).astype(np.float16).astype(np.float32)
        known = cls(kept, level=0.0, spread=1.0)
        own = _to_others(rows) if len(kept) == len(rows) else known.nearest(rows)
        return replace(known.calibrated(own), centroids=compressed(kept, params.index))

    def calibrated(self, distance: Matrix) -> "KnownPortraits":
        """The same with level and spread of these normal distances (n,)."""
        level = float(distance.mean())
        return replace(self, level=level, spread=float(distance.std()) + STEADY * level + 1e-6)

    def nearest(self, portraits: Matrix) -> Matrix:
        """(n, LENGTH) -> (n,): Euclidean distance to the most similar portrait, 0 to 2; of unit vectors it says what a
        correlation says.
        """
        return np.sqrt(2 * nearest(portraits, self.centroids)[0])

    def distances(self, portraits: Matrix) -> Matrix:
        """(n, LENGTH) -> (n,): the same in normal spreads above the normal level."""
        return np.asarray((self.nearest(portraits) - self.level) / self.spread, dtype=np.float32)


def _to_others(rows: Matrix) -> Matrix:
    """Distance (n,) of each row to the most similar other one; 2 where there is none."""
    distance = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        similarity = rows[start : start + BLOCK] @ rows.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -1
        distance[start : start + BLOCK] = np.sqrt(2 * np.maximum(1 - similarity.max(axis=1), 0))
    return distance
