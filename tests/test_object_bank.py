"""The object memory bank: nearest distances against a loop, leave-one-out, classes apart, there and back from disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.banks.objects import CLIP, FEWEST, Group, Labelled, ObjectBank, _nearest
from tmuad.config import ObjectBankParams
from tmuad.errors import ArtifactError

D = 7
PARAMS = ObjectBankParams(clusters=1000, dimensions=4)


def rows(seed: int, n: int, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, D)) + shift).astype(np.float32)


def images(seed: int, count: int, *classes: str) -> list[Labelled]:
    """Each image shows one object of each class; classes look different."""
    return [
        Labelled(list(classes), np.stack([rows(seed * 1000 + i, 1, 5.0 * k)[0] for k in range(len(classes))]))
        for i in range(count)
    ]


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_nearest_equals_a_loop(n: int, k: int, seed: int) -> None:
    queries, centroids = rows(seed, n), rows(seed + 1, k)
    slow = [min(float(np.linalg.norm(q.astype(np.float64) - c)) for c in centroids) for q in queries]
    np.testing.assert_allclose(_nearest(queries, centroids), slow, atol=1e-3)


def test_blocks_change_nothing_also_where_itself_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    points = rows(0, 50)
    whole = _nearest(points, points, ignore_itself=True)
    monkeypatch.setattr("tmuad.banks.objects.BLOCK", 7)
    np.testing.assert_allclose(_nearest(points, points, ignore_itself=True), whole, atol=1e-4)
    slow = [min(np.linalg.norm(p - q) for j, q in enumerate(points) if j != i) for i, p in enumerate(points)]
    np.testing.assert_allclose(whole, slow, atol=1e-3)


def test_level_and_spread_are_those_of_each_object_to_the_others() -> None:
    group = Group.fit(rows(0, 30), PARAMS)
    white = group.whiten(rows(0, 30))
    slow = np.array([min(np.linalg.norm(p - q) for j, q in enumerate(white) if j != i) for i, p in enumerate(white)])
    assert group.usual.level == pytest.approx(slow.mean(), abs=1e-3)
    assert group.usual.spread == pytest.approx(slow.std() + 0.05 * slow.mean(), abs=1e-3)
    known = group.distances(rows(0, 30))
    np.testing.assert_allclose(known, -group.usual.level / group.usual.spread, atol=0.02)  # at home: distance 0


def test_whitening_equals_the_definition() -> None:
    features = rows(3, 40) * np.float32([1, 2, 3, 4, 5, 6, 0])  # the last channel never varies
    group = Group.fit(features, PARAMS)
    white = group.whiten(features)
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3)
    variance = np.sort(np.linalg.eigvalsh(standard.T @ standard / 40))[::-1][:4]
    expected = variance / (variance + PARAMS.ridge * variance.mean() + 0.05)
    np.testing.assert_allclose(white.var(axis=0), expected, rtol=1e-2)
    far = features + np.float32(1e6)
    clipped = group.whiten(features.mean(axis=0)[None] + (CLIP + 1) / group.scale)
    np.testing.assert_allclose(group.whiten(far), np.repeat(clipped, 40, axis=0), atol=1e-3)


def test_an_odd_object_is_far_and_a_normal_one_near() -> None:
    bank = ObjectBank.fit(images(0, 40, "nut", "bolt"), PARAMS).calibrate(images(1, 20, "nut", "bolt"))
    normal = bank.distances(["nut", "bolt"], np.stack([rows(9, 1)[0], rows(8, 1, 5.0)[0]]))
    odd = bank.distances(["nut", "bolt"], np.stack([rows(9, 1, 4.0)[0], rows(8, 1, -3.0)[0]]))
    assert (abs(normal) < 4).all() and (odd > 4).all()


def test_objects_are_compared_with_their_own_class() -> None:
    bank = ObjectBank.fit(images(0, 40, "nut", "bolt"), ObjectBankParams(dimensions=D))
    bolt = rows(8, 1, 5.0)
    assert bank.distances(["bolt"], bolt)[0] < 4 < bank.distances(["nut"], bolt)[0]


def test_a_class_the_bank_does_not_know_is_no_news() -> None:
    bank = ObjectBank.fit(images(0, 40, "nut"), PARAMS)
    np.testing.assert_array_equal(bank.distances(["gear", "gear"], rows(0, 2, 9.0)), [0, 0])
    assert bank.distances([], np.zeros((0, D), np.float32)).shape == (0,)


@pytest.mark.parametrize(("count", "known"), [(FEWEST - 1, []), (FEWEST, ["nut"])])
def test_a_class_of_too_few_objects_has_no_group(count: int, known: list[str]) -> None:
    assert list(ObjectBank.fit(images(0, count, "nut"), PARAMS).groups) == known


def test_no_object_at_all_is_an_empty_bank_that_survives_its_file(tmp_path: Path) -> None:
    bank = ObjectBank.fit([Labelled([], np.zeros((0, D), np.float32))] * 3, PARAMS)
    assert bank.groups == {}
    bank.save(tmp_path / "object_bank.safetensors")
    assert ObjectBank.load(tmp_path / "object_bank.safetensors").groups == {}


def test_regions_without_a_class_are_one_group() -> None:
    regions = ObjectBank.fit([Labelled([""] * 3, rows(i, 3)) for i in range(10)], PARAMS)
    assert list(regions.groups) == [""] and not regions.by_class
    assert ObjectBank.fit(images(0, 10, "nut"), PARAMS).by_class


def test_more_objects_than_clusters_become_k_centroids_the_same_each_time() -> None:
    many, few = images(0, 60, "nut"), ObjectBankParams(clusters=5, dimensions=4)
    bank, again = ObjectBank.fit(many, few), ObjectBank.fit(many, few)
    centroids = bank.groups["nut"].centroids
    assert centroids.shape == (5, 4)
    assert centroids.tobytes() == again.groups["nut"].centroids.tobytes()
    own = bank.groups["nut"].distances(np.stack([f[0] for _, f, _ in many]))
    assert abs(own.mean()) < 0.1  # none is ignored here: a centroid is no object


@settings(max_examples=10)
@given(st.permutations(range(12)))
def test_the_order_of_images_changes_little(order: list[int]) -> None:
    given_images = images(0, 12, "nut", "bolt")
    one, other = ObjectBank.fit(given_images, PARAMS), ObjectBank.fit([given_images[i] for i in order], PARAMS)
    queries = rows(5, 6)
    labels = ["nut", "bolt"] * 3
    np.testing.assert_allclose(one.distances(labels, queries), other.distances(labels, queries), rtol=1e-2, atol=1e-2)


def test_calibration_takes_what_held_out_images_show_and_leaves_other_classes() -> None:
    bank = ObjectBank.fit(images(0, 40, "nut", "bolt"), PARAMS)
    calibrated = bank.calibrate(images(1, 20, "nut"))
    held_out = np.stack([f[0] for _, f, _ in images(1, 20, "nut")])
    assert calibrated.groups["nut"].distances(held_out).mean() == pytest.approx(0, abs=1e-3)
    assert calibrated.groups["bolt"] is bank.groups["bolt"]
    assert bank.calibrate([]).groups == bank.groups


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_equal_objects_do_not_divide_by_zero(constant: float) -> None:
    same = np.full((FEWEST, D), constant, dtype=np.float32)
    group = Group.fit(same, PARAMS)
    assert np.isfinite(group.distances(same)).all() and np.isfinite(group.distances(same + 1)).all()


@pytest.mark.parametrize("name", ["nut", "a/b", "винт M4", ""])
def test_a_bank_survives_its_file_bit_by_bit(tmp_path: Path, name: str) -> None:
    bank = ObjectBank.fit(images(0, 20, name, "bolt"), PARAMS).calibrate(images(1, 10, name, "bolt"))
    bank.save(tmp_path / "one")
    loaded = ObjectBank.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    queries = rows(4, 4)
    labels = [name, "bolt"] * 2
    np.testing.assert_allclose(loaded.distances(labels, queries), bank.distances(labels, queries), rtol=1e-5)


def test_a_bank_cut_short_or_of_another_kind_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"nut/mean": np.zeros(D, np.float32)}, tmp_path / "part")
    with pytest.raises(ArtifactError, match=r"part: no 'nut/scale' in this bank"):
        ObjectBank.load(tmp_path / "part")
    ObjectBank.fit(images(0, 20, "nut"), PARAMS).save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"cut.*feature_banks"):
        ObjectBank.load(tmp_path / "cut")
