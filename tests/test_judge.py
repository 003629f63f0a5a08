"""From bank results to a verdict: score, threshold, shares, and a reason for every anomaly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tmuad.score.judge as judging
from tmuad import masks
from tmuad.config import DecideParams, FuseParams
from tmuad.describe.description import ImageDescription, describe
from tmuad.describe.table import scene_object
from tmuad.score.banks import BankResult
from tmuad.score.fuse import BANKS, Calibration, choose_threshold
from tmuad.score.judge import MAX_APPEARANCE, calibrate, judge, subset_score
from tmuad.score.text import Finding

SHAPE = (16, 16)
FUSE, DECIDE = FuseParams(), DecideParams(false_alarm_rate=0.2)


def block(y: int, x: int, side: int = 4) -> masks.Runs:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[y : y + side, x : x + side] = True
    return masks.encode(mask)


def result(
    patches: NDArray[np.float32] | None = None, regions: tuple[float, ...] = (), findings: tuple[Finding, ...] = ()
) -> BankResult:
    """An image with 4 x 4 patches and an object in each corner that `regions` gives a distance."""
    corners = [block(0, 0), block(0, 12), block(12, 0), block(12, 12)][: len(regions)]
    grid = np.zeros((4, 4), np.float32) if patches is None else patches
    return BankResult("image", list(findings), "normal", corners, np.float32(regions), grid)


def normal(seed: int) -> BankResult:
    rng = np.random.default_rng(seed)
    return result(rng.normal(0, 1, (4, 4)).astype(np.float32), tuple(rng.normal(0, 1, 4).tolist()))


def missing(strength: float = 1.0) -> Finding:
    return Finding("class-1", "missing", "2", "1", strength, block(4, 4), 1, "centre")


def scene(*objects: tuple[str, masks.Runs]) -> ImageDescription:
    return describe("image", [scene_object(name, runs, SHAPE) for name, runs in objects])


NORMALS = [normal(i) for i in range(30)]
CALIBRATION = calibrate(NORMALS, SHAPE, FUSE, DECIDE)
NOTHING = scene()


def peak(y: int, x: int, value: float = 30.0) -> NDArray[np.float32]:
    grid = np.zeros((4, 4), np.float32)
    grid[y, x] = value
    return grid


def test_the_threshold_is_that_of_scores_under_the_other_images_standardisation() -> None:
    rest = [calibrate(NORMALS[:i] + NORMALS[i + 1 :], SHAPE, FUSE, DECIDE) for i in range(len(NORMALS))]
    scores = [judge(r, NOTHING, SHAPE, others, FUSE).score for r, others in zip(NORMALS, rest, strict=True)]
    assert CALIBRATION.normal_scores == pytest.approx(sorted(scores))
    assert CALIBRATION.threshold == pytest.approx(choose_threshold(np.array(scores), 0.2)[0])
    alone = calibrate(NORMALS[:1], SHAPE, FUSE, DECIDE)
    assert alone.normal_scores == (judge(NORMALS[0], NOTHING, SHAPE, alone, FUSE).score,)


def heavy_tailed(rng: np.random.Generator) -> BankResult:
    """A normal image of which any bank may say rather much."""
    found = [missing(float(rng.uniform(0.2, 1)))] if rng.random() < 0.15 else []
    patches, distances = rng.lognormal(0, 1, (4, 4)), rng.lognormal(0, 1, 4)
    return result(patches.astype(np.float32), tuple(distances.tolist()), tuple(found))


def test_few_held_out_images_keep_the_promise_as_well() -> None:
    """With n of them and the highest as threshold, at most 1 of n + 1 new ones lies above."""
    rng, n, new, repeats = np.random.default_rng(0), 5, 10, 150
    above = 0
    for _ in range(repeats):
        calibration = calibrate([heavy_tailed(rng) for _ in range(n)], SHAPE, FUSE, DECIDE)
        above += sum(judge(heavy_tailed(rng), NOTHING, SHAPE, calibration, FUSE).anomalous for _ in range(new))
    assert 0.05 < above / (new * repeats) <= 1 / (n + 1)  # 0.3 if each helped to judge itself


@pytest.mark.parametrize("parts", [4, 30])
def test_more_images_than_parts_are_scored_by_parts(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "PARTS", parts)
    found = calibrate(NORMALS, SHAPE, FUSE, DECIDE)
    assert len(found.normal_scores) == len(NORMALS) and found.scale == CALIBRATION.scale
    assert found.threshold == pytest.approx(CALIBRATION.threshold, rel=0.1)
    assert (found.normal_scores == CALIBRATION.normal_scores) == (parts == 30)


def test_a_normal_image_is_good_and_an_odd_one_anomalous() -> None:
    assert not judge(result(), NOTHING, SHAPE, CALIBRATION, FUSE).anomalous
    for odd in (result(peak(1, 2)), result(regions=(0, 30, 0, 0)), result(findings=(missing(),))):
        verdict = judge(odd, NOTHING, SHAPE, CALIBRATION, FUSE)
        assert verdict.anomalous and verdict.score > verdict.threshold == CALIBRATION.threshold


def test_shares_name_the_bank_that_set_the_score() -> None:
    for bank, odd in (
        ("patches", result(peak(1, 2))), ("objects", result(regions=(0, 30, 0, 0))), ("text", result(findings=(missing(),))),
    ):  # fmt: skip
        shares = judge(odd, NOTHING, SHAPE, CALIBRATION, FUSE).shares
        assert max(shares, key=lambda name: shares[name]) == bank
        assert sum(shares.values()) == pytest.approx(1)


NUMBERS = st.floats(-20, 60, width=32)
RESULTS = st.builds(
    result,
    st.lists(NUMBERS, min_size=16, max_size=16).map(lambda v: np.float32(v).reshape(4, 4)),
    st.lists(NUMBERS, max_size=4).map(tuple),
    st.lists(st.builds(missing, st.floats(0.02, 1)), max_size=2).map(tuple),
)


@settings(max_examples=60)
@given(RESULTS, st.lists(RESULTS, max_size=6), st.sampled_from(["calibrated", "paper"]))
def test_a_verdict_holds_together_whatever_the_banks_say(
    query: BankResult, normals: list[BankResult], method: str
) -> None:
    fusion = FuseParams.model_validate({"method": method})
    calibration = calibrate(normals, SHAPE, fusion, DECIDE)
    verdict = judge(query, scene(("class-1", block(0, 0))), SHAPE, calibration, fusion)
    fused = verdict.maps["fused"]
    assert fused.shape == SHAPE and np.isfinite(fused).all()
    assert verdict.score == float(fused.max())
    assert verdict.anomalous == (verdict.score > calibration.threshold)
    assert verdict.maxima == {bank: float(verdict.maps[bank].max()) for bank in BANKS}
    assert sum(verdict.shares.values()) == pytest.approx(1, abs=1e-3) or set(verdict.shares.values()) == {0.0}
    assert all(0 <= share <= 1 for share in verdict.shares.values())
    if verdict.anomalous:
        assert verdict.findings, "an anomaly without a reason"
    for finding in verdict.findings:
        assert 0 < finding.strength <= 1
        assert masks.area(finding.region) > 0
    strengths = [f.strength for f in verdict.findings if f.attribute == "appearance"]
    assert strengths == sorted(strengths, reverse=True) and len(strengths) <= MAX_APPEARANCE


def test_unusual_regions_are_named_with_the_object_they_lie_on() -> None:
    verdict = judge(result(peak(0, 0)), scene(("class-3", block(0, 0, 6))), SHAPE, CALIBRATION, FUSE)
    [finding] = verdict.findings
    assert (finding.attribute, finding.object_class, finding.where) == ("appearance", "class-3", "top left")
    [finding] = judge(result(peak(3, 3)), scene(("class-3", block(0, 0, 6))), SHAPE, CALIBRATION, FUSE).findings
    assert (finding.object_class, finding.where) == ("", "bottom right")


@pytest.mark.parametrize("place", [(0, 0), (0, 3), (3, 0)])
def test_of_several_objects_of_a_class_whichever_it_lies_on_is_named(place: tuple[int, int]) -> None:
    nuts = [("nut", block(y, x, 6)) for y, x in ((0, 0), (0, 10), (10, 0))]
    verdict = judge(result(peak(*place)), scene(*nuts, ("bolt", block(10, 10, 6))), SHAPE, CALIBRATION, FUSE)
    assert [f.object_class for f in verdict.findings] == ["nut"]


def test_of_many_unusual_regions_the_strongest_are_named() -> None:
    verdict = judge(result(regions=(30, 60, 40, 50)), NOTHING, SHAPE, CALIBRATION, FUSE)
    assert [f.where for f in verdict.findings] == ["top right", "bottom right", "bottom left"]


def test_a_good_image_keeps_what_the_text_bank_says_and_adds_nothing() -> None:
    verdict = judge(result(findings=(missing(0.02),)), NOTHING, SHAPE, CALIBRATION, FUSE)
    assert not verdict.anomalous and [f.attribute for f in verdict.findings] == ["missing"]


def test_what_normal_images_show_as_well_is_no_reason() -> None:
    noisy = [result(findings=(missing(),)) for _ in range(10)]
    calibration = calibrate(noisy, SHAPE, FUSE, DECIDE)
    assert calibration.reliability == {"class-1/missing": 0.0}
    verdict = judge(result(findings=(missing(),)), NOTHING, SHAPE, calibration, FUSE)
    assert not verdict.anomalous and verdict.findings == []


def test_without_a_normal_image_nothing_is_anomalous() -> None:
    calibration = calibrate([], SHAPE, FUSE, DECIDE)
    assert calibration.threshold == math.inf and "add normal images" in calibration.warning
    verdict = judge(result(peak(0, 0)), NOTHING, SHAPE, calibration, FUSE)
    assert not verdict.anomalous and verdict.score > 0


@settings(max_examples=30)
@given(RESULTS)
def test_all_banks_together_are_the_score_and_fewer_are_their_own(query: BankResult) -> None:
    verdict = judge(query, NOTHING, SHAPE, CALIBRATION, FUSE)
    assert subset_score(verdict.terms, BANKS) == pytest.approx(verdict.score, rel=1e-5, abs=1e-5)
    for bank in BANKS:
        quiet = BankResult("i", [] if bank != "text" else query.findings, "", query.regions,
                           query.region_distance if bank == "objects" else query.region_distance * 0,
                           query.patch_distance if bank == "patches" else query.patch_distance * 0)  # fmt: skip
        alone = judge(quiet, NOTHING, SHAPE, CALIBRATION, FUSE).score
        assert subset_score(verdict.terms, [bank]) == pytest.approx(alone, rel=1e-4, abs=1e-4)


def test_calibration_does_not_depend_on_the_order_of_images() -> None:
    other: Calibration = calibrate(NORMALS[::-1], SHAPE, FUSE, DECIDE)
    assert other.threshold == pytest.approx(CALIBRATION.threshold, rel=1e-6)
    assert other.scale == pytest.approx(CALIBRATION.scale, rel=1e-6)
