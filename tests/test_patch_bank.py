"""The patch memory bank: distances against a slow reference, order of images, and there and back from disk."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi

from tmuad.banks.centroids import FLOOR
from tmuad.banks.context import BACKGROUND
from tmuad.banks.patch_model import DETAIL, DISTANCE_SIGMA, Defects, PatchImage, _sample
from tmuad.banks.patches import Extremes, MapsOf, PatchBank, Scale
from tmuad.config import PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.errors import ArtifactError, DataError

PARAMS = PatchBankParams(clusters=6, dimensions=4, max_patches=5000)
SIDE = 16


def features(seed: int, side: int = SIDE) -> PatchFeatures:
    """Two layers with structure that repeats from image to image, and noise."""
    rng, rows = np.random.default_rng(seed), np.mgrid[:side, :side][0][..., None]
    detail = np.sin(rows / 3 + np.arange(5)) + 0.2 * rng.normal(size=(side, side, 5))
    surface = np.cos(rows[: side // 2, : side // 2] / 2 + np.arange(3)) + 0.2 * rng.normal(
        size=(side // 2, side // 2, 3)
    )
    return {DETAIL: detail.astype(np.float16), "surface": surface.astype(np.float16)}


def photo(seed: int, side: int = SIDE) -> PatchImage:
    """Its features, and a nut in the upper left corner."""
    grid = np.full((side, side), BACKGROUND, dtype="<U3")
    grid[: side // 2, : side // 2] = "nut"
    return PatchImage(features(seed, side), grid)


def spoilt(image: PatchImage, y: int = 11, x: int = 4) -> PatchImage:
    detail, surface = (image.features[name].copy() for name in (DETAIL, "surface"))
    detail[y : y + 2, x : x + 2] += 4
    surface[y // 2, x // 2] += 2
    return PatchImage({DETAIL: detail, "surface": surface}, image.classes)


def defects(seed: int, n: int = 40, side: int = SIDE) -> Defects:
    """Patches as `encode_defects` gives them: features and their difference to the surround, and their places."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(0, 1, (n, 5)) + 3, rng.normal(3, 0.5, (n, 5))], axis=1).astype(np.float16)
    return Defects(rows, np.sort(rng.permutation(side * side)[:n]))


def no_defects() -> Defects:
    return Defects(np.zeros((0, 10), np.float16), np.zeros(0, np.int32))


@pytest.fixture(scope="module")
def bank() -> PatchBank:
    fitted = PatchBank.fit([photo(i) for i in range(8)], PARAMS, [defects(i) for i in range(8)])
    return fitted.calibrate([said(fitted, photo(i)) for i in range(20, 24)])


def said(bank: PatchBank, image: PatchImage) -> MapsOf:
    return bank.model(image), image.classes


def test_log_distances_equal_a_loop_over_patches(bank: PatchBank) -> None:
    layer, image = bank.model.layers["surface"], features(50)["surface"]
    slow = np.empty(image.shape[:2])
    for y, x in np.ndindex(*slow.shape):
        whitened = (image[y, x].astype(np.float32) - layer.whitening.mean) @ layer.whitening.axes
        lifted = np.append(whitened, 1) / np.linalg.norm(np.append(whitened, 1))
        slow[y, x] = np.log(max(0.0, min(1 - float(lifted @ c) for c in layer.centroids)) + FLOOR)
    slow = ndi.gaussian_filter(slow, DISTANCE_SIGMA * len(slow), mode="nearest")
    np.testing.assert_allclose(layer.log_distance(image), slow, atol=0.02)


def test_centroids_are_unit_vectors_and_as_many_as_asked_for(bank: PatchBank) -> None:
    for layer in bank.model.layers.values():
        assert len(layer.centroids) == PARAMS.clusters
        np.testing.assert_allclose(np.linalg.norm(layer.centroids, axis=1), 1, atol=1e-4)


def test_a_fault_stands_out_where_it_is(bank: PatchBank) -> None:
    normal, odd = bank.distances(photo(60)), bank.distances(spoilt(photo(60)))
    assert normal.shape == (SIDE, SIDE) and normal.dtype == np.float32
    y, x = np.unravel_index(odd.argmax(), odd.shape)
    assert 10 <= y <= 13 and 3 <= x <= 6
    assert odd.max() > normal.max() + 2


def test_held_out_normal_images_set_the_zero_and_the_unit(bank: PatchBank) -> None:
    maps = [bank.scales[name](m) for i in range(20, 24) for name, m in bank._normalised(*said(bank, photo(i))).items()]
    for k in range(3):
        values = np.stack(maps[k::3])
        assert values.mean() == pytest.approx(0, abs=1e-3) and values.std() == pytest.approx(1, abs=1e-3)


def test_without_held_out_images_the_scales_stay(bank: PatchBank) -> None:
    assert bank.calibrate([]) is bank


def test_without_defects_there_is_no_detector() -> None:
    plain = PatchBank.fit([photo(i) for i in range(6)], PARAMS)
    assert plain.model.detector is None
    assert PatchBank.fit([photo(0)], PARAMS, [no_defects()]).model.detector is None
    assert plain.distances(spoilt(photo(9))).max() > plain.distances(photo(9)).max()


def test_images_without_a_defect_take_part_beside_others() -> None:
    bank = PatchBank.fit([photo(i) for i in range(3)], PARAMS, [defects(0), no_defects(), defects(2)])
    assert bank.model.detector is not None


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        PatchBank.fit([photo(i) for i in range(5)], PARAMS, [defects(i) for i in range(5)]).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_order_of_images_changes_little() -> None:
    """K-means starts from other patches and may end elsewhere; what is odd must stay odd, by far and in its place."""
    many = [photo(i) for i in range(8)]
    banks = PatchBank.fit(many, PARAMS), PatchBank.fit(many[::-1], PARAMS)
    usual = [max(bank.distances(photo(seed)).max() for seed in range(80, 84)) for bank in banks]
    for seed in range(30, 34):
        maps = [bank.distances(spoilt(photo(seed))) for bank in banks]
        assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.7
        for seen, most in zip(maps, usual, strict=True):
            y, x = np.unravel_index(seen.argmax(), seen.shape)
            assert seen.max() > 1.25 * most and 10 <= y <= 13 and 3 <= x <= 6


def test_a_bank_survives_its_file_bit_by_bit(bank: PatchBank, tmp_path: Path) -> None:
    bank.save(tmp_path / "one")
    loaded = PatchBank.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    np.testing.assert_allclose(loaded.distances(spoilt(photo(7))), bank.distances(spoilt(photo(7))), atol=1e-4)
    plain = PatchBank.fit([photo(0)], PARAMS)
    plain.save(tmp_path / "plain")
    assert PatchBank.load(tmp_path / "plain").model.detector is None


def test_one_training_image_with_fewer_patches_than_clusters_is_enough(tmp_path: Path) -> None:
    tiny = PatchBank.fit([photo(0, side=4)], PatchBankParams(clusters=100, dimensions=24), [defects(0, 3, side=4)])
    assert len(tiny.model.layers[DETAIL].centroids) == 16
    assert np.isfinite(tiny.distances(photo(1, side=4))).all()


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_images_without_any_variety_give_finite_distances(value: float) -> None:
    flat = PatchImage({n: np.full_like(f, value) for n, f in features(0).items()}, photo(0).classes)
    bank = PatchBank.fit([flat] * 3, PARAMS, [defects(i) for i in range(3)])
    bank = bank.calibrate([said(bank, flat)])
    assert np.isfinite(bank.distances(flat)).all()
    assert np.isfinite(bank.distances(photo(1))).all()


def test_no_image_is_an_error_in_words() -> None:
    with pytest.raises(DataError, match="at least one normal training image"):
        PatchBank.fit([], PARAMS)


def test_the_sample_is_within_its_limit_and_takes_part_of_every_image() -> None:
    images = [np.full((10, 10, 2), i, dtype=np.float16) for i in range(7)]
    picked = _sample(images, 70)
    assert picked.shape == (70, 2) and picked.dtype == np.float32
    assert np.bincount(picked[:, 0].astype(int)).tolist() == [10] * 7
    assert len(_sample(images, 10_000)) == 700
    assert len(_sample(images, 3)) == 7  # one each at least
    np.testing.assert_array_equal(_sample(images, 70), picked)


def test_a_scale_of_equal_values_is_finite() -> None:
    assert np.isfinite(Scale.fit([np.ones((2, 2), np.float32)])(np.float32([[5]]))).all()


def test_a_bank_cut_short_names_what_is_missing(bank: PatchBank, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    bank.save(tmp_path / "whole")
    tensors = load_file(tmp_path / "whole")
    for name in (
        "layer.detail.axes",
        "place.detector",
        "detector.1.5",
        "distance_weight",
        "scale.surface",
        "context/",
        "context.place",
    ):
        save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "part")
        with pytest.raises(ArtifactError, match=rf"part: no '{name}' in this bank"):
            PatchBank.load(tmp_path / "part")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="feature_banks"):
        PatchBank.load(tmp_path / "cut")


def test_the_same_height_says_less_on_a_class_that_varies_more() -> None:
    rng = np.random.default_rng(0)
    grid = photo(0).classes
    maps = [np.where(grid == "nut", 5 * rng.random((SIDE, SIDE)), rng.random((SIDE, SIDE))) for _ in range(12)]
    extremes = Extremes.fit([m.astype(np.float32) for m in maps], [grid] * 12)
    judged = extremes(np.full((SIDE, SIDE), 6, np.float32), grid)
    assert judged[0, 0] < judged[-1, -1]
    nut = [float(m[grid == "nut"].max()) for m in maps]
    assert extremes.level["nut"] == pytest.approx(np.median(nut))
    assert extremes.spread["nut"] == pytest.approx(np.std(nut))


def test_a_class_that_hardly_any_image_shows_is_judged_as_the_whole_image() -> None:
    grid, bare = photo(0).classes, np.full((SIDE, SIDE), BACKGROUND)
    m = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)
    extremes = Extremes.fit([m] * 9, [grid] * 2 + [bare] * 7)
    assert list(extremes.level) == [BACKGROUND]
    assert np.ptp(extremes(np.ones((SIDE, SIDE), np.float32), grid)) == 0
