"""Intervals and paired comparisons: against a literal bootstrap, and what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from tmuad.evaluate.bootstrap import Bootstrap, PixelResamples, coarse_edges, image_weights, interval, merged_resamples
from tmuad.evaluate.cells import Cell
from tmuad.evaluate.compare import against, paired_difference
from tmuad.evaluate.image_metrics import image_figures
from tmuad.evaluate.pixel_metrics import PixelHistogram
from tmuad.evaluate.pixel_stream import PixelStream, count_map
from tmuad.evaluate.regions import Defect, Truth


def ids(count, prefix="image"):
    return [f"{prefix} {i}" for i in range(count)]


def binormal(rng, count, shift=1.0):
    labels = np.arange(count) % 2 == 1
    return rng.standard_normal(count) + shift * labels, labels


# ---- weights


def test_weights_are_poisson_and_those_of_the_image_alone():
    weights = image_weights(ids(400), Bootstrap(300))
    assert weights.shape == (400, 301) and (weights[:, 0] == 1).all()
    drawn = weights[:, 1:]
    assert drawn.mean() == pytest.approx(1, abs=0.02) and drawn.var() == pytest.approx(1, abs=0.03)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert abs(np.corrcoef(drawn[:50])[np.triu_indices(50, 1)]).mean() < 0.06
    np.testing.assert_array_equal(image_weights(ids(400)[::-1], Bootstrap(300))[::-1], weights)
    np.testing.assert_array_equal(image_weights(ids(3), Bootstrap(200)), weights[:3, :201])
    assert not np.array_equal(image_weights(ids(400), Bootstrap(300, seed=1)), weights)


# ---- images


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([3, 1000]))
def test_each_resample_equals_scikit_learn_with_sample_weights(seed, levels):
    rng = np.random.default_rng(seed)
    scores, labels = binormal(rng, 24)
    scores = np.round(scores * levels) / levels
    weights = image_weights(ids(24, str(seed)), Bootstrap(6))
    figures = image_figures(scores, labels, weights)
    for column in range(7):
        weight = weights[:, column]
        counted = weight > 0
        if not (counted & labels).any() or not (counted & ~labels).any():
            assert np.isnan(figures["auroc"][column])
            continue
        assert figures["auroc"][column] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight), abs=1e-9)
        expected = average_precision_score(labels, scores, sample_weight=weight)
        assert figures["ap"][column] == pytest.approx(expected, abs=1e-9)
        kept = np.repeat(np.arange(24), weight.astype(int))
        precision, recall, _ = precision_recall_curve(labels[kept], scores[kept])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
        assert figures["f1_max"][column] == pytest.approx(best, abs=1e-9)


def test_the_interval_is_that_of_a_literal_bootstrap():
    rng = np.random.default_rng(0)
    scores, labels = binormal(rng, 120)
    draws = []
    while len(draws) < 1500:
        chosen = rng.integers(0, 120, 120)
        draws.append(roc_auc_score(labels[chosen], scores[chosen]))
    figures = image_figures(scores, labels, image_weights(ids(120), Bootstrap(1500)))["auroc"]
    low, high = interval(float(figures[0]), figures)
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.012)


def test_95_percent_intervals_hold_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    truth = roc_auc_score(*binormal(np.random.default_rng(2), 400_000)[::-1])
    held = 0
    for trial in range(200):
        scores, labels = binormal(rng, 100)
        figures = image_figures(scores, labels, image_weights(ids(100, str(trial)), Bootstrap(200)))["auroc"]
        low, high = interval(float(figures[0]), figures)
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.985


def test_no_interval_without_a_figure_or_with_too_few_images():
    assert np.isnan(interval(np.nan, np.full(101, np.nan))).all()
    assert np.isnan(interval(0.5, np.array([0.5]))).all()
    assert np.isnan(interval(0.5, np.array([0.5, np.nan, np.nan, 0.4]))).all()
    assert interval(1.0, np.array([0.999, 0.99, 1.0, 1.0])) == pytest.approx((0.9915, 1.0))
    assert all(np.isnan(v).all() for v in image_figures(np.zeros(0), np.zeros(0, bool), np.ones((0, 3))).values())


# ---- pixels


def unit(seed, images=30, side=40):
    rng = np.random.default_rng(seed)
    for i in range(images):
        scores = rng.gamma(2.0, 1.0, (side, side)).astype(np.float32)
        if i % 2:
            mask = np.zeros((side, side), bool)
            y, x = rng.integers(0, side - 10, 2)
            mask[y : y + 6, x : x + 9] = True
            scores[mask] += np.float32(2 * rng.random())
            yield scores, Truth(mask, (Defect("a", mask, 0.5),))
        else:
            yield scores, None


def edges(samples):
    pilot = PixelHistogram()
    for scores, truth in samples:
        pilot.add(scores, None if truth is None else truth.mask)
    return coarse_edges(pilot)


def test_each_pixel_resample_is_the_figure_of_the_images_repeated():
    samples, weights = list(unit(0)), image_weights(ids(30), Bootstrap(5))
    resamples = PixelResamples(edges(samples[:8]), 5)
    for (scores, truth), weight in zip(samples, weights, strict=True):
        resamples.add(count_map(scores, truth), weight)
    figures = resamples.figures()
    for column in range(6):
        repeated = PixelStream()
        for (scores, truth), weight in zip(samples, weights, strict=True):
            for _ in range(int(weight[column])):
                repeated.add(count_map(scores, truth))
        expected = repeated.figures()
        assert set(figures) == set(expected)
        for name, value in expected.items():
            assert figures[name][column] == pytest.approx(value, abs=2e-3), name  # the coarse bins


def test_resamples_of_shards_are_those_of_the_whole():
    samples, weights = list(unit(1)), image_weights(ids(30), Bootstrap(8))
    shared = edges(samples[:8])
    parts = [PixelResamples(shared, 8) for _ in range(3)]
    for i, ((scores, truth), weight) in enumerate(zip(samples, weights, strict=True)):
        parts[0].add(count_map(scores, truth), weight)
        parts[1 + i % 2].add(count_map(scores, truth), weight)
    whole, both = parts[0].figures(), merged_resamples(parts[1:]).figures()
    for name in whole:
        np.testing.assert_allclose(both[name], whole[name], atol=1e-5)
    with pytest.raises(ValueError, match="share the edges"):
        parts[0].merge(PixelResamples(shared[:-1], 8))


def test_memory_is_resamples_times_bins_whatever_the_images():
    resamples = PixelResamples(edges(unit(2, images=4)), 20)
    size = resamples.counts.nbytes
    for (scores, truth), weight in zip(unit(2, images=100), image_weights(ids(100), Bootstrap(20)), strict=True):
        resamples.add(count_map(scores * 1000, truth), weight)  # beyond anything the pilot has seen
    assert resamples.counts.nbytes == size and len(resamples._pending) < 64
    assert resamples.figures()["auroc"].shape == (21,)
    assert size < 21 * 1000 * 4 * 4


def test_edges_ascend_from_zero_and_have_a_place_for_every_score():
    for pilot_scores in (np.zeros((4, 4)), np.full((4, 4), -1e30), np.linspace(-5, 1e30, 64).reshape(8, 8)):
        found = edges([(pilot_scores.astype(np.float32), None)])
        assert found[0] == 0 and (np.diff(found) > 0).all() and found[-1] < 1 << 20


# ---- two runs


def runs(shift, seed=0, count=200, noise=0.3):
    """AUROC of two runs on the same images, and their replicates."""
    rng = np.random.default_rng(seed)
    scores, labels = binormal(rng, count)
    other = scores + shift * labels + noise * rng.standard_normal(count)
    weights = image_weights(ids(count), Bootstrap(400))
    return [image_figures(s, labels, weights)["auroc"] for s in (scores, other)]


def test_a_real_difference_is_seen_and_an_equal_run_is_not():
    before, after = runs(shift=0.6)
    found = paired_difference("image.auroc", before[0], after[0], before, after)
    assert not found.within_noise and found.low > 0 and found.p == pytest.approx(2 / 401)
    assert found.difference == pytest.approx(after[0] - before[0])
    same = paired_difference("image.auroc", before[0], before[0], before, before)
    assert same.within_noise and (same.difference, same.p) == (0, 1)


def test_pairing_sees_what_separate_intervals_cannot():
    before, after = runs(shift=0.25, noise=0.05)
    low, high = interval(before[0], before)
    assert low < after[0] < high
    assert not paired_difference("x", before[0], after[0], before, after).within_noise


def test_equal_runs_look_different_about_one_time_in_twenty():
    wrong = 0
    for seed in range(150):
        rng = np.random.default_rng(1000 + seed)
        labels = np.arange(100) % 2 == 1
        common = rng.standard_normal(100) + labels
        weights = image_weights(ids(100, str(seed)), Bootstrap(200))
        one, two = (image_figures(common + 0.7 * rng.standard_normal(100), labels, weights)["auroc"] for _ in range(2))
        wrong += not paired_difference("x", one[0], two[0], one, two).within_noise
    assert wrong / 150 < 0.11


def test_an_undefined_figure_is_not_compared():
    before, after = runs(shift=0.5)
    assert paired_difference("x", np.nan, after[0], before, after) is None
    assert paired_difference("x", before[0], after[0], np.full_like(before, np.nan), after) is None
    assert paired_difference("x", before[0], after[0], before[:1], after[:1]) is None


def test_banks_are_compared_with_all_fused():
    fused, alone = runs(shift=-0.8)
    cells = {("image", "auroc"): Cell(fused[0], fused), ("banks", "text", "image", "auroc"): Cell(alone[0], alone)}
    (entry,) = against(cells, ["text", "objects"])
    assert entry["metric"] == "banks.text.image.auroc"
    assert entry["difference"] < 0 and entry["within_noise"] is False
