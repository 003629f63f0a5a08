"""Fusion as printed and calibrated, and the promise of the threshold."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tmuad import masks
from tmuad.config import BankWeights, FuseParams
from tmuad.errors import ArtifactError
from tmuad.score.fuse import (
    BANKS,
    UNRELIABLE,
    Calibration,
    Maps,
    choose_threshold,
    fuse,
    load_calibration,
    reliability_of,
    standardisation,
)
from tmuad.score.text import Finding

PAPER, CALIBRATED = FuseParams(method="paper"), FuseParams(method="calibrated")
VALUES = st.floats(0, 2, width=32)
MAPS = st.fixed_dictionaries({bank: arrays(np.float32, (4, 5), elements=VALUES) for bank in BANKS})
POSITIVE = st.floats(0.05, 3)
TRIPLES = st.fixed_dictionaries(dict.fromkeys(BANKS, POSITIVE))


def calibration(centre: dict[str, float], scale: dict[str, float], **rest: object) -> Calibration:
    return Calibration(centre, scale, {}, 3.0, 0.05, (0.5, 1.0, 2.0), **rest)  # type: ignore[arg-type]


# ---- Eq. 5 as printed


@settings(max_examples=30)
@given(MAPS)
def test_the_method_of_the_paper_is_equation_5(maps: Maps) -> None:
    slow = np.zeros((4, 5))
    for row in range(4):
        for column in range(5):
            s_t, s_o, s_p = (float(maps[bank][row, column]) for bank in BANKS)
            slow[row, column] = 0.05 * s_t + 0.3 * s_o + 0.65 * s_p
    fused = fuse(maps, calibration(dict.fromkeys(BANKS, 9.0), dict.fromkeys(BANKS, 9.0)), PAPER)
    assert fused.dtype == np.float32
    assert np.allclose(fused, slow, atol=1e-5)
    assert np.array_equal(fuse(maps, None, PAPER), fused)


# ---- calibrated


@settings(max_examples=30)
@given(MAPS, TRIPLES, TRIPLES)
def test_calibrated_fusion_sums_the_excess_in_standard_deviations(
    maps: Maps, centre: dict[str, float], scale: dict[str, float]
) -> None:
    weight = {"text": 2.0, "objects": 1.0, "patches": 0.7}  # the documented defaults

    def softplus(value: float) -> float:
        return float(np.log1p(np.exp(-abs(value))) + max(value, 0.0))

    slow = np.zeros((4, 5))
    for bank in BANKS:
        at_zero = softplus(-centre[bank] / scale[bank])
        for row, column in np.ndindex(4, 5):
            deviation = (float(maps[bank][row, column]) - centre[bank]) / scale[bank]
            slow[row, column] += weight[bank] * (softplus(deviation) - at_zero)
    fused = fuse(maps, calibration(centre, scale), CALIBRATED)
    assert fused.dtype == np.float32
    assert np.allclose(fused, slow, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(MAPS, TRIPLES, TRIPLES, st.sampled_from(BANKS), st.floats(0.01, 1000))
def test_the_unit_of_a_bank_does_not_matter(
    maps: Maps, centre: dict[str, float], scale: dict[str, float], bank: str, factor: float
) -> None:
    before = fuse(maps, calibration(centre, scale), CALIBRATED)
    other = {**maps, bank: maps[bank] * np.float32(factor)}
    centre, scale = {**centre, bank: centre[bank] * factor}, {**scale, bank: scale[bank] * factor}
    assert np.allclose(fuse(other, calibration(centre, scale), CALIBRATED), before, rtol=1e-3, atol=1e-3)


@settings(max_examples=30)
@given(MAPS, MAPS, TRIPLES, TRIPLES, st.sampled_from([PAPER, CALIBRATED]))
def test_more_anomaly_never_lowers_the_score(
    maps: Maps, more: Maps, centre: dict[str, float], scale: dict[str, float], params: FuseParams
) -> None:
    raised = {bank: maps[bank] + more[bank] for bank in BANKS}
    fitted = calibration(centre, scale)
    assert (fuse(raised, fitted, params) >= fuse(maps, fitted, params) - 1e-4).all()


@settings(max_examples=30)
@given(MAPS, TRIPLES, TRIPLES)
def test_a_weight_of_zero_silences_a_bank(maps: Maps, centre: dict[str, float], scale: dict[str, float]) -> None:
    params = FuseParams(calibrated=BankWeights(text=0.0))
    silent = {**maps, "text": np.zeros((4, 5), dtype=np.float32)}
    fitted = calibration(centre, scale)
    assert np.array_equal(fuse(maps, fitted, params), fuse(silent, fitted, params))


# ---- what held-out images say


def test_standardisation_is_mean_and_deviation_with_a_floor() -> None:
    centre, scale = standardisation(
        {"text": np.zeros(3), "objects": np.array([0.1, 0.2, 0.3]), "patches": np.array([0.5, 0.5, 0.5])}
    )
    assert centre == pytest.approx({"text": 0, "objects": 0.2, "patches": 0.5})
    assert scale == pytest.approx({"text": 0.1, "objects": 0.1, "patches": 0.005})


@pytest.mark.parametrize("values", [[], [0.0], [0.4], [0.0, 0.0]])
def test_standardisation_of_few_images_is_finite_and_positive(values: list[float]) -> None:
    centre, scale = standardisation({bank: np.array(values) for bank in BANKS})
    assert all(math.isfinite(centre[bank]) and 0 < scale[bank] < math.inf for bank in BANKS)


@given(arrays(np.float64, st.integers(2, 9), elements=st.floats(0.01, 1)), st.floats(0.1, 10))
def test_standardisation_follows_the_unit_of_the_image_banks(maxima: NDArray[np.float64], factor: float) -> None:
    one, other = (standardisation({"objects": values, "patches": values}) for values in (maxima, maxima * factor))
    for bank in ("objects", "patches"):
        assert other[0][bank] == pytest.approx(factor * one[0][bank])
        assert other[1][bank] == pytest.approx(factor * one[1][bank])


def finding(kind: str, strength: float = 1.0) -> Finding:
    name, attribute = kind.split("/")
    return Finding(name, attribute, "", "", strength, masks.encode(np.ones((2, 2), dtype=np.bool_)), 1, "")  # type: ignore[arg-type]


def test_a_finding_common_among_normal_images_is_unreliable() -> None:
    images = (
        [[finding("a/size"), finding("a/size"), finding("b/extra", 0.05)]] * 3 + [[finding("a/missing")]] + [[]] * 16
    )
    reliability = reliability_of(images)
    assert reliability == pytest.approx({"a/missing": 1 - 0.05 / UNRELIABLE, "a/size": 1 - 0.15 / UNRELIABLE})
    assert list(reliability) == sorted(reliability)
    assert reliability_of([[finding("a/size")]] * 4) == {"a/size": 0.0}
    assert reliability_of([]) == {}


# ---- the threshold

RATES = st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 0.9])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), RATES)
def test_the_threshold_equals_the_definition(scores: list[float], rate: float) -> None:
    """Split conformal: of n held-out scores, floor(rate (n + 1)) - 1 or fewer lie above the threshold."""
    threshold, warning = choose_threshold(np.array(scores), rate)
    n = len(scores)
    allowed = math.floor(rate * (n + 1) + 1e-9)
    if allowed == 0:
        assert threshold == max(scores)
        assert f"{rate:.1%}" in warning
    else:
        assert warning == ""
        assert threshold == sorted(scores)[n - allowed]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 10), min_size=5, max_size=40), RATES)
def test_of_exchangeable_scores_no_more_than_promised_exceed(scores: list[float], rate: float) -> None:
    """Each in turn is the new image and the others are held out: the exact false-alarm rate of such scores."""
    above = sum(
        scores[i] > choose_threshold(np.array(scores[:i] + scores[i + 1 :]), rate)[0] for i in range(len(scores))
    )
    assert above <= max(1, math.floor(rate * len(scores) + 1e-9))  # one even where the rate cannot be promised


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.07, 0.1, 0.2, 0.3])
def test_the_warning_names_a_number_of_images_that_is_enough_and_no_more(rate: float) -> None:
    _, warning = choose_threshold(np.array([1.0]), rate)
    needed = int(warning.rsplit(" ", 1)[1])
    assert choose_threshold(np.arange(float(needed)), rate)[1] == ""
    assert choose_threshold(np.arange(float(needed - 1)), rate)[1] != ""


def test_without_normal_images_everything_passes_and_that_is_said() -> None:
    threshold, warning = choose_threshold(np.array([]), 0.05)
    assert threshold == math.inf
    assert "no held-out normal image" in warning


def test_a_rate_of_nearly_one_takes_the_lowest_score() -> None:
    assert choose_threshold(np.array([1.0, 2.0, 3.0]), 1 - 1e-15)[0] == 1.0


def test_p_values_count_the_normal_images_that_score_as_high() -> None:
    fitted = calibration({}, {})
    assert [fitted.p_value(score) for score in (3.0, 2.0, 0.7, 0.0)] == [0.25, 0.5, 0.75, 1.0]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), RATES, st.floats(0, 12))
def test_above_the_threshold_means_a_small_p_value(scores: list[float], rate: float, score: float) -> None:
    threshold, warning = choose_threshold(np.array(scores), rate)
    fitted = Calibration({}, {}, {}, threshold, rate, tuple(sorted(scores)))
    if not warning:
        assert (score > threshold) == (fitted.p_value(score) <= rate + 1e-9)


# ---- the file


@pytest.mark.parametrize("threshold", [1.25, math.inf])
def test_a_calibration_survives_its_file(tmp_path: Path, threshold: float) -> None:
    fitted = Calibration({"text": 0.1}, {"text": 0.2}, {"a/size": 0.5}, threshold, 0.05, (1.0, 2.0), "few")
    fitted.save(tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == fitted
    json.loads(
        (tmp_path / "calibration.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{}", '{"threshold": 1}', '{"threshold": 1, "normal_scores": 3}', "\0"]
)
def test_a_broken_calibration_names_itself_and_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"calibration\.json.*run the stage 'fuse'"):
        load_calibration(path)
    path.unlink()
    with pytest.raises(ArtifactError):
        load_calibration(path)


def test_regions_without_a_class_count_less_than_objects() -> None:
    maps = {bank: np.zeros((2, 2), np.float32) for bank in BANKS} | {"objects": np.full((2, 2), 5, np.float32)}
    ones = dict.fromkeys(BANKS, 1.0)
    objects = fuse(maps, calibration(ones, ones), CALIBRATED)
    regions = fuse(maps, replace(calibration(ones, ones), by_class=False), CALIBRATED)
    np.testing.assert_allclose(regions, CALIBRATED.regions * objects, rtol=1e-6)
