"""Maps on patch grids: smoothing and interpolation."""

from functools import lru_cache

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

Map = NDArray[np.float32]  # (h, w)


def smoothed(m: NDArray[np.floating], sigma: float) -> Map:
    """Gaussian of `sigma` (share of the map's side)."""
    return np.asarray(ndi.gaussian_filter(m.astype(np.float32), sigma * m.shape[0], mode="nearest"))


def interpolate(m: Map, shape: tuple[int, int]) -> Map:
    """The map (h, w) bilinearly on (H, W) = `shape`; constant beyond the outermost cell centres."""
    if m.shape == shape:
        return m
    return np.asarray(_bilinear(m.shape[0], shape[0]) @ m @ _bilinear(m.shape[1], shape[1]).T)


@lru_cache(maxsize=16)
def _bilinear(source: int, target: int) -> Map:
    """(target, source) matrix of linear interpolation between cell centres."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(place.astype(int), max(source - 2, 0))
    weight = place - low
    matrix = np.zeros((target, source), dtype=np.float32)
    matrix[np.arange(target), low] = 1 - weight
    if source > 1:
        matrix[np.arange(target), low + 1] += weight
    return matrix
