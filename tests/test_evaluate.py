"""All figures of one unit, on a data set of a few pixels whose figures can be worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tmuad.cli import app
from tmuad.errors import ArtifactError
from tmuad.evaluate.bootstrap import Bootstrap
from tmuad.evaluate.evaluate import Decision, evaluate_unit, metrics_json
from tmuad.evaluate.pixel_stream import PixelStream, count_map
from tmuad.evaluate.regions import Defect, Truth
from tmuad.evaluate.replicates import read_replicates, write_replicates
from tmuad.report.comparison import compare_runs, comparison_markdown

SIDE = 6
# kind -> fused scores of its test images
SCORES = {"good": [1.0, 2.0, 3.0, 4.0], "logical": [2.5, 5.0], "structural": [3.5, 6.0, 7.0]}


class Unit:
    """A unit of tiny images, in the form that evaluate_unit takes."""

    def __init__(self, scores=None, masked=True):
        rows, values = [], []
        for kind, many in (SCORES if scores is None else scores).items():
            for number, score in enumerate(many):
                path = f"test/{kind}/{number:03d}.png"
                rows.append((path[::-1], path, "test", kind, [f"truth/{path}"] if masked and kind != "good" else []))
                values.append((path[::-1], score, -score, score / 2, 0.0))
        rows.append(("train", "train/good/000.png", "train", "good", []))
        self.manifest = pd.DataFrame(rows, columns=["image_id", "path", "split", "kind", "masks"])
        self.scores = pd.DataFrame(values, columns=["image_id", "score", "s_text", "s_objects", "s_patches"])

    def truth(self, path):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[:2, : 1 + len(path) % 3] = True
        return mask

    def maps(self, image_id):
        fused = np.random.default_rng(len(image_id)).random((SIDE, SIDE)).astype(np.float16).astype(np.float32)
        return {"fused": fused, "text": 1 - fused}

    def evaluate(self, decision=None):
        return evaluate_unit(self.manifest, self.scores, self.maps, self.truth, decision)


def reasons(metrics):
    return {entry["metric"]: entry["reason"] for entry in metrics["reasons"]}


def test_image_figures():
    metrics = Unit().evaluate().metrics
    # logical: 2.5 outscores 2 of 4, 5.0 all 4; structural: 3.5 outscores 3 of 4, the others all
    assert metrics["image"]["auroc_logical"] == 0.75
    assert metrics["image"]["auroc_structural"] == round(11 / 12, 6)
    assert metrics["image"]["average"] == round((0.75 + 11 / 12) / 2, 6)
    assert metrics["image"]["auroc"] == 0.85
    assert metrics["banks"]["text"]["image"]["auroc"] == pytest.approx(0.15)
    assert metrics["banks"]["objects"]["image"] == metrics["image"]
    assert metrics["banks"]["patches"]["image"]["auroc"] == 0.5
    assert metrics["counts"] == {"good": 4, "logical": 2, "structural": 3}


def test_pixel_figures_equal_scikit_learn_on_all_pixels():
    unit = Unit()
    metrics = unit.evaluate().metrics
    for kinds, key in ((("logical", "structural"), "auroc"), (("logical",), "auroc_logical")):
        rows = unit.manifest[unit.manifest["kind"].isin(["good", *kinds]) & (unit.manifest["split"] == "test")]
        truth = [unit.truth(r.path) if r.kind != "good" else np.zeros((SIDE, SIDE), bool) for r in rows.itertuples()]
        fused = [unit.maps(image_id)["fused"] for image_id in rows["image_id"]]
        expected = roc_auc_score(np.ravel(truth), np.ravel(fused))
        assert metrics["pixel"][key] == pytest.approx(expected, abs=1e-6)
    # the text map is turned over, but 1 - x in float32 is rounded into other bins
    assert metrics["banks"]["text"]["pixel"]["auroc"] == pytest.approx(1 - metrics["pixel"]["auroc"], abs=1e-3)
    assert "pixel" not in metrics["banks"]["patches"]


def test_the_decision_is_above_the_threshold():
    metrics = Unit().evaluate(Decision(threshold=3.5, false_alarm_rate=0.05, normals=40)).metrics
    assert metrics["decision"] == {
        "threshold": 3.5,
        "normals": 40,
        "false_alarm_rate_promised": 0.05,
        "false_alarm_rate_observed": 0.25,
        "detection_rate": 0.6,
        "detection_rate_logical": 0.5,
        "detection_rate_structural": round(2 / 3, 6),
    }


def test_too_few_normals_for_the_promise_is_said():
    metrics = Unit().evaluate(Decision(3.5, 0.05, 18)).metrics
    assert "18 held-out" in reasons(metrics)["decision.false_alarm_rate_promised"]
    assert not reasons(Unit().evaluate(Decision(3.5, 0.05, 19)).metrics)


def test_an_infinite_threshold_passes_everything_and_is_said():
    metrics = Unit().evaluate(Decision(float("inf"), 0.05, 0)).metrics
    assert metrics["decision"]["threshold"] is None
    assert metrics["decision"]["detection_rate"] == 0.0
    assert "decision.threshold" in reasons(metrics)


def test_what_does_not_exist_is_none_with_a_reason():
    unit = Unit({"good": [1.0, 2.0], "structural": [3.0]})
    metrics = unit.evaluate(Decision(2.5, 0.5, 4)).metrics
    assert metrics["image"]["auroc_logical"] is None and metrics["pixel"]["average"] is None
    assert metrics["image"]["auroc"] == 1.0
    said = reasons(metrics)
    assert said["image.auroc_logical"] == "no logical samples"
    assert said["decision.detection_rate_logical"] == "no logical test images"
    assert {"image.average", "pixel.auroc_logical", "banks.text.pixel.average"} <= set(said)


def test_an_empty_test_split_has_no_figures():
    metrics = Unit({}).evaluate(Decision(1.0, 0.05, 20)).metrics
    assert metrics["image"]["auroc"] is None and "pixel" not in metrics
    assert reasons(metrics) == {"all figures": "no test images; the unit is fitted, and new images can be scored"}
    few = Unit({}).evaluate(Decision(1.0, 0.05, 3)).metrics
    assert "too few to promise 5 %" in reasons(few)["decision.false_alarm_rate_promised"]


def test_images_without_masks_are_left_out_of_pixel_figures_and_named():
    metrics = Unit(masked=False).evaluate().metrics
    assert metrics["pixel"]["auroc"] is None
    assert "5 anomalous images have no mask" in reasons(metrics)["pixel"]
    assert "test/logical/000.png" in reasons(metrics)["pixel"]


def test_bank_pairs_are_evaluated_where_scores_have_them():
    unit = Unit()
    unit.scores["s_text+objects"] = unit.scores["score"]
    unit.scores["s_text+patches"] = np.nan
    banks = unit.evaluate().metrics["banks"]
    assert banks["text+objects"]["image"]["auroc"] == 0.85
    assert "text+patches" not in banks


def test_json_is_sorted_and_the_order_of_rows_does_not_matter():
    unit, shuffled = Unit(), Unit()
    shuffled.manifest = shuffled.manifest.iloc[::-1]
    shuffled.scores = shuffled.scores.sample(frac=1, random_state=0)
    text = metrics_json(unit.evaluate().metrics)
    assert text == metrics_json(shuffled.evaluate().metrics)
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_curves_have_end_points():
    for curve in Unit().evaluate().curves.values():
        assert list(curve.columns) == ["fpr", "tpr"]
        assert curve.iloc[0].tolist() == [0, 0] and curve.iloc[-1].tolist() == [1, 1]


def test_a_bad_score_names_the_image():
    unit = Unit()
    unit.scores.loc[5, "s_text"] = np.nan
    with pytest.raises(ArtifactError, match=r"test/logical/001\.png: s_text is nan"):
        unit.evaluate()


def test_a_bad_map_names_the_image_and_the_bank(monkeypatch):
    unit = Unit()
    monkeypatch.setattr(unit, "maps", lambda image_id: {"fused": np.full((SIDE, SIDE), np.inf)})
    with pytest.raises(ArtifactError, match=r"test/good/000\.png: the fused map.*inf"):
        unit.evaluate()


def test_a_mask_of_another_size_names_the_image(monkeypatch):
    unit = Unit()
    monkeypatch.setattr(unit, "truth", lambda path: np.ones((3, 3), bool))
    with pytest.raises(ArtifactError, match=r"test/logical/000\.png.*\(6, 6\).*\(3, 3\)"):
        unit.evaluate()


def test_missing_scores_and_columns_are_named():
    unit = Unit()
    unit.scores = unit.scores.iloc[1:]
    with pytest.raises(ArtifactError, match=r"1 test images have no score: test/good/000\.png"):
        unit.evaluate()
    unit.scores = unit.scores.drop(columns="s_text")
    with pytest.raises(ArtifactError, match="no column s_text"):
        unit.evaluate()


# ---- regions, types of defects, intervals


def with_defects(unit, problem=""):
    """The unit's masks with two types of defects: the first row of every mask is "a", the second one "b"."""

    def truth(path):
        mask = unit.truth(path)
        rows = np.arange(SIDE)[:, None]
        defects = (Defect("a", mask & (rows == 0), 0.5), Defect("b", mask & (rows == 1)))
        return Truth(mask, () if problem else defects, problem)

    return truth


def streamed(unit, kinds):
    total = PixelStream()
    for row in unit.manifest[unit.manifest["split"] == "test"].itertuples():
        if row.kind in ("good", *kinds):
            truth = None if row.kind == "good" else with_defects(unit)(row.path)
            total.add(count_map(unit.maps(row.image_id)["fused"], truth))
    return total.figures()


def test_region_figures_by_kind_and_both_averages():
    unit = Unit()
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit)).metrics
    whole, parts = streamed(unit, ["logical", "structural"]), [streamed(unit, [k]) for k in ("logical", "structural")]
    for name in ("ap", "f1_max", "aupro", "spro_1", "spro_5", "spro_10", "spro_30", "spro_100"):
        assert metrics["pixel"][name] == pytest.approx(whole[name], abs=1e-6)
        assert metrics["pixel"][f"{name}_logical"] == pytest.approx(parts[0][name], abs=1e-6)
        mean = (parts[0][name] + parts[1][name]) / 2
        assert metrics["pixel"][f"{name}_average"] == pytest.approx(mean, abs=1e-6)
    assert "spro_5" not in unit.evaluate().metrics["pixel"]


def test_figures_by_type_of_defect():
    unit = Unit()
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit)).metrics
    assert set(metrics["defects"]) == {"a", "b"}
    assert metrics["defects"]["a"]["images"] == 5
    assert metrics["defects"]["a"]["image"]["auroc"] == metrics["image"]["auroc"]
    assert metrics["defects"]["a"]["pixel"]["spro_30"] != metrics["defects"]["b"]["pixel"]["spro_30"]
    assert metrics["defects"]["a"]["pixel"]["aupro"] == metrics["pixel"]["aupro"]
    unit.manifest["defect"] = np.where(unit.manifest["kind"] == "logical", "missing", "scratch")
    metrics = unit.evaluate().metrics
    assert {name: entry["images"] for name, entry in metrics["defects"].items()} == {"missing": 2, "scratch": 3}
    assert metrics["defects"]["missing"]["image"]["auroc"] == metrics["image"]["auroc_logical"]
    assert metrics["defects"]["scratch"]["pixel"]["auroc"] == metrics["pixel"]["auroc_structural"]


def test_every_figure_has_an_interval_that_holds_it():
    unit = Unit({"good": list(np.arange(20.0)), "logical": [12.5, 18.5, 25] * 3, "structural": [9.5, 19.5] * 4})
    decision = Decision(17.5, 0.05, 40)
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit), decision).metrics

    def leaves(tree, place=()):
        for key, value in tree.items():
            yield from leaves(value, (*place, key)) if isinstance(value, dict) else [((*place, key), value)]

    bounds = dict(leaves(metrics["intervals"]))
    shown = [p for p, _ in leaves({k: metrics[k] for k in ("image", "pixel", "banks", "defects", "decision")})]
    free = {"images", "threshold", "normals", "false_alarm_rate_promised"}
    assert {place for place in shown if place[-1] not in free} == set(bounds)
    for place, (low, high) in bounds.items():
        value = metrics
        for key in place:
            value = value[key]
        assert 0 <= low <= value + 1e-3 and value - 1e-3 <= high <= 1, place
    assert metrics["bootstrap"][0]["resamples"] == 500
    assert {entry["metric"] for entry in metrics["comparisons"]} >= {"banks.text.image.auroc"}
    without = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit), None, Bootstrap(0)).metrics
    assert without["intervals"] == {} and without["comparisons"] == [] and without["image"] == metrics["image"]


def test_one_image_alone_has_no_interval():
    unit = Unit({"good": [1.0, 2.0, 3.0], "logical": [2.5], "structural": [2.5, 3.5]})
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit)).metrics
    for level in ("image", "pixel"):
        assert metrics[level]["auroc_logical"] is not None
        assert {"auroc", "auroc_structural"} <= set(metrics["intervals"][level])
        assert not {"auroc_logical", "ap_logical", "average"} & set(metrics["intervals"][level])


def test_rates_have_exact_intervals_and_none_in_ten_is_not_none_at_all():
    unit = Unit({"good": list(np.arange(10.0)), "logical": [11.0, 12.0], "structural": [1.0, 12.0]})
    metrics = unit.evaluate(Decision(9.5, 0.05, 40)).metrics
    assert metrics["decision"]["false_alarm_rate_observed"] == 0
    assert metrics["intervals"]["decision"]["false_alarm_rate_observed"] == [0, 0.3085]
    assert metrics["intervals"]["decision"]["detection_rate_logical"] == [0.1581, 1]
    assert metrics["intervals"]["decision"]["detection_rate"] == [0.1941, 0.9937]


def test_a_missing_saturation_makes_no_wrong_number():
    unit = Unit()
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit, "x.png: 37 has no entry")).metrics
    assert metrics["pixel"]["spro_5"] is None and metrics["pixel"]["aupro"] is not None
    assert reasons(metrics)["pixel.spro"] == "x.png: 37 has no entry"


def test_a_category_without_an_anomalous_image():
    unit = Unit({"good": [1.0, 2.0, 3.0]})
    metrics = evaluate_unit(unit.manifest, unit.scores, unit.maps, with_defects(unit), Decision(2.5, 0.05, 40)).metrics
    assert metrics["defects"] == {}
    for level in ("image", "pixel"):
        assert all(value is None for value in metrics[level].values())
        assert reasons(metrics)[f"{level}.auroc"] == "no anomalous samples"
    assert metrics["decision"]["false_alarm_rate_observed"] == pytest.approx(1 / 3, abs=1e-6)


# ---- two runs


def written(folder, unit, **options):
    evaluation = evaluate_unit(unit.manifest, unit.scores, unit.maps, unit.truth, Decision(3.5, 0.05, 40), **options)
    (folder / "kit").mkdir(parents=True)
    (folder / "kit/metrics.json").write_text(metrics_json(evaluation.metrics))
    write_replicates(evaluation.cells, folder / "kit/replicates.parquet")
    return folder


def test_two_runs_are_compared_on_the_same_images(tmp_path):
    scores = {"good": list(np.arange(30.0)), "logical": [20.5] * 9, "structural": [14.5, 16.5, 26.5] * 4}
    better = scores | {"logical": [28.5] * 9}
    before, after = written(tmp_path / "a", Unit(scores)), written(tmp_path / "b", Unit(better))
    found = {c.difference.metric: c for c in compare_runs(before, after)}
    assert found["image.auroc_logical"].verdict == "higher"
    assert found["image.auroc_structural"].verdict == "equal"
    assert found["image.auroc_logical"].difference.difference == pytest.approx(8 / 30)
    assert {c.verdict for c in compare_runs(before, before)} == {"equal"}
    assert len(compare_runs(before, after, everything=True)) > len(found)
    text = comparison_markdown(compare_runs(before, after))
    assert "| kit | image.auroc_logical | 70.0 | 96.7 | +26.7 [" in text and "within noise" in text


def test_runs_that_cannot_be_paired_say_why(tmp_path):
    run = written(tmp_path / "a", Unit())
    more = written(tmp_path / "b", Unit(SCORES | {"good": [1.0, 2.0]}))
    seeded = written(tmp_path / "c", Unit(), bootstrap=Bootstrap(50, seed=1))
    with pytest.raises(ArtifactError, match="other test images; a paired test needs the same ones"):
        compare_runs(run, more)
    with pytest.raises(ArtifactError, match=r"evaluate\.resamples 500 and 50, evaluate\.seed 0 and 1"):
        compare_runs(run, seeded)
    with pytest.raises(ArtifactError, match="no unit was evaluated in both"):
        compare_runs(run, tmp_path)
    (run / "kit/metrics.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"no evaluation with intervals .*dvc repro evaluate@kit"):
        compare_runs(run, run)


def test_replicates_come_back_and_have_equal_bytes(tmp_path):
    written(tmp_path / "a", Unit())
    written(tmp_path / "b", Unit())
    one, other = (tmp_path / run / "kit/replicates.parquet" for run in "ab")
    assert one.read_bytes() == other.read_bytes()
    cells = read_replicates(one)
    assert cells["image", "auroc"].value == pytest.approx(0.85) and len(cells["image", "auroc"].replicates) == 501


def test_the_compare_command_prints_or_writes_and_names_what_is_missing(tmp_path, monkeypatch):
    before, after = written(tmp_path / "before", Unit()), written(tmp_path / "artifacts", Unit())
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(app, ["compare", str(before), "--unit", "kit"])
    assert (
        printed.exit_code == 0
        and "| kit | image.auroc | 85.0 | 85.0 | +0.0 [+0.0, +0.0] | 1.000 | equal |" in printed.output
    )
    assert CliRunner().invoke(app, ["compare", str(before), str(after), "--out", "reports/two.md"]).exit_code == 0
    assert (tmp_path / "reports/two.md").read_text().strip() == printed.output.strip()
    missing = CliRunner().invoke(app, ["compare", str(before), "--unit", "cup"])
    assert missing.exit_code == 1 and "dvc repro evaluate@cup" in str(missing.exception)
