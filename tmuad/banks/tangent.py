"""Tangent distance [Simard, LeCun and Denker 1993]: how far two pictures are apart once small movements are taken out.

No segmenter finds an object's outline to the pixel, so its frame is a little off, and so are all pixels of its portrait.
What a picture gains by being moved a little is, to first order, a sum of few known pictures, its tangents. A difference is
counted without its part along these: neither picture is moved, and the comparison with a whole bank stays a matrix product.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

MOVES = 4  # along, across, a turn, and a change of size
LEAST = 0.0025  # squared length below which a move changes nothing that another one does not change as well


def tangents(portraits: Matrix) -> Matrix:
    """(n, C, s, s) -> (n, MOVES, C s s): orthogonal rows of length 1 that span the moves of each; 0 where some coincide."""
    n, planes, side, _ = portraits.shape
    along, across = np.gradient(portraits, axis=(2, 3))
    place = ((2 * np.arange(side) + 1) / side - 1).astype(np.float32)
    u, v = place[:, None], place[None, :]
    moves = np.stack([along, across, along * v - across * u, along * u + across * v], axis=1)
    moves = moves.reshape(n, MOVES, planes * side**2)
    moves /= np.maximum(np.linalg.norm(moves, axis=2, keepdims=True), 1e-6)
    values, vectors = np.linalg.eigh((moves @ moves.transpose(0, 2, 1)).astype(np.float64))
    scale = np.where(values > LEAST, 1 / np.sqrt(np.maximum(values, LEAST)), 0)
    return np.asarray((vectors * scale[:, None, :]).transpose(0, 2, 1).astype(np.float32) @ moves, dtype=np.float32)


def unmoved(differences: Matrix, basis: Matrix) -> Matrix:
    """The `differences` (n, L) without their parts along the tangents `basis` (n, MOVES, L)."""
    parts = basis @ differences[:, :, None]  # (n, MOVES, 1)
    return np.asarray(differences - (parts * basis).sum(axis=1), dtype=np.float32)


def nearest(
    rows: Matrix, basis: Matrix, centroids: Matrix, squares: Matrix, itself: NDArray[np.integer] | None = None
) -> tuple[Matrix, NDArray[np.int64]]:
    """Tangent distance (n,) of each row (n, L) with its tangents `basis` (n, MOVES, L) to the nearest of `centroids` (K, L),
    whose squared lengths are `squares` (K,), and which one (n,). `itself` (n,) are centroids that a row is not compared with,
    unless there is no other.
    """
    n, k = len(rows), len(centroids)
    squared = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centroids.T + squares
    own = (basis @ rows[:, :, None]).astype(np.float32)  # (n, MOVES, 1)
    squared -= ((own - (basis.reshape(n * MOVES, -1) @ centroids.T).reshape(n, MOVES, k)) ** 2).sum(axis=1)
    if itself is not None and k > 1:
        squared[np.arange(n), itself] = np.inf
    which = squared.argmin(axis=1)
    return np.sqrt(np.maximum(squared[np.arange(n), which], 0)), which
