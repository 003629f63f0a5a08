"""The portraits of one class's normal objects, and how far another one is from the nearest of them.

Where parts recur, be it printed labels, castings of one mould or the same few pieces, a normal object has a near twin here
and a damaged one has not. Where no two are alike, normal objects are as far from each other as from anything, the spread is
wide in proportion, and the distance says little. It is calibrated, so nobody needs to know which of the two holds.
"""

from dataclasses import dataclass, replace

import numpy as np

from tmuad.banks.calibrated import Calibrated
from tmuad.banks.centroids import Matrix, kmeans, nearest
from tmuad.banks.index import Centroids, compressed
from tmuad.config import ObjectBankParams


@dataclass(frozen=True)
class KnownPortraits(Calibrated):
    """Of one class; see `tmuad.encode.portraits`."""

    centroids: Centroids  # (K, LENGTH), rows of length 1

    @classmethod
    def fit(cls, portraits: Matrix, params: ObjectBankParams) -> "KnownPortraits":
        """From those of normal objects (n, LENGTH). Level and spread are those of each object to the others."""
        rows = portraits.astype(np.float16).astype(np.float32)  # float16 is what a bank's file keeps
        kept = kmeans(rows, params.clusters, params.seed).astype(np.float16).astype(np.float32)
        known = cls(kept, level=0.0, spread=1.0)
        own = known.nearest(rows, ignore_itself=len(kept) == len(rows))
        return replace(known.calibrated(own), centroids=compressed(kept, params.index))

    def nearest(self, portraits: Matrix, ignore_itself: bool = False) -> Matrix:
        """(n, LENGTH) -> (n,): Euclidean distance to the most similar portrait, 0 to 2; of unit vectors it says what a
        correlation says. `ignore_itself` where row i is centroid i.
        """
        return np.sqrt(2 * nearest(portraits, self.centroids, ignore_itself)[0])

    def distances(self, portraits: Matrix) -> Matrix:
        """(n, LENGTH) -> (n,): the same in normal spreads above the normal level."""
        return self.in_spreads(self.nearest(portraits))
