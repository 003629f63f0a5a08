"""Signed distances (negative inside) of the outlines that parts are made of.

`u`, `v` are coordinates in the part's own frame, shape (H, W) or (P,), in shares of the image side. Distances have
the same shape and unit. Those of stars and of unions seen from inside are bounds, not exact: good enough for edges and
contacts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]  # float32 throughout


def circle(u: Field, v: Field, radius: float) -> Field:
    return np.hypot(u, v) - np.float32(radius)


def box(u: Field, v: Field, half_width: float, half_height: float, corner: float = 0.0) -> Field:
    """A rectangle about the origin whose corners are rounded with radius `corner`."""
    x = np.abs(u) - np.float32(half_width - corner)
    y = np.abs(v) - np.float32(half_height - corner)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    return outside + np.minimum(np.maximum(x, y), 0) - np.float32(corner)


def hexagon(u: Field, v: Field, apothem: float) -> Field:
    """A regular hexagon by its three pairs of parallel sides; `apothem` is half the width across flats."""
    c, s = np.float32(0.5), np.float32(np.sqrt(0.75))
    a, b = c * np.abs(u), s * np.abs(v)
    distance: Field = np.maximum(np.abs(u), a + b) - np.float32(apothem)
    return distance


def capsule(u: Field, v: Field, half_length: float, radius: float) -> Field:
    """A bar along u with round ends."""
    return np.hypot(np.maximum(np.abs(u) - np.float32(half_length), 0), v) - np.float32(radius)


def star(u: Field, v: Field, radius: float, lobe: float, lobes: int) -> Field:
    """A round outline with `lobes` smooth bulges of height `lobe`."""
    distance: Field = np.hypot(u, v) - np.float32(radius) - np.float32(lobe) * np.cos(lobes * np.arctan2(v, u))
    return distance


def smoothstep(x: Field) -> Field:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0, 1)
    return t * t * (3 - 2 * t)
