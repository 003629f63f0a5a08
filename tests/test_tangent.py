"""Tangent distance against least squares, and what it is for: small movements count for little."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.tangent import MOVES, tangents, unmoved
from tmuad.banks.tangent import nearest as nearest_of

SIDE = 12


def pictures(seed: int, n: int, smooth: float = 1.5) -> NDArray[np.float32]:
    """(n, 2, SIDE, SIDE), each of length 1."""
    noise = np.random.default_rng(seed).normal(size=(n, 2, SIDE, SIDE))
    soft = ndi.gaussian_filter(noise, (0, 0, smooth, smooth))
    return (soft / np.linalg.norm(soft.reshape(n, -1), axis=1)[:, None, None, None]).astype(np.float32)


def nearest(
    rows: NDArray[np.float32], basis: NDArray[np.float32], known: NDArray[np.float32], *itself: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return nearest_of(rows, basis, known, (known**2).sum(axis=1), *itself)


def moves_of(picture: NDArray[np.float32]) -> NDArray[np.float64]:
    """(L, MOVES): by the definition, cell by cell."""
    place = [(2 * i + 1) / SIDE - 1 for i in range(SIDE)]
    along, across = np.gradient(picture.astype(np.float64), axis=(1, 2))
    columns = np.zeros((MOVES, *picture.shape))
    for i, u in enumerate(place):
        for j, v in enumerate(place):
            a, b = along[:, i, j], across[:, i, j]
            columns[:, :, i, j] = [a, b, a * v - b * u, a * u + b * v]
    return columns.reshape(MOVES, -1).T


def test_the_distance_is_what_no_combination_of_moves_explains() -> None:
    asked, known = pictures(0, 5), pictures(1, 7).reshape(7, -1)
    rows, basis = asked.reshape(5, -1), tangents(asked)
    slow = np.zeros((5, 7))
    for i in range(5):
        for j in range(7):
            difference = (rows[i] - known[j]).astype(np.float64)
            moves = moves_of(asked[i])
            best, *_ = np.linalg.lstsq(moves, difference, rcond=None)
            slow[i, j] = np.linalg.norm(difference - moves @ best)
    distance, which = nearest(rows, basis, known)
    np.testing.assert_array_equal(which, slow.argmin(axis=1))
    np.testing.assert_allclose(distance, slow.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(unmoved(rows - known[which], basis), axis=1), distance, atol=1e-5)


def test_tangents_are_orthogonal_and_of_length_1_or_0() -> None:
    basis = tangents(pictures(2, 6))
    np.testing.assert_allclose(basis @ basis.transpose(0, 2, 1), np.broadcast_to(np.eye(MOVES), (6, 4, 4)), atol=1e-4)
    stripes = np.zeros((1, 2, SIDE, SIDE), np.float32)
    stripes[0, :, :, ::2] = 1  # moved along them they look the same
    lengths = np.linalg.norm(tangents(stripes)[0], axis=1)
    assert ((abs(lengths - 1) < 1e-3) | (lengths < 1e-3)).all() and (lengths < 1e-3).any()
    assert not tangents(np.zeros((1, 2, SIDE, SIDE), np.float32)).any()
    assert tangents(np.zeros((0, 2, SIDE, SIDE), np.float32)).shape == (0, MOVES, 2 * SIDE**2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-2, 2))
def test_a_small_movement_counts_for_less_and_nothing_counts_for_more(
    seed: int, down: float, right: float, degrees: float
) -> None:
    (picture,) = pictures(seed, 1)
    turned = ndi.rotate(picture, degrees, axes=(1, 2), reshape=False, order=3, mode="nearest")
    moved = ndi.shift(turned, (0, down, right), order=3, mode="nearest").astype(np.float32)
    rows, basis = picture.reshape(1, -1), tangents(picture[None])
    plain = np.linalg.norm(rows - moved.reshape(1, -1))
    (distance,), _ = nearest(rows, basis, moved.reshape(1, -1))
    assert distance <= plain + 1e-3  # of a difference of two squares near 1, in single precision
    if plain > 0.2:
        assert distance < 0.7 * plain


@pytest.mark.parametrize("n", [1, 2, 5])
def test_itself_is_left_out_unless_there_is_no_other(n: int) -> None:
    asked = pictures(3, n)
    rows = asked.reshape(n, -1)
    distance, which = nearest(rows, tangents(asked), rows, np.arange(n))
    assert (which != np.arange(n)).all() == (n > 1)
    assert (distance > 0.1).all() == (n > 1)
