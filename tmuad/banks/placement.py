"""What is normal where: the level and spread that a map of normal images reaches around each place.

Where images are aligned, some places (an edge, a printed label) always deviate more than others, and the same deviation
means less there. What counts is the highest value within a window, because parts move a little from image to image and
because a map is judged by its maximum. On images that are not aligned the level comes out flat and changes nothing.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

Map = NDArray[np.float32]  # (h, w)

PRIOR = 10  # images: with this many, the level of a place counts half and the level of the whole image half
SHARED = 0.5  # share of the whole image's spread in that of each place: a spread is hard to tell from few images


@dataclass(frozen=True)
class Placement:
    """Level and spread per place."""

    level: Map
    spread: Map

    @classmethod
    def fit(cls, maps: NDArray[np.floating], window: float, blur: float) -> "Placement":
        """From the maps (n, h, w) of normal images; `window` and `blur` (sigma) as shares of the side."""
        side = maps.shape[1]
        width = max(1, round(window * side))
        highest = np.stack([ndi.maximum_filter(m, width, mode="nearest") for m in maps.astype(np.float32)])
        trust = len(maps) / (len(maps) + PRIOR)
        level = ndi.gaussian_filter(np.median(highest, axis=0), blur * side, mode="nearest")
        spread = ndi.gaussian_filter(highest.std(axis=0), blur * side, mode="nearest")
        if len(maps) == 1:  # one image shows no spread between images: its own variety has to do
            spread = np.full_like(level, highest.std())
        level = trust * level + (1 - trust) * level.mean()
        shared = SHARED * trust + (1 - trust)
        spread = (1 - shared) * spread + shared * spread.mean()
        return cls(level.astype(np.float32), np.maximum(spread, 1e-3).astype(np.float32))

    def __call__(self, m: Map) -> Map:
        """The map `m` (h, w) in spreads above the level."""
        return np.asarray((m - self.level) / self.spread, dtype=np.float32)
