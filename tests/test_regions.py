"""AUPRO and sPRO against their definitions, and the properties that any such figure has."""

import numpy as np
import overlap_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad.evaluate.pixel_stream import SPRO_LIMITS, PixelStream, count_map, merged_streams
from tmuad.evaluate.regions import Defect, Marked, Truth, pixel_shares

SIDE = 9


def sample(seed: int, images: int = 5, levels: int = 12):
    """Maps with ties, masks of blobs, and defects (overlapping, with saturations) that make them up; the first is good."""
    rng = np.random.default_rng(seed)
    maps, masks, defects = [], [], []
    for i in range(images):
        of_image = []
        for _ in range(0 if i == 0 else rng.integers(1, 4)):
            mask = np.zeros((SIDE, SIDE), bool)
            y, x = rng.integers(0, SIDE - 2, 2)
            mask[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = True
            mask[rng.integers(0, SIDE), rng.integers(0, SIDE)] |= bool(rng.random() < 0.5)
            of_image.append((mask, float(rng.choice([1.0, 0.5, 0.3]))))
        union = np.any([mask for mask, _ in of_image], axis=0) if of_image else np.zeros((SIDE, SIDE), bool)
        scores = rng.integers(0, levels, (SIDE, SIDE)) / 4 + union * rng.random()
        maps.append(scores.astype(np.float16).astype(np.float32))
        masks.append(union)
        defects.append(of_image)
    return maps, masks, defects


def truth(mask, defects):
    named = tuple(Defect(f"type {i}", one, saturation) for i, (one, saturation) in enumerate(defects))
    return Truth(mask, named) if mask.any() else None


def stream(maps, masks, defects):
    total = PixelStream()
    for scores, mask, of_image in zip(maps, masks, defects, strict=True):
        total.add(count_map(scores, truth(mask, of_image)))
    return total


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([2, 12, 200]))
def test_figures_follow_the_definitions(seed, levels):
    maps, masks, defects = sample(seed, levels=levels)
    figures = stream(maps, masks, defects).figures()
    assert figures["aupro"] == pytest.approx(reference.aupro(maps, masks), abs=1e-9)
    in_pixels = [[(mask, saturation * mask.sum()) for mask, saturation in of_image] for of_image in defects]
    for name, limit in SPRO_LIMITS.items():
        assert figures[name] == pytest.approx(reference.auc_spro(maps, masks, in_pixels, limit), abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_a_monotone_transform_changes_nothing(seed):
    maps, masks, defects = sample(seed)
    moved = [(np.exp2(np.round(4 * scores) / 4 * 2) - 3).astype(np.float32) for scores in maps]
    rounded = [np.round(4 * scores) / 4 for scores in maps]
    assert stream(moved, masks, defects).figures() == pytest.approx(
        stream(rounded, masks, defects).figures(), abs=1e-12
    )


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_merged_shards_equal_one_stream(seed, cut):
    maps, masks, defects = sample(seed)
    shards = [stream(maps[part], masks[part], defects[part]) for part in (slice(cut, None), slice(0, cut))]
    one, both = stream(maps, masks, defects), merged_streams(shards)
    assert (both.regions, both.defects) == (one.regions, one.defects)
    assert both.figures() == pytest.approx(one.figures(), abs=1e-12)


def test_perfect_inverse_constant_and_random_predictors():
    _, masks, defects = sample(3)
    perfect = stream([mask.astype(np.float32) for mask in masks], masks, defects).figures()
    inverse = stream([1 - mask.astype(np.float32) for mask in masks], masks, defects).figures()
    for name in ("aupro", *SPRO_LIMITS):
        assert perfect[name] == pytest.approx(1.0, abs=1e-12) and inverse[name] == pytest.approx(0.0, abs=1e-12)
    constant = stream([np.ones((SIDE, SIDE), np.float32)] * 5, masks, defects).figures()
    assert constant["aupro"] == pytest.approx(0.15)  # the diagonal: half of the limit
    rng = np.random.default_rng(0)
    big = np.zeros((200, 200), bool)
    big[50:100, 50:150] = True
    by_chance = stream([rng.random((200, 200)).astype(np.float32)], [big], [[(big, 1.0)]]).figures()
    assert by_chance["aupro"] == pytest.approx(0.15, abs=0.01)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((40, 40), bool)
    mask[0, 0] = mask[10:30, 10:30] = True
    scores = np.zeros((40, 40), np.float32)
    scores[0, 0] = 1
    assert stream([scores], [mask], [[]]).figures()["aupro"] == pytest.approx(0.5 + 0.5 * 0.15)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(4, dtype=bool)
    mask[0, 3] = True
    shares, regions = pixel_shares(mask)
    assert regions == 2
    assert shares.tolist() == [0.25, 1, 0.25, 0.25, 0.25]
    assert pixel_shares(np.zeros((4, 4), bool))[1] == 0


def test_a_saturated_defect_is_found_when_its_share_is():
    mask = np.zeros((10, 10), bool)
    mask[:2] = True
    scores = np.zeros((10, 10), np.float32)
    scores[0] = 1  # half of the defect
    half, whole = (stream([scores], [mask], [[(mask, share)]]).figures()["spro_5"] for share in (0.5, 1.0))
    assert half == 1.0
    assert whole == pytest.approx(0.5 + 0.5 * 0.025)


def test_figures_of_one_type_of_defect():
    scores = np.zeros((6, 6), np.float32)
    first, second = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    first[0], second[5] = True, True
    scores[0] = 1
    counts = count_map(scores, Truth(first | second, (Defect("a", first), Defect("b", second))))
    found, missed = PixelStream(), PixelStream()
    found.add(counts, "a")
    missed.add(counts, "b")
    assert found.figures()["spro_30"] == 1.0
    assert missed.figures()["spro_30"] == pytest.approx(0.15)


def test_without_anomalous_images_figures_are_nan():
    good = PixelStream()
    good.add(count_map(np.ones((3, 3), np.float32), None))
    assert all(np.isnan(value) for value in good.figures().values())
    assert "spro_1" not in good.figures()
    full = PixelStream()
    full.add(count_map(np.ones((3, 3), np.float32), Truth(np.ones((3, 3), bool))))
    assert all(np.isnan(value) for value in full.figures().values())
    assert all(np.isnan(value) for value in PixelStream().figures().values())


@pytest.mark.parametrize("scores", [np.full((3, 3), np.nan), np.full((3, 3), np.inf), np.zeros((3, 4))])
def test_unusable_maps_are_refused_by_name(scores):
    with pytest.raises(ValueError, match=r"test/013\.png"):
        count_map(scores.astype(np.float32), Truth(np.ones((3, 3), bool)), "test/013.png")
    with pytest.raises(ValueError, match=r"013: the mask is \(3, 3\) but the mask of a defect is \(2, 2\)"):
        count_map(np.zeros((3, 3)), Truth(np.eye(3, dtype=bool), (Defect("a", np.eye(2, dtype=bool)),)), "013")
    with pytest.raises(ValueError, match="must be boolean"):
        Marked.of(Truth(np.full((3, 3), 255, np.uint8)))  # type: ignore[arg-type]
