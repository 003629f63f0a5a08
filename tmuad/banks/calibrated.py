"""The zero and the unit of a distance: what is usual of normal objects."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from tmuad.banks.centroids import Matrix

STEADY = 0.05  # of the level: no class is believed to vary less


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Whatever tells how far an object of one class is from the nearest normal one."""

    level: float  # mean distance of normal objects
    spread: float  # its standard deviation

    def calibrated(self, distance: Matrix) -> Self:
        """The same with level and spread of these normal distances (n,)."""
        level = float(distance.mean())
        return replace(self, level=level, spread=float(distance.std()) + STEADY * level + 1e-6)

    def in_spreads(self, distance: Matrix) -> Matrix:
        """Distances (n,) in normal spreads above the normal level."""
        return np.asarray((distance - self.level) / self.spread, dtype=np.float32)
