"""S_P (Eq. 4): how far each patch is from the patch bank, at the image's resolution."""

import numpy as np
from numpy.typing import NDArray

from tmuad.banks.grid import interpolate


def upsample(distance: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Patch distances (h, w) as a map (H, W) = `shape`, bilinear. Smoothing is part of the distances already."""
    return interpolate(distance.astype(np.float32), shape)
