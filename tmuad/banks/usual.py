"""The zero and the unit of a distance: what is usual of normal objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEADY = 0.05  # of the level: no class is believed to vary less


@dataclass(frozen=True)
class Usual:
    """Of the distances that the objects of one class have from what they are compared with."""

    level: float  # mean of normal objects
    spread: float  # their standard deviation

    @classmethod
    def of(cls, distance: NDArray[np.float32]) -> "Usual":
        """From the distances (n,) of normal objects."""
        level = float(distance.mean())
        return cls(level, float(distance.std()) + STEADY * level + 1e-6)

    def __call__(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distances (n,) in normal spreads above the normal level."""
        return np.asarray((distance - self.level) / self.spread, dtype=np.float32)
