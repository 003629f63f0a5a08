"""S_P (Eq. 4): how far each patch is from the patch bank, on the image's own grid."""

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad.banks.patches import PatchBank
from tmuad.encode import PatchFeatures

SMOOTHING = 0.8  # patches


def upsample(distance: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Patch distances (h, w) as a smooth map (H, W) = `shape`: Gaussian, then bilinear."""
    smoothed = ndi.gaussian_filter(distance.astype(np.float32), SMOOTHING, mode="nearest")
    rows, cols = _bilinear(smoothed.shape[0], shape[0]), _bilinear(smoothed.shape[1], shape[1])
    result: NDArray[np.float32] = rows @ smoothed @ cols.T
    return result


def patch_map(features: PatchFeatures, bank: PatchBank, size: int) -> NDArray[np.float32]:
    """S_P as (size, size)."""
    return upsample(bank.distances(features), (size, size))


def _bilinear(source: int, target: int) -> NDArray[np.float32]:
    """(target, source) matrix of linear interpolation between cell centres, constant beyond the outermost."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(place.astype(int), max(source - 2, 0))
    weight = place - low
    matrix = np.zeros((target, source), dtype=np.float32)
    matrix[np.arange(target), low] = 1 - weight
    if source > 1:
        matrix[np.arange(target), low + 1] += weight
    return matrix
