"""Portraits against a pixel-wise definition, what they do not depend on, and the bank of them."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad import masks
from tmuad.banks.objects import Labelled, ObjectBank
from tmuad.banks.portraits import BLUR, PLACE, SHARED, USUAL, KnownPortraits
from tmuad.banks.usual import STEADY
from tmuad.config import ObjectBankParams
from tmuad.encode.portraits import LENGTH, LIGHT, PLANES, RIM, SIDE, middles, portraits

SIZE = 200
PARAMS = ObjectBankParams(clusters=1000, dimensions=4)


def scene(
    angle: float = 0.0, centre: tuple[float, float] = (100.0, 100.0), scale: float = 1.0, seed: int = 0
) -> tuple[list[NDArray[np.float32]], masks.Mask]:
    """A patterned bar of 80 x 40 px: its Lab planes, and its mask. `angle` in degrees."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    turn = np.deg2rad(angle)
    along = ((y - centre[0]) * np.cos(turn) + (x - centre[1]) * np.sin(turn)) / scale
    across = (-(y - centre[0]) * np.sin(turn) + (x - centre[1]) * np.cos(turn)) / scale
    mask = (abs(along) < 40) & (abs(across) < 20)
    waves = np.random.default_rng(seed).uniform(0.03, 0.12, (3, 2))
    planes = [50 + 20 * np.sin(along * u + 1) * np.cos(across * v + 2) for u, v in waves]
    return [np.where(mask, plane, 10).astype(np.float32) for plane in planes], mask


def portrait(planes: list[NDArray[np.float32]], mask: masks.Mask) -> NDArray[np.float32]:
    return portraits(planes, [masks.encode(mask)])[0]


def slow(planes: list[NDArray[np.float32]], mask: masks.Mask) -> NDArray[np.float64]:
    """By the definition: principal axes of the pixels, means over the cells of a grid along them, point by point."""
    points = np.argwhere(mask).astype(np.float64)
    centre = points.mean(axis=0)
    variances, axes = np.linalg.eigh((points - centre).T @ (points - centre) / len(points) + np.eye(2) / 12)
    long, half = axes[:, 1], np.sqrt(3 * variances)[::-1]
    if not -60 < np.rad2deg(np.arctan2(long[0], long[1])) <= 120:
        long = -long
    across = np.array([long[1], -long[0]])
    dense = 8  # points per cell and axis: many more than needed
    ticks = (2 * np.arange(dense * SIDE) + 1) / (dense * SIDE) - 1
    places = np.array([[centre + u * long + v * across for v in half[1] * ticks] for u in half[0] * ticks])
    values = []
    for plane in planes:
        seen = ndi.map_coordinates(plane.astype(np.float64), np.moveaxis(places, -1, 0), order=1, mode="nearest")
        cells = seen.reshape(SIDE, dense, SIDE, dense).mean(axis=(1, 3))
        cells = cells - ndi.gaussian_filter(cells, LIGHT * SIDE, mode="reflect")
        values.append((cells - cells.mean()).ravel())
    flat = np.concatenate(values)
    return flat / np.linalg.norm(flat)


@pytest.mark.parametrize("angle", [0.0, 25.0, -40.0, 90.0, 130.0])
@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_a_portrait_equals_its_definition(angle: float, scale: float) -> None:
    planes, mask = scene(angle, scale=scale)
    soft = [ndi.gaussian_filter(plane, 2.0) for plane in planes]  # of a hard edge, few points tell less than many
    np.testing.assert_allclose(portrait(soft, mask), slow(soft, mask), atol=3e-3)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-25, 60), st.floats(90, 110), st.floats(90, 110), st.floats(0.8, 1.1), st.floats(0.5, 2), st.floats(-9, 9)
)
def test_turned_moved_larger_and_in_other_light_it_looks_the_same(
    angle: float, y: float, x: float, scale: float, gain: float, offset: float
) -> None:
    upright = portrait(*scene())
    planes, mask = scene(angle, (y, x), scale)
    assert portrait([gain * plane + offset for plane in planes], mask) @ upright > 0.95
    assert portrait(*scene(angle, (y, x), scale, seed=1)) @ upright < 0.8  # another pattern


def test_upright_and_level_parts_do_not_flip() -> None:
    for around in (0.0, 90.0):
        left, right = (portrait(*scene(around + tilt)) for tilt in (-2.0, 2.0))
        assert left @ right > 0.97


def test_of_many_segments_each_has_the_portrait_it_has_alone() -> None:
    planes, mask = scene()
    small = np.zeros_like(mask)
    small[90:94, 90:97] = True
    many = [masks.encode(m) for m in (small, mask, np.zeros_like(mask), small | mask)]
    together = portraits(planes, many)
    for row, runs in zip(together, many, strict=True):
        np.testing.assert_array_equal(row, portraits(planes, [runs])[0])
    assert not together[2].any()
    np.testing.assert_allclose(np.linalg.norm(together[[0, 1, 3]], axis=1), 1, atol=1e-5)
    assert portraits(planes, []).shape == (0, LENGTH)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_images_and_one_colour_give_finite_portraits(side: int) -> None:
    mask = np.ones((side, side), np.bool_)
    for value in (np.zeros((side, side)), np.random.default_rng(0).normal(size=(side, side))):
        assert np.isfinite(portrait([value.astype(np.float32)] * 3, mask)).all()
    assert not portrait([np.full((side, side), 7, np.float32)] * 3, mask).any()


# ---- the bank


def unit(seed: int, n: int, noise: float = 0.3, patterns: int = 5) -> NDArray[np.float32]:
    """Portraits of parts that come in so many patterns."""
    known = np.random.default_rng(99).normal(size=(patterns, LENGTH))
    rng = np.random.default_rng(seed)
    rows = known[rng.integers(0, patterns, n)] + noise * rng.normal(size=(n, LENGTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cells(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    side = round((rows.shape[1] / PLANES) ** 0.5)
    return rows.astype(np.float64).reshape(len(rows), PLANES, side, side)


def moved(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """(L, 4): what the small movements of a picture (PLANES, s, s) change, by the definition."""
    side = picture.shape[1]
    place = (2 * np.arange(side) + 1) / side - 1
    u, v = np.meshgrid(place, place, indexing="ij")
    along, across = np.gradient(picture, axis=(1, 2))
    return np.stack([m.ravel() for m in (along, across, along * v - across * u, along * u + across * v)], axis=1)


def unexplained(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of two pictures, less what the movements of the first explain of it."""
    moves, difference = moved(one), (one - other).ravel()
    return (difference - moves @ np.linalg.lstsq(moves, difference, rcond=None)[0]).reshape(one.shape)


def test_both_witnesses_are_those_of_the_definition() -> None:
    rows, asked = unit(0, 20).astype(np.float16).astype(np.float64), unit(1, 6).astype(np.float64)
    whole, inner = cells(rows), cells(middles(rows.astype(np.float32)))

    def compared(pictures: NDArray[np.float64], alone: bool) -> tuple[list[float], NDArray[np.float64]]:
        distances, squares = [], []
        for i, (picture, middle) in enumerate(
            zip(cells(pictures), cells(middles(pictures.astype(np.float32))), strict=True)
        ):
            others = [j for j in range(len(rows)) if not (alone and i == j)]
            far = [np.linalg.norm(unexplained(middle, inner[j])) for j in others]
            distances.append(min(far))
            squares.append((unexplained(picture, whole[others[int(np.argmin(far))]]) ** 2).sum(axis=0))
        return distances, np.array(squares)

    own, squares = compared(rows, alone=True)
    usual = ndi.gaussian_filter(np.quantile(squares, USUAL, axis=0), BLUR)
    usual += SHARED * usual.mean()

    def worst(squares: NDArray[np.float64]) -> list[float]:
        return [np.sqrt(ndi.gaussian_filter(s / usual, PLACE, mode="constant").max()) for s in squares]

    known = KnownPortraits.fit(unit(0, 20), PARAMS)
    expected = np.zeros(6)
    distances, differences = compared(asked, alone=False)
    for found, normal, values in ((known.middle, own, distances), (known.worst, worst(squares), worst(differences))):
        assert found.level == pytest.approx(np.mean(normal), rel=1e-3)
        assert found.spread == pytest.approx(np.std(normal) + STEADY * np.mean(normal), rel=1e-2)
        expected += (np.array(values) - np.mean(normal)) / (np.std(normal) + STEADY * np.mean(normal)) / 2
    np.testing.assert_allclose(known.distances(asked.astype(np.float32)), expected, atol=0.05)


def test_middles_are_portraits_without_their_rims() -> None:
    rows = unit(0, 3)
    inner = cells(rows)[:, :, RIM:-RIM, RIM:-RIM]
    inner = inner - inner.mean(axis=(2, 3), keepdims=True)
    inner = inner.reshape(3, -1)
    np.testing.assert_allclose(middles(rows), inner / np.linalg.norm(inner, axis=1, keepdims=True), atol=1e-6)
    assert not middles(np.zeros((1, LENGTH), np.float32)).any()


def test_a_pattern_never_seen_is_far_and_a_known_one_near() -> None:
    known = KnownPortraits.fit(unit(0, 60), PARAMS)
    assert abs(known.distances(unit(1, 20))).max() < 4
    strange = unit(2, 5, noise=50.0)
    assert known.distances(strange).min() > 4
    fewer = KnownPortraits.fit(unit(0, 60), ObjectBankParams(clusters=5))
    assert fewer.distances(strange).min() > fewer.distances(unit(1, 20)).max()


def test_a_small_fault_is_the_worst_place_wherever_it_lies() -> None:
    known, good = KnownPortraits.fit(unit(0, 60), PARAMS), unit(3, 1)
    for y, x in ((2, 2), (12, 12), (20, 5)):
        faulty = cells(good).copy()
        faulty[0, 0, y - 1 : y + 2, x - 1 : x + 2] += 0.1
        assert known.distances(faulty.reshape(1, -1).astype(np.float32)) > known.distances(good) + 2


def test_normal_objects_alone_or_none_are_no_error() -> None:
    one = KnownPortraits.fit(unit(0, 1), PARAMS)
    assert np.isfinite(one.distances(unit(1, 3))).all()
    assert one.distances(np.zeros((0, LENGTH), np.float32)).shape == (0,)
    assert np.isfinite(one.distances(np.zeros((2, LENGTH), np.float32))).all()  # objects of a single colour


def labelled(seed: int, n: int, with_portraits: bool = True) -> Labelled:
    features = np.random.default_rng(seed).normal(size=(n, 7)).astype(np.float32)
    return Labelled(["nut"] * n, features, unit(seed, n) if with_portraits else None)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_an_object_s_distance_is_the_weighted_mean_of_both(weight: float) -> None:
    images = [labelled(i, 3) for i in range(20)]
    params = PARAMS.model_copy(update={"portrait_weight": weight})
    bank = ObjectBank.fit(images, params).calibrate([labelled(i, 3) for i in range(100, 105)])
    asked = labelled(50, 6)
    plain = bank.distances(asked.labels, asked.features)
    np.testing.assert_array_equal(plain, bank.groups["nut"].distances(asked.features))
    assert bool(bank.portraits) == (weight > 0)
    own = bank.portraits["nut"].distances(asked.portraits) if weight else np.zeros(6, np.float32)
    np.testing.assert_allclose(bank.distances(*asked), (1 - weight) * plain + weight * own, rtol=1e-4, atol=1e-4)


def test_objects_without_portraits_are_compared_as_before() -> None:
    bank = ObjectBank.fit([labelled(i, 3, with_portraits=False) for i in range(20)], PARAMS)
    assert bank.portraits == {} and np.isfinite(bank.distances(*labelled(50, 6))).all()
    assert ObjectBank.fit([Labelled([], np.zeros((0, 7), np.float32))], PARAMS).groups == {}


@pytest.mark.parametrize("index", ["flat", "pq", "ivfpq"])
def test_a_bank_with_portraits_survives_its_file_bit_by_bit(tmp_path: Path, index: str) -> None:
    images = [labelled(i, 3) for i in range(20)]
    bank = ObjectBank.fit(images, PARAMS.model_copy(update={"index": index})).calibrate(images[:5])
    bank.save(tmp_path / "one")
    loaded = ObjectBank.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    np.testing.assert_array_equal(loaded.distances(*labelled(50, 6)), bank.distances(*labelled(50, 6)))
