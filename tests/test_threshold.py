"""Conformal thresholds and p-values against slow references and by simulation; intervals; the rate in params.yaml."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tmuad import tables
from tmuad.config import load_params
from tmuad.data.params_edit import set_rate
from tmuad.errors import ArtifactError, ParameterError
from tmuad.evaluate.threshold import clopper_pearson, markdown, p_values, parse_rate, promise_of, thresholds
from tmuad.parquet import write_parquet
from tmuad.report.thresholds import threshold_text
from tmuad.score.fuse import choose_threshold


def write_unit(root, normal, good, bad=(), unit="kit"):
    """Artifacts of a unit whose images have these scores; each bank's own score is half of it."""
    groups = [("validation", "good", normal), ("test", "good", good), ("test", "logical", bad)]
    images, scores = [], []
    for split, kind, values in groups:
        for i, value in enumerate(values):
            image_id = f"{split}-{kind}-{i}"
            images.append((image_id, f"{split}/{kind}/{i}.png", split, kind, "", []))
            pairs = {f"s_{pair}": None for pair in ("text+objects", "text+patches", "objects+patches")}
            banks = {f"s_{bank}": value / 2 for bank in ("text", "objects", "patches")}
            scores.append({"image_id": image_id, "score": value, **banks, **pairs, "p_value": None})
    frame = pd.DataFrame(images, columns=tables.MANIFEST_SCHEMA.names)
    write_parquet(frame, root / unit / "manifest.parquet", tables.MANIFEST_SCHEMA)
    table = pa.Table.from_pylist(scores, schema=tables.SCORES_SCHEMA)
    write_parquet(table, root / unit / "scores.parquet", tables.SCORES_SCHEMA)


@pytest.mark.parametrize("n", [5, 19, 20, 99, 100])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_promise_holds_on_average_and_its_interval_in_most_sets(n, rate):
    promised, (low, high) = promise_of(n, rate)
    assert low <= promised <= high
    rng = np.random.default_rng(n)
    normal = rng.random((4000, n))  # whatever the scores' distribution, ranks are those of uniform ones
    threshold = np.array([choose_threshold(scores, rate)[0] for scores in normal])
    true_rate = 1 - threshold  # of uniform scores
    assert true_rate.mean() == pytest.approx(promised, abs=4 * true_rate.std() / np.sqrt(4000))
    assert np.mean((true_rate >= low) & (true_rate <= high)) == pytest.approx(0.95, abs=0.02)
    if choose_threshold(normal[0], rate)[1] == "":
        assert promised <= rate + 1e-9
    else:
        assert promised > rate  # said, not hidden


def test_no_held_out_image_promises_nothing():
    assert promise_of(0, 0.05) == (None, None)


@pytest.mark.parametrize(("events", "of"), [(0, 24), (1, 24), (7, 20), (20, 20), (0, 0)])
def test_clopper_pearson_inverts_the_binomial_tails(events, of):
    low, high = clopper_pearson(events, of)
    assert 0 <= low <= high <= 1
    if events > 0:
        assert binom.sf(events - 1, of, low) == pytest.approx(0.025)
    if events < of:
        assert binom.cdf(events, of, high) == pytest.approx(0.025)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), max_size=8),
)
def test_p_values_are_those_of_the_definition(normal, others):
    scores = np.array([*normal, *others], dtype=float)
    own = np.arange(len(scores)) < len(normal)
    found = p_values(scores, np.array(normal, dtype=float), own)
    for i, value in enumerate(scores):
        rest = [v for j, v in enumerate(normal) if not (own[i] and i == j)]
        assert found[i] == pytest.approx((1 + sum(v >= value for v in rest)) / (len(rest) + 1))
    order = np.argsort(scores)
    theirs = found[order][~own[order]]
    assert (np.diff(theirs) <= 1e-12).all()  # a higher score is never less unusual


def test_p_values_of_normal_images_are_uniform_or_larger():
    rng = np.random.default_rng(0)
    found = np.concatenate([p_values(rng.normal(size=5), rng.normal(size=19)) for _ in range(2000)])
    for rate in (0.05, 0.1, 0.5):
        assert np.mean(found <= rate) == pytest.approx(rate, abs=0.015)


def test_thresholds_of_a_unit(tmp_path):
    write_unit(tmp_path, range(1, 101), [0.0] * 48 + [100, 200], [50, 150])
    found = thresholds("kit", 0.05, tmp_path)
    whole = found.promises[0]
    assert [p.bank for p in found.promises] == ["all banks", "text", "objects", "patches"]
    assert whole.threshold == 96 and whole.promised == pytest.approx(5 / 101) and whole.warning == ""
    assert whole.observed == 0.04 and whole.good == 50 and whole.found == {"logical": 0.5} and not whole.broken
    assert found.promises[1].threshold == 48
    assert found.p_values["path"].tolist()[:2] == ["test/good/49.png", "test/logical/1.png"]
    assert found.p_values["p"].tolist()[0] == pytest.approx(1 / 101, abs=1e-6)
    assert found.p_values["p"].is_monotonic_increasing


def test_too_few_normals_are_said_everywhere(tmp_path):
    write_unit(tmp_path, range(20), [1.0] * 5)
    found = thresholds("kit", 0.01, tmp_path)
    assert found.promises[0].promised == pytest.approx(1 / 21)
    for text in (markdown([found]), threshold_text(found)):
        assert "cannot promise a false-alarm rate of 1.0%, only 4.8%; it takes 99" in text
    assert "NOT POSSIBLE" in threshold_text(found)


def test_test_images_unlike_the_held_out_ones_are_said(tmp_path):
    write_unit(tmp_path, range(100), [1000.0] * 15 + [0.0] * 15)
    found = thresholds("kit", 0.05, tmp_path)
    assert found.promises[0].broken
    assert "not like the held-out ones" in markdown([found]) and "unlike the held-out ones" in threshold_text(found)


def test_units_without_test_or_held_out_images(tmp_path):
    write_unit(tmp_path, range(30), [])
    alone = thresholds("kit", 0.05, tmp_path).promises[0]
    assert (
        alone.observed is None
        and alone.observed_interval is None
        and "–" in threshold_text(thresholds("kit", 0.05, tmp_path))
    )
    write_unit(tmp_path, [], [1.0])
    none = thresholds("kit", 0.05, tmp_path)
    assert none.promises[0].promised is None and "no held-out normal image" in markdown([none])
    assert "none" in threshold_text(none)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, float("nan")])
def test_senseless_rates_are_refused(tmp_path, rate):
    with pytest.raises(ParameterError, match="above 0 and below 1"):
        thresholds("kit", rate, tmp_path)


@pytest.mark.parametrize(("text", "rate"), [("1%", 0.01), (" 0.5 % ", 0.005), ("0.02", 0.02), ("99.9%", 0.999)])
def test_rates_in_words(text, rate):
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "one", "5", "0%", "100%", "1%x", "nan", "-1%", "1e9%"])
def test_words_that_are_no_rate(text):
    with pytest.raises(ParameterError, match="such as 1% or"):
        parse_rate(text)


def test_a_unit_that_was_not_scored_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"kit.*dvc repro"):
        thresholds("kit", 0.05, tmp_path)


# --- params.yaml

UNITS = "units:\n  a.b: {root: x, layout: folder}\n"


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "decide:\n  false_alarm_rate: 0.05    # promised\n\n# end\n",
        "decide:\n    unit_rates: {a.b: 0.5, other: 0.1}  # mine\n    false_alarm_rate: 0.1\ndata: {size: 128}\n",
        "data: {size: 128}  # no newline",
    ],
)
def test_a_rate_is_set_and_nothing_else_changes(tmp_path, tail):
    path = tmp_path / "params.yaml"
    path.write_text(UNITS + tail)
    before = load_params(path)
    set_rate(before, path, "a.b", 0.01)
    after = load_params(path)
    assert after.decide.of("a.b").false_alarm_rate == 0.01
    assert after.decide.of("new").false_alarm_rate == before.decide.false_alarm_rate
    assert after.model_copy(update={"decide": before.decide}) == before
    kept = [line for line in (UNITS + tail).splitlines() if "unit_rates" not in line and line]
    assert [line for line in path.read_text().splitlines() if line in kept] == kept


@pytest.mark.parametrize("tail", ["decide: {false_alarm_rate: 0.1}\n", "decide:\n  unit_rates:\n    a.b: 0.5\n"])
def test_other_layouts_are_left_alone_and_the_line_is_given(tmp_path, tail):
    path = tmp_path / "params.yaml"
    path.write_text(UNITS + tail)
    with pytest.raises(ParameterError, match=r"set decide\.unit_rates: \{a\.b: 0\.01\}"):
        set_rate(load_params(path), path, "a.b", 0.01)
    assert path.read_text() == UNITS + tail


def test_a_rate_out_of_range_or_of_a_strange_unit_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(UNITS + "decide:\n  unit_rates: {a.b: 2}\n")
    with pytest.raises(ParameterError, match=r"decide\.unit_rates"):
        load_params(path)
