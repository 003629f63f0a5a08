"""Image and pixel metrics against scikit-learn, and the properties that any such metric has."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from tmuad.evaluate.image_metrics import auroc, average_precision, f1_max, rank
from tmuad.evaluate.pixel_metrics import RESOLUTION, PixelHistogram, merged

# Few distinct scores: ties are the hard part.
labelled = (
    st.integers(2, 40)
    .flatmap(
        lambda n: st.tuples(
            npst.arrays(np.float64, n, elements=st.sampled_from([-3.5, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 1000.0])),
            npst.arrays(np.bool_, n),
        )
    )
    .filter(lambda pair: pair[1].any() and not pair[1].all())
)
float16s = st.floats(-1000, 1000, width=16)


def stream(*parts: tuple[np.ndarray, np.ndarray | None]) -> PixelHistogram:
    histogram = PixelHistogram()
    for scores, mask in parts:
        histogram.add(scores, mask)
    return histogram


@given(labelled)
def test_image_metrics_equal_scikit_learn(pair):
    scores, labels = pair
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    f1, threshold = f1_max(scores, labels)
    assert f1 == pytest.approx(best, abs=1e-12)
    called = scores >= threshold
    assert f1 == pytest.approx(2 * (called & labels).sum() / (called.sum() + labels.sum()), abs=1e-12)


@given(labelled)
def test_a_monotone_transform_changes_nothing(pair):
    scores, labels = pair
    moved = np.arctan(scores) * 7 - 2
    assert auroc(moved, labels) == auroc(scores, labels)
    assert average_precision(moved, labels) == average_precision(scores, labels)
    assert f1_max(moved, labels)[0] == f1_max(scores, labels)[0]


@given(labelled)
def test_turning_scores_over_turns_auroc_over(pair):
    scores, labels = pair
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


def test_perfect_inverse_and_constant_predictors():
    labels = np.array([False] * 30 + [True] * 10)
    assert (auroc(labels * 1.0, labels), average_precision(labels * 1.0, labels)) == (1.0, 1.0)
    assert f1_max(labels * 1.0, labels) == (1.0, 1.0)
    assert auroc(-1.0 * labels, labels) == 0.0
    assert (auroc(np.zeros(40), labels), average_precision(np.zeros(40), labels)) == (0.5, 0.25)


def test_a_random_predictor_is_near_one_half():
    rng = np.random.default_rng(0)
    assert auroc(rng.random(20_000), rng.random(20_000) < 0.1) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("labels", "why"), [([], "no normal"), ([True], "no normal"), ([False, False], "no anomalous")]
)
def test_a_single_class_is_nan_with_a_reason(labels, why):
    ranking = rank(np.arange(float(len(labels))), np.array(labels, dtype=bool))
    assert why in ranking.problem
    assert np.isnan([ranking.auroc(), ranking.average_precision(), *ranking.f1_max()]).all()
    assert ranking.roc_curve().shape == (0, 2)


@pytest.mark.parametrize(
    ("scores", "labels", "why"),
    [
        ([0.0, np.nan], [True, False], "score 1 is nan"),
        ([np.inf, 0.0], [True, False], "score 0 is inf"),
        ([0.0, 1.0], [True], "as many labels"),
        ([0.0, 1.0], [0, 255], "boolean"),
    ],
)
def test_unusable_scores_are_refused(scores, labels, why):
    with pytest.raises(ValueError, match=why):
        auroc(scores, np.array(labels))


@given(labelled, st.integers(2, 12))
def test_roc_curve_is_a_subset_of_the_whole_curve(pair, points):
    scores, labels = pair
    ranking = rank(scores, labels)
    whole, curve = ranking.roc_curve(10_000), ranking.roc_curve(points)
    assert np.trapezoid(whole[:, 1], whole[:, 0]) == pytest.approx(ranking.auroc(), abs=1e-12)
    assert len(curve) <= points
    assert (curve[0] == 0).all() and (curve[-1] == 1).all()
    assert (np.diff(curve, axis=0) >= 0).all()
    assert {tuple(p) for p in curve} <= {tuple(p) for p in whole}


def test_200_points_lose_little_of_a_long_curve():
    rng = np.random.default_rng(1)
    labels = rng.random(50_000) < 0.02
    curve = rank(rng.random(50_000) + 0.4 * labels, labels)
    points = curve.roc_curve()
    assert 150 <= len(points) <= 200
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(curve.auroc(), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(np.float32, (6, 7), elements=float16s),
    npst.arrays(np.bool_, (6, 7)).filter(lambda m: m.any() and not m.all()),
)
def test_pixel_metrics_are_exact_for_float16_maps(scores, mask):
    histogram = stream((scores, mask))
    assert histogram.auroc() == pytest.approx(roc_auc_score(mask.ravel(), scores.ravel()), abs=1e-12)
    assert histogram.average_precision() == pytest.approx(
        average_precision_score(mask.ravel(), scores.ravel()), abs=1e-12
    )
    assert sorted(histogram.ranking().values) == sorted(set(scores.ravel().astype(float)))


@settings(max_examples=40, deadline=None)
@given(npst.arrays(np.float32, (4, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_bins_keep_order_and_resolution(scores):
    ranking = stream((scores, None)).ranking()
    # the bins on either side of 0, which denormal scores fall into, are both called 0; no two others share a value
    assert (np.diff(ranking.values) <= 0).all() and (ranking.values == 0).sum() <= 2
    others = ranking.values[ranking.values != 0]
    assert (np.diff(others) < 0).all()
    for value in scores.ravel().astype(float):
        normal = abs(value) > 1e-37
        assert np.abs(ranking.values - value).min() <= (RESOLUTION * abs(value) if normal else 1e-37)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_merged_streams_equal_one_stream(seed, cut):
    rng = np.random.default_rng(seed)
    parts = [(rng.standard_normal((8, 9)).astype(np.float32), rng.random((8, 9)) < 0.2) for _ in range(6)]
    one, first, second = stream(*parts), stream(*parts[:cut]), stream(*parts[cut:])
    both = merged([second, first])
    np.testing.assert_array_equal(both.positives, one.positives)
    np.testing.assert_array_equal(both.negatives, one.negatives)
    assert both.auroc() == one.auroc()


def test_float32_maps_of_any_range_are_close_to_scikit_learn():
    rng = np.random.default_rng(2)
    for scale in (1e-20, 1.0, 1e20):
        scores = (np.abs(rng.standard_normal((64, 64))) * scale).astype(np.float32)
        mask = rng.random((64, 64)) < 0.1 + 0.3 * (scores > scale)
        exact = roc_auc_score(mask.ravel(), scores.ravel())
        assert stream((scores, mask)).auroc() == pytest.approx(exact, abs=1e-4)


def test_zeros_of_both_signs_are_ties():
    assert stream((np.array([[0.0, -0.0]]), np.array([[True, False]]))).auroc() == 0.5


def test_pixels_of_one_kind_are_nan_with_a_reason():
    histogram = stream((np.ones((3, 3)), None))
    assert np.isnan(histogram.auroc())
    assert histogram.ranking().problem == "no anomalous samples"


@pytest.mark.parametrize(
    ("scores", "mask", "why"),
    [
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), None, "row 1, column 0 is nan"),
        (np.array([[np.inf]]), None, "inf"),
        (np.array([[1e300]]), None, "1e[+]300"),
        (np.zeros((2, 3)), np.zeros((3, 2), bool), "one size"),
        (np.zeros((2, 2)), np.full((2, 2), 255, np.uint8), "boolean"),
        (np.zeros((0, 0)), None, "empty"),
    ],
)
def test_unusable_maps_are_refused_by_name_and_leave_no_trace(scores, mask, why):
    histogram = PixelHistogram()
    with pytest.raises(ValueError, match=rf"test/013\.png.*{why}"):
        histogram.add(scores, mask, "test/013.png")
    assert not histogram.negatives.any() and not histogram.positives.any()
