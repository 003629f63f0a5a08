"""The detector: its gradient against finite differences, determinism, and that it learns what it can."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.detector import (
    BATCH,
    CLIP,
    HIDDEN,
    NETS,
    NOISE,
    STRETCH,
    Detector,
    _forward,
    _gradient,
    _principal_axes,
)

D = 6


def rows(seed: int, n: int, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, D)) + shift).astype(np.float32)


def net(seed: int) -> tuple[NDArray[np.float64], ...]:
    """In float64, so that finite differences are exact enough."""
    rng = np.random.default_rng(seed)
    sizes = (D, *HIDDEN, 1)
    arrays = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        arrays += [rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)), rng.normal(0, 0.1, fan_out)]
    return tuple(arrays)


def loss(arrays: tuple[NDArray[np.float64], ...], x: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Mean binary cross-entropy, with the layers written out."""
    hidden = np.maximum(x @ arrays[0] + arrays[1], 0)
    hidden = np.maximum(hidden @ arrays[2] + arrays[3], 0)
    logits = hidden @ arrays[4] + arrays[5]
    return float(np.mean(np.logaddexp(0, logits) - target * logits))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gradient_equals_finite_differences(seed: int) -> None:
    rng, arrays = np.random.default_rng(seed + 10), net(seed)
    x, target = rng.normal(size=(20, D)), rng.integers(0, 2, (20, 1)).astype(np.float64)
    step = 1e-6
    for array, gradient in zip(arrays, _gradient(arrays, x, target), strict=True):  # type: ignore[arg-type]
        assert gradient.shape == array.shape
        for place in rng.integers(0, array.size, 12):
            at = np.unravel_index(place, array.shape)
            kept = array[at]
            array[at] = kept + step
            above = loss(arrays, x, target)
            array[at] = kept - step
            below = loss(arrays, x, target)
            array[at] = kept
            assert gradient[at] == pytest.approx((above - below) / (2 * step), abs=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    defects, normals = rows(0, 300, 1.0), rows(1, 900)
    first, second, other = (Detector.fit(defects, normals, seed) for seed in (3, 3, 4))
    assert len(first.nets) == NETS
    for one, two in zip(first.nets, second.nets, strict=True):
        assert all(a.tobytes() == b.tobytes() and a.dtype == np.float32 for a, b in zip(one, two, strict=True))
    assert (first(normals) != other(normals)).any()


def test_nets_start_from_seeds_of_their_own() -> None:
    nets = Detector.fit(rows(0, 200, 1.0), rows(1, 200), seed=0).nets
    assert (nets[0][0] != nets[1][0]).any()


def test_it_tells_defects_that_only_a_curve_divides() -> None:
    """Defects lie around the normal patches: no single direction tells them."""
    normals = 0.5 * rows(0, 4000)
    defects = rows(1, 4000)
    defects *= 3 / np.linalg.norm(defects, axis=1, keepdims=True)
    detector = Detector.fit(defects[:3000], normals[:3000], seed=0)
    good, bad = detector(normals[3000:]), detector(defects[3000:])
    assert np.mean(good[:, None] < bad[None]) > 0.9  # a straight cut gets 0.5


def test_it_has_no_opinion_where_there_is_nothing_to_tell() -> None:
    same = rows(0, 3000)
    assert abs(Detector.fit(same, same, seed=0)(rows(5, 1000))).mean() < 1.0


@settings(max_examples=3)
@given(st.floats(-3, 3), st.floats(0.01, 100))
def test_shift_and_scale_of_a_channel_count_for_little(shift: float, scale: float) -> None:
    defects, normals = rows(0, 400, 1.5), rows(1, 400)
    plain = Detector.fit(defects, normals, seed=0)
    moved = Detector.fit(defects + np.float32(shift), normals + np.float32(shift), seed=0)
    np.testing.assert_allclose(plain(rows(2, 50)), moved(rows(2, 50) + np.float32(shift)), atol=0.05)
    assert np.isfinite(Detector.fit(defects * np.float32(scale), normals * np.float32(scale), seed=0)(normals)).all()


@pytest.mark.parametrize(("defects", "normals"), [(1, 1), (1, 500), (500, 1)])
def test_one_patch_of_a_kind_is_enough_to_run(defects: int, normals: int) -> None:
    assert np.isfinite(Detector.fit(rows(0, defects, 2.0), rows(1, normals), seed=0)(rows(2, 9))).all()


def test_channels_that_never_vary_and_values_far_off_do_no_harm() -> None:
    normals = rows(0, 500)
    normals[:, 2] = 7
    detector = Detector.fit(rows(1, 500, 1.0), normals, seed=0)
    far = np.full((1, D), 1e30, dtype=np.float32)
    clipped = detector.mean + CLIP / detector.scale * 1.01
    np.testing.assert_allclose(detector(far), detector(clipped[None]), atol=1e-4)


def test_blocks_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, x = Detector.fit(rows(0, 100, 1.0), rows(1, 100), seed=0), rows(2, 50)
    whole = detector(x)
    order = np.random.default_rng(0).permutation(50)
    monkeypatch.setattr("tmuad.banks.detector.BLOCK", 7)
    np.testing.assert_allclose(detector(x), whole, atol=1e-5)
    np.testing.assert_allclose(detector(x[order]), whole[order], atol=1e-5)
    assert detector(x[:0]).shape == (0,)


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(0, 9))
def test_axes_are_the_principal_ones_stretched(width: int, seed: int) -> None:
    """Against a singular value decomposition: projections have no covariance, and the variances that stretching leaves."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(300, width)) @ rng.normal(size=(width, width))).astype(np.float32)
    axes = _principal_axes(x)
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False).astype(np.float64) ** 2 / len(x)
    spread = np.atleast_2d(np.cov((x @ axes).astype(np.float64).T, bias=True))
    np.testing.assert_allclose(spread, np.diag(values / (values + NOISE) ** STRETCH), atol=2e-3 * max(1.0, values[0]))


def test_axes_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tmuad.banks.detector.AXES", 2)
    detector = Detector.fit(rows(0, 100, 1.0), rows(1, 100), seed=0)
    assert detector.axes.shape == (D, 2) and detector.nets[0][0].shape == (2, HIDDEN[0])
    assert np.isfinite(detector(rows(2, 5))).all()


def test_the_log_odds_are_the_mean_over_the_nets() -> None:
    detector, x = Detector.fit(rows(0, 100, 1.0), rows(1, 100), seed=0), rows(2, 5)
    standard = np.clip((x - detector.mean) * detector.scale, -CLIP, CLIP)
    slow = np.mean([_forward(arrays, standard @ detector.axes)[-1][:, 0] for arrays in detector.nets], axis=0)
    np.testing.assert_allclose(detector(x), slow, atol=1e-6)
    assert BATCH % 2 == 0  # half defects, half normal patches
