"""The image banks as printed, against a slow reference."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad.banks.cosine import CosineObjectBank, CosinePatchBank
from tmuad.banks.objects import Labelled, ObjectBank
from tmuad.banks.patch_model import PatchImage
from tmuad.banks.slots import fit_object_bank, load_object_bank, load_patch_bank
from tmuad.config import ObjectBankParams, PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.errors import ArtifactError, DataError

PATCHES = PatchBankParams(distance="cosine", clusters=1000, encoders=("clip",))
OBJECTS = ObjectBankParams(distance="cosine", clusters=1000)


def images(number: int, seed: int = 0) -> list[PatchImage]:
    rng = np.random.default_rng(seed)
    return [
        shown({"a": rng.normal(size=(4, 4, 6)).astype(np.float16), "b": rng.normal(size=(2, 2, 5)).astype(np.float16)})
        for _ in range(number)
    ]


def shown(features: PatchFeatures) -> PatchImage:
    """An image of one class, which these banks do not ask for."""
    return PatchImage(features, np.zeros((4, 4), dtype=np.str_))


def slow(query: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Eq. 4 with the minimum over the bank, one pair at a time."""
    return np.array(
        [
            min(1 - float(q @ b) / (np.linalg.norm(q) * np.linalg.norm(b)) for b in bank)
            for q in query.astype(np.float64)
        ]
    )


def test_patch_distances_are_one_less_the_largest_cosine() -> None:
    train, (query,) = images(3), images(1, seed=1)
    only = [shown({"a": i.features["a"]}) for i in train]
    distances = CosinePatchBank.fit(only, PATCHES).distances(query)
    rows = np.concatenate([i.features["a"].reshape(-1, 6) for i in only]).astype(np.float64)
    assert np.allclose(distances.ravel(), slow(query.features["a"].reshape(-1, 6), rows), atol=1e-5)


def test_layers_are_averaged_on_the_finest_grid_and_scale_does_not_matter() -> None:
    train, (query,) = images(3), images(1, seed=1)
    both = CosinePatchBank.fit(train, PATCHES)
    assert both.distances(query).shape == (4, 4)
    assert both.distances(shown({n: 7 * v for n, v in query.features.items()})) == pytest.approx(
        both.distances(query), abs=1e-3
    )
    assert both.distances(train[1]) == pytest.approx(0, abs=1e-3)


def test_k_centroids_per_layer_and_saved_bytes(tmp_path: Path) -> None:
    bank = CosinePatchBank.fit(images(5), PATCHES.model_copy(update={"clusters": 7}))
    assert {name: len(c) for name, c in bank.layers.items()} == {"a": 7, "b": 7}
    bank.save(tmp_path / "p")
    again = load_patch_bank(tmp_path / "p")
    assert isinstance(again, CosinePatchBank)
    assert np.array_equal(again.distances(images(1, 3)[0]), bank.distances(images(1, 3)[0]))
    bank.calibrate(images(2)).save(tmp_path / "q")
    assert (tmp_path / "q").read_bytes() == (tmp_path / "p").read_bytes()


def test_many_patches_are_thinned_evenly_over_the_images() -> None:
    seen: list[int] = []

    def stream() -> object:
        for i in range(200):
            seen.append(i)
            layer = np.full((4, 4, 3), 1.0, np.float16) * np.array([1, i / 200, 0], np.float16)
            yield shown({"a": layer})

    bank = CosinePatchBank.fit(stream(), PATCHES.model_copy(update={"max_patches": 100}))  # type: ignore[arg-type]
    assert len(seen) == 200 and 100 <= len(bank.layers["a"]) <= 400
    slopes = np.unique(np.round(bank.layers["a"][:, 1] / bank.layers["a"][:, 0], 3))
    assert len(slopes) == 200  # every image is there


def test_no_image_no_patch_bank() -> None:
    with pytest.raises(DataError, match="at least one normal training image"):
        CosinePatchBank.fit([], PATCHES)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 10**6))
def test_object_distances_are_one_less_the_largest_cosine(known: int, asked: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = rng.normal(size=(known, 4)).astype(np.float32), rng.normal(size=(asked, 4)).astype(np.float32)
    bank = CosineObjectBank.fit([Labelled([""] * known, rows)], OBJECTS)
    assert np.allclose(bank.distances([""] * asked, query), slow(query, rows) if asked else [], atol=1e-5)
    assert not bank.by_class


def test_objects_where_normal_images_show_none(tmp_path: Path) -> None:
    empty = np.zeros((0, 4), np.float32)
    bank = CosineObjectBank.fit([Labelled([], empty)], OBJECTS)
    assert bank.distances(["", ""], np.ones((2, 4), np.float32)).tolist() == [1, 1]
    bank.save(tmp_path / "o")
    assert isinstance(load_object_bank(tmp_path / "o"), CosineObjectBank)


def test_named_objects_are_compared_with_their_own_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(12, 5)).astype(np.float32)
    labels = ["nut", "bolt"] * 6
    calls: list[bool] = []

    def objects_of(images: list[object], by_class: bool):
        calls.append(by_class)
        yield Labelled(labels if by_class else [""] * 12, rows)

    named = fit_object_bank(objects_of, [], OBJECTS.model_copy(update={"segments": "named"}))
    assert named.by_class and calls == [True]
    query = rng.normal(size=(3, 5)).astype(np.float32)
    expected = np.concatenate([slow(query[:1], rows[::2]), slow(query[1:2], rows[1::2]), [1.0]])
    assert np.allclose(named.distances(["nut", "bolt", "screw"], query), expected, atol=1e-5)
    named.save(tmp_path / "named")
    again = load_object_bank(tmp_path / "named")
    assert again.by_class and np.array_equal(again.distances(["nut"] * 3, query), named.distances(["nut"] * 3, query))
    for segments in ("auto", "open"):
        assert not fit_object_bank(objects_of, [], OBJECTS.model_copy(update={"segments": segments})).by_class


def test_named_objects_where_there_are_none_are_the_open_segments() -> None:
    rows = np.eye(3, dtype=np.float32)

    def objects_of(images: list[object], by_class: bool):
        yield Labelled([], rows[:0]) if by_class else Labelled([""] * 3, rows)

    bank = fit_object_bank(objects_of, [], OBJECTS.model_copy(update={"segments": "named"}))
    assert not bank.by_class and bank.distances([""], rows[:1]) == pytest.approx(0, abs=1e-6)


def test_the_file_says_which_bank_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 6)).astype(np.float32)
    ObjectBank.fit([Labelled(["a"] * 20, features)], ObjectBankParams()).save(tmp_path / "whitened")
    assert isinstance(load_object_bank(tmp_path / "whitened"), ObjectBank)
    (tmp_path / "broken").write_bytes(b"no")
    for load in (load_object_bank, load_patch_bank):
        with pytest.raises(ArtifactError, match="broken"):
            load(tmp_path / "broken")
