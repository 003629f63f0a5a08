"""All figures of one unit: image and pixel level, logical and structural apart, each bank alone, and the decision.

Everything is computed in one pass over the maps, one image in memory at a time.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad.errors import ArtifactError
from tmuad.evaluate.image_metrics import rank
from tmuad.evaluate.pixel_metrics import PixelHistogram, merged
from tmuad.evaluate.ranking import Ranking

FUSED = "fused"  # the name of the three banks together, among the maps
COLUMNS = {FUSED: "score", "text": "s_text", "objects": "s_objects", "patches": "s_patches"}  # of scores.parquet
KINDS = ("logical", "structural")
DIGITS = 6  # figures are rounded, so that a change of the last bit changes no file

Maps = Callable[[str], Mapping[str, NDArray[np.floating]]]  # image_id -> {"fused": (S, S), "text": (S, S), ...}
Masks = Callable[[str], NDArray[np.bool_]]  # path in the manifest -> ground truth (S, S)
Tree = dict[str, Any]  # nested, JSON-ready


@dataclass(frozen=True)
class Decision:
    """The threshold that `score > threshold` decides by, and what was promised of it."""

    threshold: float
    false_alarm_rate: float  # promised
    normals: int  # held-out normal images it was set from


@dataclass(frozen=True)
class Evaluation:
    metrics: Tree  # what metrics.json holds
    curves: dict[str, pd.DataFrame]  # "image", "pixel" -> ROC points (fpr, tpr), at most 200


def evaluate_unit(
    manifest: pd.DataFrame, scores: pd.DataFrame, maps: Maps, masks: Masks, decision: Decision | None = None
) -> Evaluation:
    """The figures of one unit, from the rows of `manifest` whose split is "test".

    `scores` has a row for each image_id and the columns of `COLUMNS`; a column "s_a+b" gives the banks a and b
    together. `masks` is called for the anomalous images that name mask files. A figure that does not exist is None,
    and `metrics["reasons"]` says why (a list, because dvc prints every string in a mapping as a metric).

    Raises:
        ArtifactError: an image has no score, a score or a map is not finite, or a map and its mask differ in size.
    """
    test = manifest[manifest["split"] == "test"].sort_values("path", kind="stable")
    pairs = [c for c in sorted(scores.columns) if c.startswith("s_") and "+" in c and scores[c].notna().any()]
    columns = {**COLUMNS, **{c.removeprefix("s_"): c for c in pairs}}
    table = _joined(test, scores, list(columns.values()))
    pixels = _pixel_histograms(test, maps, masks)
    reasons: list[tuple[str, str]] = []
    metrics: Tree = {"banks": {}, "counts": _counts(test)}
    for name, column in columns.items():
        levels = metrics if name == FUSED else metrics["banks"].setdefault(name, {})
        prefix = "" if name == FUSED else f"banks.{name}."
        levels["image"] = _figures(_image_rankings(table, column), f"{prefix}image", reasons)
        if name in pixels:
            levels["pixel"] = _figures(_pixel_rankings(pixels[name]), f"{prefix}pixel", reasons)
    metrics["decision"] = _decision(table, decision, reasons)
    unmasked = _unmasked(test)
    if unmasked:
        reasons.append(("pixel", f"{len(unmasked)} anomalous images have no mask and are left out: {_some(unmasked)}"))
    if test.empty:  # one reason for all, rather than one each
        kept = [r for r in reasons if r[0] in ("decision", "decision.threshold", "decision.false_alarm_rate_promised")]
        reasons = [("all figures", "no test images; the unit is fitted, and new images can be scored"), *kept]
    metrics["reasons"] = [{"metric": metric, "reason": reason} for metric, reason in sorted(reasons)]
    curves = {"image": _image_rankings(table, COLUMNS[FUSED])(KINDS)}
    if FUSED in pixels:
        curves["pixel"] = _pixel_rankings(pixels[FUSED])(KINDS)
    return Evaluation(_tidy(metrics), {level: _curve(ranking) for level, ranking in curves.items()})


def metrics_json(metrics: Tree) -> str:
    """`metrics` as the text of metrics.json: sorted keys, no NaN, a newline at the end."""
    return json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _joined(test: pd.DataFrame, scores: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The test images with their scores."""
    lacking = [column for column in columns if column not in scores.columns]
    if lacking:
        raise ArtifactError(f"scores have no column {', '.join(lacking)}; run the score stage again")
    unique = scores.drop_duplicates("image_id").set_index("image_id")
    unscored = [str(row.path) for row in test.itertuples() if row.image_id not in unique.index]
    if unscored:
        raise ArtifactError(f"{len(unscored)} test images have no score: {_some(unscored)}; run the score stage again")
    table = test[["path", "kind"]].reset_index(drop=True)
    for column in columns:
        values = unique.loc[test["image_id"], column].to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            first = int(wrong[0])
            raise ArtifactError(f"{table['path'][first]}: {column} is {values[first]}; run the score stage again")
        table[column] = values
    return table


def _pixel_histograms(test: pd.DataFrame, maps: Maps, masks: Masks) -> dict[str, dict[str, PixelHistogram]]:
    """By name of the map and kind of the image. An anomalous image without a mask has no truth to be compared with."""
    histograms: dict[str, dict[str, PixelHistogram]] = {}
    unmasked = set(_unmasked(test))
    for row in test.itertuples():
        path, kind = str(row.path), str(row.kind)
        if path in unmasked:
            continue
        truth = None if kind == "good" else masks(path)
        for name, scores in maps(str(row.image_id)).items():
            by_kind = histograms.setdefault(name, {})
            try:
                by_kind.setdefault(kind, PixelHistogram()).add(scores, truth, f"{path}: the {name} map")
            except ValueError as error:
                raise ArtifactError(f"{error}; run the score stage again") from None
    return histograms


def _image_rankings(table: pd.DataFrame, column: str) -> Callable[[Sequence[str]], Ranking]:
    """Good images against those of the given kinds."""

    def ranking(kinds: Sequence[str]) -> Ranking:
        chosen = table[table["kind"].isin(["good", *kinds])]
        return rank(chosen[column].to_numpy(), (chosen["kind"] != "good").to_numpy())

    return ranking


def _pixel_rankings(by_kind: Mapping[str, PixelHistogram]) -> Callable[[Sequence[str]], Ranking]:
    """Pixels of the good images and of those of the given kinds."""
    return lambda kinds: merged(by_kind[kind] for kind in ("good", *kinds) if kind in by_kind).ranking()


def _figures(ranking: Callable[[Sequence[str]], Ranking], where: str, reasons: list[tuple[str, str]]) -> Tree:
    """AUROC on all anomalies and by kind, their average, AP and F1-max."""
    figures: Tree = {}
    whole = ranking(KINDS)
    figures["auroc"], figures["ap"], figures["f1_max"] = whole.auroc(), whole.average_precision(), whole.f1_max()[0]
    if whole.problem:
        reasons += [(f"{where}.{key}", whole.problem) for key in ("auroc", "ap", "f1_max")]
    parts = []
    for kind in KINDS:
        part = ranking((kind,))
        parts.append(part.auroc())
        figures[f"auroc_{kind}"] = parts[-1]
        if part.problem:
            reasons.append((f"{where}.auroc_{kind}", part.problem.replace("anomalous", kind)))
    figures["average"] = sum(parts) / len(
        parts
    )  # Tables IV and V of the paper; Table I averages "auroc" over categories
    if math.isnan(figures["average"]):
        reasons.append((f"{where}.average", "needs both the logical and the structural AUROC"))
    return figures


def _decision(table: pd.DataFrame, decision: Decision | None, reasons: list[tuple[str, str]]) -> Tree:
    """What the threshold does on the test images."""
    if decision is None:
        reasons.append(("decision", "no threshold was set"))
        return {}
    above = table[COLUMNS[FUSED]] > decision.threshold
    figures: Tree = {
        "threshold": decision.threshold,
        "normals": decision.normals,
        "false_alarm_rate_promised": decision.false_alarm_rate,
    }
    groups = {"false_alarm_rate_observed": ["good"], "detection_rate": list(KINDS)}
    groups |= {f"detection_rate_{kind}": [kind] for kind in KINDS}
    for key, kinds in groups.items():
        chosen = above[table["kind"].isin(kinds)]
        figures[key] = float(chosen.mean()) if len(chosen) else math.nan
        if not len(chosen):
            reasons.append((f"decision.{key}", f"no {' or '.join(kinds)} test images"))
    if not math.isfinite(decision.threshold):
        reasons.append(("decision.threshold", "no held-out normal image to set it from: every image passes"))
    elif (decision.normals + 1) * decision.false_alarm_rate < 1:
        promised = f"{100 * decision.false_alarm_rate:g} %"
        too_few = f"{decision.normals} held-out normal images are too few to promise {promised}"
        reasons.append(("decision.false_alarm_rate_promised", too_few))
    return figures


def _counts(test: pd.DataFrame) -> Tree:
    return {kind: int((test["kind"] == kind).sum()) for kind in ("good", *KINDS)}


def _unmasked(test: pd.DataFrame) -> list[str]:
    return [
        path
        for path, kind, masks in zip(test["path"], test["kind"], test["masks"], strict=True)
        if kind != "good" and not len(masks)
    ]


def _curve(ranking: Ranking) -> pd.DataFrame:
    return pd.DataFrame(ranking.roc_curve().round(DIGITS), columns=["fpr", "tpr"])


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _tidy(value: Any) -> Any:
    """Rounded, and None for NaN and infinity, which JSON cannot say."""
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
