"""Portraits: every object brought into one frame, so that two of a class can be compared place by place.

The frame is the object's own: its centre of mass, its principal axes and its extent along them. Seen in it, a part that
was turned, moved or photographed from a little farther away looks the same, and what differs is the part. Summary
statistics (`filters.py`) say how rough or how red an object is; a portrait says which object it is.
"""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad import masks
from tmuad.masks import Runs

SIDE = 16  # samples along each axis
REACH = 0.75  # of the half-sides of the rectangle with the object's moments: its rim is mostly shadow and mask
PLANES = 3  # L, a, b
LENGTH = PLANES * SIDE**2
TURN = 2 * np.pi / 3  # the long axis points between TURN - pi and TURN: upright and level parts are far from the jump


Portraits = NDArray[np.float32]  # (n, LENGTH), rows of length 1; of length 0 where an object shows a single colour
Places = NDArray[np.float64]  # (2, SIDE**2): y and x, px


def portraits(planes: Sequence[NDArray[np.float32]], segments: Sequence[Runs]) -> Portraits:
    """Portraits (n, LENGTH) of the `segments` of an image with the Lab `planes`, each (S, S).

    Each plane is centred and all are scaled together: neither exposure nor the colour of the light counts for much.
    """
    result = np.zeros((len(segments), PLANES, SIDE**2), dtype=np.float32)
    height, width = planes[0].shape
    frames = [_frame(runs, (height, width)) for runs in segments]
    halvings = np.array([_halvings(step, min(height, width)) for _, step in frames], dtype=np.int64)
    level = np.stack(planes)
    for k in range(max(halvings, default=-1) + 1):
        level = _halved(level) if k else level
        mine = np.flatnonzero(halvings == k)
        if not mine.size:
            continue
        places = np.concatenate([frames[i][0] for i in mine], axis=1)
        at = (places + 0.5) / 2**k - 0.5
        for plane, values in enumerate(level):
            seen = ndi.map_coordinates(values, at, order=1, mode="nearest")
            result[mine, plane] = seen.reshape(len(mine), SIDE**2)
    result -= result.mean(axis=2, keepdims=True)
    rows = result.reshape(len(segments), LENGTH)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))
    return rows


def _frame(runs: Runs, shape: tuple[int, int]) -> tuple[Places, float]:
    """Where an object is sampled, and how far apart, px."""
    area, x, y = masks.moments(runs, shape)
    if not area:
        return np.zeros((2, SIDE**2)), 0.0
    centre = np.array([y, x]) / area - 0.5
    xx, yy, xy = masks.second_moments(runs, shape)
    products = np.array([[yy, xy], [xy, xx]]) / area - np.outer(centre, centre)
    variances, axes = np.linalg.eigh(products + np.eye(2) / 12)  # ascending; a pixel has an extent itself
    angle = TURN - (TURN - np.arctan2(axes[0, 1], axes[1, 1])) % np.pi  # of the long axis
    long, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    half = REACH * np.sqrt(3 * variances[::-1])  # a rectangle's half-side is sqrt(3) of its standard deviations
    ticks = (2 * np.arange(SIDE) + 1) / SIDE - 1
    u, v = (grid.ravel() for grid in np.meshgrid(half[0] * ticks, half[1] * ticks, indexing="ij"))
    return centre[:, None] + long[:, None] * u + across[:, None] * v, float(2 * np.sqrt(half.prod()) / SIDE)


def _halvings(step: float, side: int) -> int:
    """How often an image of `side` px is halved before it is sampled every `step` px: what lies between counts, too."""
    return int(np.clip(np.rint(np.log2(max(step, 1.0))), 0, np.log2(max(side, 1)) // 1))


def _halved(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, h, w) -> (C, h // 2, w // 2): means of four."""
    h, w = planes.shape[1] // 2 * 2, planes.shape[2] // 2 * 2
    parts = [planes[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    return np.asarray((parts[0] + parts[1] + parts[2] + parts[3]) / np.float32(4))
