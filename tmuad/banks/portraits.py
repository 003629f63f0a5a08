"""The portraits of one class's normal objects, and how another one differs from its twin, the most similar of them.

Where parts recur, be it printed labels, castings of one mould or the same few pieces, a normal object has a near twin here
and a damaged one has not. Where no two are alike, normal objects are as far from each other as from anything, the spread is
wide in proportion, and the distance says little. It is calibrated, so nobody needs to know which of the two holds.

Two witnesses are heard. One is the distance of the middles, which says whether the twin is one. The other is the worst place of
the whole: a small fault changes little of a portrait, but much of one place. A place is judged by how much normal objects
differ from their twins there, or the rim, where the mask is never quite right, would always be the worst.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.ndimage as ndi

from tmuad.banks.centroids import Matrix, kmeans
from tmuad.banks.tangent import nearest, tangents, unmoved
from tmuad.banks.usual import Usual
from tmuad.config import ObjectBankParams
from tmuad.encode.portraits import PLANES, SIDE, middles

USUAL = 0.75  # quantile of the differences of normal objects at a cell that counts as usual there
BLUR = 0.7  # cells: sigma of what is usual, which so many objects do not tell exactly
SHARED = 0.5  # times the mean of all cells are added to what is usual of each
PLACE = 2.5  # cells: sigma of what counts as one place
BLOCK = 64  # portraits compared with all centroids at once


@dataclass(frozen=True)
class KnownPortraits:
    """Of one class; see `tmuad.encode.portraits`."""

    centroids: Matrix  # (K, LENGTH), rows of length 1; exact as float16, which is what a bank's file keeps
    differences: Matrix  # (SIDE, SIDE) how much normal objects differ from their twins at each cell, squared
    middle: Usual  # of the tangent distance of the middles
    worst: Usual  # of the difference at the worst place, relative to `differences`

    @classmethod
    def fit(cls, portraits: Matrix, params: ObjectBankParams) -> "KnownPortraits":
        """From those of normal objects (n, LENGTH), each of which is compared with the others."""
        rows = _half(portraits)
        centroids, unset = _half(kmeans(rows, params.clusters, params.seed)), Usual(0.0, 1.0)
        known = cls(centroids, np.ones((SIDE, SIDE), np.float32), unset, unset)
        middle, differences = known._compared(rows, among_themselves=len(known.centroids) == len(rows))
        usual = ndi.gaussian_filter(np.quantile(differences, USUAL, axis=0), BLUR)
        known = replace(known, differences=(usual + SHARED * usual.mean() + 1e-9).astype(np.float32))
        return known._calibrated(middle, differences)

    def calibrated(self, portraits: Matrix) -> "KnownPortraits":
        """The same, judged by what is usual of these normal objects (n, LENGTH)."""
        return self._calibrated(*self._compared(portraits))

    def distances(self, portraits: Matrix) -> Matrix:
        """(n, LENGTH) -> (n,): mean of both witnesses, in normal spreads above the normal level."""
        middle, differences = self._compared(portraits)
        return np.asarray((self.middle(middle) + self.worst(self._worst(differences))) / 2, dtype=np.float32)

    def _calibrated(self, middle: Matrix, differences: Matrix) -> "KnownPortraits":
        return replace(self, middle=Usual.of(middle), worst=Usual.of(self._worst(differences)))

    def _worst(self, differences: Matrix) -> Matrix:
        """(n, SIDE, SIDE) -> (n,). A place at the border counts by what of it lies within."""
        relative = differences / self.differences
        around = ndi.gaussian_filter(relative, (0, PLACE, PLACE), mode="constant") if len(relative) else relative
        return np.asarray(np.sqrt(around.max(axis=(1, 2))), dtype=np.float32)

    def _compared(self, portraits: Matrix, among_themselves: bool = False) -> tuple[Matrix, Matrix]:
        """(n, LENGTH) -> (n,) distance of the middles and (n, SIDE, SIDE) squared difference at each cell, to the twins.

        `among_themselves`: portrait i is centroid i, and is compared with the others.
        """
        distance = np.empty(len(portraits), dtype=np.float32)
        differences = np.empty((len(portraits), SIDE, SIDE), dtype=np.float32)
        for start in range(0, len(portraits), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(portraits)))
            whole, inner = portraits[rows], middles(portraits[rows])
            itself = rows if among_themselves else None
            distance[rows], twin = nearest(inner, tangents(_cells(inner)), *self._middles, itself)
            rest = unmoved(whole - self.centroids[twin], tangents(_cells(whole)))
            differences[rows] = (_cells(rest) ** 2).sum(axis=1)
        return distance, differences

    @cached_property
    def _middles(self) -> tuple[Matrix, Matrix]:
        """Of the centroids, and their squared lengths."""
        inner = middles(self.centroids)
        return inner, (inner**2).sum(axis=1)


def _half(rows: Matrix) -> Matrix:
    """Rows as a bank's file keeps them."""
    return rows.astype(np.float16).astype(np.float32)


def _cells(rows: Matrix) -> Matrix:
    """(n, PLANES s s) -> (n, PLANES, s, s)."""
    side = round((rows.shape[1] / PLANES) ** 0.5)
    return rows.reshape(len(rows), PLANES, side, side)
