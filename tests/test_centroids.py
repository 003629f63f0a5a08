"""What the image banks share: whitening, K-means, nearest centroids, calibration; beside slow references."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.centroids import Whitening, kmeans, load_tensors, nearest, take
from tmuad.errors import ArtifactError


def rows(seed: int, n: int, d: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(seed: int, n: int, d: int) -> NDArray[np.float32]:
    values = rows(seed, n, d)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(2, 9), st.integers(0, 99))
def test_nearest_equals_a_loop_over_cosines(n: int, k: int, d: int, seed: int) -> None:
    queries, centroids = unit(seed, n, d), unit(seed + 1, k, d)
    distance, index = nearest(queries, centroids)
    for query, value, best in zip(queries, distance, index, strict=True):
        slow = [1 - float(np.dot(query.astype(np.float64), c)) for c in centroids]
        assert value == pytest.approx(max(0.0, min(slow)), abs=1e-5)
        assert slow[best] == pytest.approx(min(slow), abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nearest(unit(0, 100, 5), unit(1, 7, 5))
    monkeypatch.setattr("tmuad.banks.centroids.BLOCK", 9)
    blocks = nearest(unit(0, 100, 5), unit(1, 7, 5))
    np.testing.assert_allclose(whole[0], blocks[0], atol=1e-6)
    np.testing.assert_array_equal(whole[1], blocks[1])


def test_no_rows_have_no_distances() -> None:
    distance, index = nearest(np.zeros((0, 4), np.float32), unit(1, 3, 4))
    assert distance.shape == index.shape == (0,)


def test_whitened_rows_are_unit_vectors_with_even_axes() -> None:
    features = rows(0, 500, 6) * np.float32([1, 10, 100, 1, 1, 1]) + 5
    features[:, 4] = features[:, 0] + 0.1 * features[:, 3]
    whiten = Whitening.fit(features, 4, 1.0)
    lifted = whiten(features)
    assert lifted.shape == (500, 5) and lifted.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=1), 1, atol=1e-5)
    flat = (features - whiten.mean) @ whiten.axes
    covariance = np.cov(flat.T)
    np.testing.assert_allclose(covariance, np.eye(4) * covariance[0, 0], atol=0.02 * covariance[0, 0])
    assert np.mean(np.sum(flat**2, axis=1)) == pytest.approx(1, abs=1e-3)


def test_whitening_counts_units_of_a_channel_for_nothing() -> None:
    features = rows(1, 300, 5)
    scaled = features * np.float32([1, 5, 1, 0.5, 1])
    one, other = (Whitening.fit(x, 5, 0.5)(x) @ Whitening.fit(x, 5, 0.5)(x).T for x in (features, scaled))
    np.testing.assert_allclose(one, other, atol=0.1)


def test_distance_grows_with_the_distance_from_the_mean() -> None:
    """Plain cosine would not see it: all lie in one direction."""
    features = rows(2, 400, 4)
    whiten = Whitening.fit(features, 4, 0.5)
    direction = np.float32([[1, 2, -1, 0.5]])
    away = np.concatenate([whiten(features.mean(axis=0) + step * direction) for step in (0, 1, 2, 4, 8)])
    assert (np.diff(1 - away @ away[0]) > 0).all()


@pytest.mark.parametrize("features", [np.ones((20, 4), np.float32), np.zeros((1, 4), np.float32), rows(3, 1, 4)])
def test_features_without_variety_do_not_explode(features: NDArray[np.float32]) -> None:
    whiten = Whitening.fit(features, 3, 1.0)
    assert np.isfinite(whiten(features)).all()
    assert np.isfinite(whiten(features + 1)).all()


def test_more_dimensions_than_channels_are_all_of_them() -> None:
    assert Whitening.fit(rows(0, 50, 3), 10, 0.5)(rows(1, 2, 3)).shape == (2, 4)


def test_fewer_rows_than_clusters_are_the_centroids_themselves() -> None:
    few = unit(0, 5, 3)
    np.testing.assert_array_equal(kmeans(few, 10, seed=0), few)
    np.testing.assert_array_equal(kmeans(few, 5, seed=0), few)


def test_kmeans_is_deterministic_on_the_sphere_and_finds_clusters() -> None:
    centres = np.eye(4, dtype=np.float32)
    noisy = np.concatenate([c + 0.05 * rows(i, 50, 4) for i, c in enumerate(centres)])
    points = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    found = kmeans(points, 4, seed=0)
    np.testing.assert_array_equal(found, kmeans(points, 4, seed=0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    assert (nearest(centres, found)[0] < 0.02).all()


def test_a_missing_array_is_named_with_its_file() -> None:
    assert take({"a": np.ones(2)}, "a", "bank").dtype == np.float32
    with pytest.raises(ArtifactError, match=r"x/bank: no 'centroids' in this bank"):
        take({"a": np.ones(2)}, "centroids", "x/bank")


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0{}", b"no safetensors at all"])
def test_a_file_that_is_no_bank_names_the_stage(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "patch_bank.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"patch_bank.*feature_banks"):
        load_tensors(path)
