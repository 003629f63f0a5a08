"""All figures of one unit, on a data set of a few pixels whose figures can be worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tmuad.errors import ArtifactError
from tmuad.evaluate.evaluate import Decision, evaluate_unit, metrics_json

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
