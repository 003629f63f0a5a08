"""S_O (Eq. 3): each segment's distance to the object bank, painted on its mask."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tmuad import masks
from tmuad.masks import Runs

Overlap = Literal["sum", "mean", "max"]


def object_map(
    segments: Sequence[Runs], distance: NDArray[np.float32], shape: tuple[int, int], overlap: Overlap = "mean"
) -> NDArray[np.float32]:
    """S_O as (H, W) from the segments' distances (n,); 0 where there is no segment.

    Eq. 3 sums over the segments. Ours are nested, so a sum would grow with the depth of nesting and not with the anomaly:
    the default is the mean of all segments that hold a pixel. `max` lets the most unusual one speak.
    """
    total = np.zeros(shape, dtype=np.float32)
    count = np.zeros(shape, dtype=np.float32)
    for runs, value in zip(segments, distance, strict=True):
        rows = masks.rows(runs, shape)
        mask = masks.decode(runs, shape)[rows]
        here, seen = total[rows], count[rows]
        if overlap == "max":
            here[mask] = np.where(seen[mask] > 0, np.maximum(here[mask], value), value)
        else:
            np.add(here, value, out=here, where=mask)
        seen += mask
    return np.asarray(total / np.maximum(count, 1), dtype=np.float32) if overlap == "mean" else total
