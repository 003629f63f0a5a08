"""Compressed banks: close to the exact ones, the same each time, there and back from disk; a fit's bounded memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tmuad.banks.bounded import Bounded
from tmuad.banks.centroids import nearest
from tmuad.banks.cosine import CosineObjectBank, CosinePatchBank
from tmuad.banks.index import FEWEST, Index, compressed
from tmuad.banks.objects import Labelled, ObjectBank
from tmuad.banks.patch_model import PatchImage
from tmuad.banks.patches import PatchBank
from tmuad.config import ObjectBankParams, PatchBankParams
from tmuad.errors import ArtifactError

KINDS = ["pq", "ivfpq"]


def unit(seed: int, n: int, d: int = 25) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(2, 0.2, d)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_close_and_bytes_few_and_the_same(kind: str) -> None:
    centroids, queries = unit(0, 4000), unit(1, 500)
    index = Index.fit(centroids, kind)
    exact, _ = nearest(queries, centroids)
    estimate, number = nearest(queries, index)
    assert np.corrcoef(exact, estimate)[0, 1] > 0.8
    found = 1 - (queries * centroids[number]).sum(axis=1)  # of the centroid that it took for the nearest
    assert (found >= exact - 1e-5).all() and (found - exact).mean() < 0.5 * exact.mean()
    assert len(index) == 4000 and len(index.blob) < centroids.nbytes / 3
    again = Index.fit(centroids, kind)
    assert again.blob.tobytes() == index.blob.tobytes()
    np.testing.assert_array_equal(nearest(queries, pickle.loads(pickle.dumps(index)))[0], estimate)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, FEWEST - 1, FEWEST, 40])
def test_few_centroids_stay_as_they_are(kind: str, k: int) -> None:
    centroids = unit(0, k)
    assert isinstance(compressed(centroids, kind), Index) == (k >= FEWEST)
    distance, number = nearest(centroids, compressed(centroids, kind))
    assert np.isfinite(distance).all() and (number >= 0).all() and (number < k).all()


@pytest.mark.parametrize("kind", KINDS)
def test_patch_banks_survive_their_files(kind: str, tmp_path: Path) -> None:
    def images(seed: int) -> list[PatchImage]:
        rng = np.random.default_rng(seed)
        return [
            PatchImage({"detail": rng.normal(size=(8, 8, 12)).astype(np.float16)}, np.full((8, 8), "", "<U1"))
            for _ in range(6)
        ]

    params = PatchBankParams.model_validate({"clusters": 64, "dimensions": 8, "index": kind})
    flat = PatchBank.fit(images(0), PatchBankParams(clusters=64, dimensions=8))
    for bank, load in (
        (PatchBank.fit(images(0), params), PatchBank.load),
        (CosinePatchBank.fit(images(0), params), CosinePatchBank.load),
    ):
        bank.save(tmp_path / "one")
        loaded = load(tmp_path / "one")
        loaded.save(tmp_path / "two")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        (image,) = images(1)[:1]
        np.testing.assert_array_equal(loaded.distances(image), bank.distances(image))
        if isinstance(bank, PatchBank):
            assert np.corrcoef(bank.distances(image).ravel(), flat.distances(image).ravel())[0, 1] > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_object_banks_survive_their_files(kind: str, tmp_path: Path) -> None:
    params = ObjectBankParams.model_validate({"clusters": 200, "dimensions": 8, "index": kind})
    images = [Labelled(["nut"] * 10, unit(i, 10, 12)) for i in range(30)]
    bank, flat = ObjectBank.fit(images, params), ObjectBank.fit(images, ObjectBankParams(clusters=200, dimensions=8))
    bank = bank.calibrate([Labelled(["nut"] * 10, unit(99, 10, 12))])
    bank.save(tmp_path / "one")
    query = (["nut"] * 40, unit(7, 40, 12))
    np.testing.assert_array_equal(ObjectBank.load(tmp_path / "one").distances(*query), bank.distances(*query))
    assert np.corrcoef(bank.distances(*query), flat.distances(*query))[0, 1] > 0.7
    cosine = CosineObjectBank.fit(images, params)
    cosine.save(tmp_path / "two")
    np.testing.assert_array_equal(CosineObjectBank.load(tmp_path / "two").distances(*query), cosine.distances(*query))


def test_a_broken_index_is_named() -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Index(np.arange(40, dtype=np.uint8)).squared(unit(0, 1))


# ---- bounded memory


def objects(count: int, per_image: int = 40, d: int = 100):
    for i in range(count):
        rows = np.random.default_rng(i).normal(size=(per_image, d)).astype(np.float32)
        yield ["many"] * (per_image - 1) + ["rare"], rows


def test_few_rows_are_all_kept_in_their_order() -> None:
    held = Bounded(16).fill(objects(20))
    np.testing.assert_array_equal(held["many"], np.concatenate([rows[:-1] for _, rows in objects(20)]))
    np.testing.assert_array_equal(held["rare"], np.stack([rows[-1] for _, rows in objects(20)]))


@pytest.mark.parametrize("count", [200, 400, 1600])
def test_rows_held_do_not_grow_with_the_images_and_a_rare_class_is_kept(count: int) -> None:
    held = Bounded(1).fill(objects(count))
    total = sum(rows.nbytes for rows in held.values())
    assert 2**20 / 3 < total <= 2**20
    assert len(held["rare"]) == count if count <= 400 else len(held["rare"]) > 300
    assert abs(held["many"].mean()) < 0.02 and abs(held["many"].std() - 1) < 0.02


def test_the_sample_does_not_depend_on_the_order_of_images() -> None:
    images = list(objects(300))
    one, other = Bounded(1).fill(images), Bounded(1).fill(images[::-1])
    assert {row.tobytes() for row in one["many"]} == {row.tobytes() for row in other["many"]}


def test_equal_rows_beyond_the_limit_end_in_one() -> None:
    same = np.zeros((6000, 100), np.float32)
    assert len(Bounded(1).fill([(["same"] * 6000, same)])["same"]) >= 1
