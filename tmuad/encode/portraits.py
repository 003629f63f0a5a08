"""Portraits: every object brought into one frame, so that two of a class can be compared place by place.

The frame is the object's own: its centre of mass, its principal axes and its extent along them. Seen in it, a part that
was turned, moved or photographed from a little farther away looks the same, and what differs is the part. Summary
statistics (`filters.py`) say how rough or how red an object is; a portrait says which object it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad import masks
from tmuad.encode.filters import gaussian_sampler
from tmuad.masks import Runs

SIDE = 24  # samples along each axis
RIM = 3  # of them at either end are left out of the middle: they are mostly shadow and mask
LIGHT = 0.3  # sigma, as a share of SIDE: what varies more slowly is taken for the fall of light, and taken out
PLANES = 3  # L, a, b
LENGTH = PLANES * SIDE**2
TURN = 2 * np.pi / 3  # the long axis points between TURN - pi and TURN: upright and level parts are far from the jump
DENSE = 2.0  # px of the halved image: the points of a cell that are looked at lie no farther apart
MOST = 12  # such points along an axis of a cell, at most

Portraits = NDArray[np.float32]  # (n, LENGTH), rows of length 1; of length 0 where an object shows a single colour
Level = NDArray[np.float32]  # (PLANES, h, w)


def portraits(planes: Sequence[NDArray[np.float32]], segments: Sequence[Runs]) -> Portraits:
    """Portraits (n, LENGTH) of the `segments` of an image with the Lab `planes`, each (S, S).

    What varies slowly is taken out and the rest scaled to length 1: neither exposure nor where the lamp stands counts.
    """
    image: Level = np.stack(planes)
    seen = np.zeros((len(segments), PLANES, SIDE, SIDE), dtype=np.float32)
    if segments:
        _sample(image, frames(segments, (image.shape[1], image.shape[2])), seen)
    smoother = gaussian_sampler(SIDE, SIDE, LIGHT * SIDE)
    seen -= smoother @ seen @ smoother.T
    return _scaled(seen)


def middles(rows: Portraits) -> Portraits:
    """(n, LENGTH) -> (n, PLANES (SIDE - 2 RIM)^2): portraits of the objects without their rims, again of length 1 or 0."""
    inner = slice(RIM, SIDE - RIM)
    return _scaled(rows.reshape(len(rows), PLANES, SIDE, SIDE)[:, :, inner, inner].copy())


def _scaled(seen: Portraits) -> Portraits:
    """(n, PLANES, s, s) -> (n, PLANES s s): each plane around its mean, the whole of length 1, or 0 where there is nothing."""
    seen -= seen.mean(axis=(2, 3), keepdims=True)
    rows = seen.reshape(len(seen), PLANES * seen.shape[2] * seen.shape[3])
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= np.where(length > 1e-3, 1 / np.maximum(length, np.float32(1e-3)), 0)  # less is rounding, not a pattern
    return rows


@dataclass(frozen=True)
class Frames:
    """Where each of n objects is sampled."""

    centres: NDArray[np.float64]  # (n, 2) as (y, x), px
    axes: NDArray[np.float64]  # (n, 2, 2): the long axis, then the one across, as (y, x)
    halves: NDArray[np.float64]  # (n, 2) how far a portrait reaches along them, px; 0 for an empty mask


def frames(segments: Sequence[Runs], shape: tuple[int, int]) -> Frames:
    """The frames of objects, from their moments: sqrt(3) standard deviations are a rectangle's half-side."""
    sums = masks.second_moments(segments, shape).astype(np.float64)
    filled, x, y, xx, yy, xy = (sums / np.maximum(sums[:, :1], 1)).T  # the first is 1, or 0 for an empty mask
    products = np.stack([yy - y * y, xy - x * y, xy - x * y, xx - x * x], axis=-1).reshape(-1, 2, 2)
    variances, axes = np.linalg.eigh(products + np.eye(2) / 12)  # ascending; a pixel has an extent itself
    angle = TURN - (TURN - np.arctan2(axes[:, 0, 1], axes[:, 1, 1])) % np.pi  # of the long axis
    sine, cosine = np.sin(angle), np.cos(angle)
    along = np.stack([sine, cosine, cosine, -sine], axis=-1).reshape(-1, 2, 2)
    halves = np.sqrt(3 * variances[:, ::-1]) * filled[:, None]
    return Frames(np.stack([y, x], axis=-1), along, halves)


def _sample(image: Level, at: Frames, out: NDArray[np.float32]) -> None:
    """Fills `out` (n, PLANES, SIDE, SIDE) with the means over the cells of each frame, as far as these have an extent.

    A large object is seen in the halved image. How many points of a cell are looked at depends on its sides, and objects
    that take as many are looked at together.
    """
    steps = 2 * at.halves / SIDE
    most = int(np.log2(max(1, min(image.shape[1:]))))
    halvings = np.clip(np.log2(np.maximum(steps.min(axis=1), 1.0)).astype(int), 0, most)
    points = np.clip(np.ceil(steps / 2.0 ** halvings[:, None] / DENSE), 1, MOST).astype(int)
    level = image
    for k in range(int(halvings.max()) + 1):
        level = _halved(level) if k else level
        mine = (halvings == k) & (at.halves > 0).all(axis=1)
        for many in np.unique(points[mine], axis=0):
            chosen = np.flatnonzero(mine & (points == many).all(axis=1))
            u, v = (
                at.halves[chosen, axis, None] * ((2 * np.arange(n * SIDE) + 1) / (n * SIDE) - 1)
                for axis, n in enumerate(many)
            )
            long, across = at.axes[chosen, 0, :, None, None], at.axes[chosen, 1, :, None, None]
            places = at.centres[chosen, :, None, None] + u[:, None, :, None] * long + v[:, None, None, :] * across
            at_level = np.moveaxis((places + 0.5) / 2**k - 0.5, 1, 0)
            for plane, values in enumerate(level):
                seen = ndi.map_coordinates(values, at_level, order=1, mode="nearest")
                out[chosen, plane] = seen.reshape(len(chosen), SIDE, many[0], SIDE, many[1]).mean(axis=(2, 4))


def _halved(level: Level) -> Level:
    """(C, h, w) -> (C, h // 2, w // 2): means of four."""
    h, w = level.shape[1] // 2 * 2, level.shape[2] // 2 * 2
    parts = [level[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    return np.asarray((parts[0] + parts[1] + parts[2] + parts[3]) / np.float32(4))
