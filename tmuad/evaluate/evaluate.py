"""All figures of one unit: image and pixel level, by kind and type of defect, each bank alone, and the decision.

Everything is computed in one pass over the maps, one image in memory at a time. Every figure has an interval.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad.errors import ArtifactError
from tmuad.evaluate.bootstrap import LEVEL, Bootstrap, image_weights
from tmuad.evaluate.cells import (
    DIGITS,
    KINDS,
    Cell,
    Cells,
    Reasons,
    Tree,
    by_kind,
    explain,
    interval_tree,
    rounded,
    trusted,
    value_tree,
)
from tmuad.evaluate.compare import against
from tmuad.evaluate.groups import MapFigures, Maps, Masks, PixelFigures, pixel_figures_of
from tmuad.evaluate.image_metrics import image_figures, rank
from tmuad.evaluate.ranking import Ranking
from tmuad.evaluate.threshold import clopper_pearson

FUSED = "fused"  # the name of the three banks together, among the maps
COLUMNS = {FUSED: "score", "text": "s_text", "objects": "s_objects", "patches": "s_patches"}  # of scores.parquet


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
    cells: Cells = field(default_factory=dict)  # every figure with its replicates


def evaluate_unit(
    manifest: pd.DataFrame,
    scores: pd.DataFrame,
    maps: Maps,
    masks: Masks,
    decision: Decision | None = None,
    bootstrap: Bootstrap = Bootstrap(),  # noqa: B008  (frozen)
    workers: int | None = None,
) -> Evaluation:
    """The figures of one unit, from the rows of `manifest` whose split is "test".

    `scores` has a row for each image_id and the columns of `COLUMNS`; a column "s_a+b" gives the banks a and b
    together. `masks` is called for the anomalous images that name mask files. A figure that does not exist is None,
    and `metrics["reasons"]` says why (a list, because dvc prints every string in a mapping as a metric).
    `metrics["intervals"]` repeats the tree of figures with [low, high] in place of each that has an interval.

    Raises:
        ArtifactError: an image has no score, a score or a map is not finite, or a map and its mask differ in size.
    """
    test = manifest[manifest["split"] == "test"].sort_values("path", kind="stable").reset_index(drop=True)
    if "defect" not in test.columns:
        test["defect"] = test["kind"]
    pairs = [c for c in sorted(scores.columns) if c.startswith("s_") and "+" in c and scores[c].notna().any()]
    columns = {**COLUMNS, **{c.removeprefix("s_"): c for c in pairs}}
    table = _joined(test, scores, list(columns.values()))
    weights = image_weights(list(test["image_id"]), bootstrap)
    unmasked = _unmasked(test)
    masked = ~test["path"].isin(unmasked).to_numpy()
    pixels = pixel_figures_of(test[masked], weights[masked], maps, masks, bootstrap, FUSED, workers)
    reasons: Reasons = []
    cells: Cells = {}
    for name, column in columns.items():
        place = () if name == FUSED else ("banks", name)
        _add_image_cells(cells, reasons, place, table, column, weights)
        if name in pixels.maps:
            _add_pixel_cells(cells, reasons, place, pixels.maps[name])
    _add_defect_cells(cells, table, pixels, weights)
    decided, promise = _decision(table, weights, decision, reasons)
    cells |= decided
    if unmasked:
        reasons.append(("pixel", f"{len(unmasked)} anomalous images have no mask and are left out: {_some(unmasked)}"))
    if pixels.problems:
        reasons.append(("pixel.spro", "; ".join(dict.fromkeys(pixels.problems))))
    if test.empty:  # one reason for all, rather than one each
        kept = [r for r in reasons if r[0] in ("decision", "decision.threshold", "decision.false_alarm_rate_promised")]
        reasons = [("all figures", "no test images; the unit is fitted, and new images can be scored"), *kept]
    metrics: Tree = {"banks": {}, "decision": {}, "defects": {}} | value_tree(cells)
    metrics["decision"] |= promise
    metrics |= {
        "counts": _counts(test),
        "intervals": interval_tree(cells),
        "comparisons": against(cells, [name for name in columns if name != FUSED]),
        "bootstrap": [_bootstrap_entry(test, bootstrap)],
        "reasons": [{"metric": metric, "reason": reason} for metric, reason in sorted(reasons)],
    }
    curves = {"image": _image_ranking(table, COLUMNS[FUSED], KINDS)}
    if FUSED in pixels.maps and (ranking := pixels.maps[FUSED].ranking) is not None:
        curves["pixel"] = ranking
    return Evaluation(metrics, {level: _curve(ranking) for level, ranking in curves.items()}, cells)


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
    table = test[["path", "kind", "defect"]].copy()
    for column in columns:
        values = unique.loc[test["image_id"], column].to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            first = int(wrong[0])
            raise ArtifactError(f"{table['path'][first]}: {column} is {values[first]}; run the score stage again")
        table[column] = values
    return table


def _image_ranking(table: pd.DataFrame, column: str, kinds: Sequence[str]) -> Ranking:
    """Good images against those of the given kinds."""
    chosen = table[table["kind"].isin(["good", *kinds])]
    return rank(chosen[column].to_numpy(), (chosen["kind"] != "good").to_numpy())


def _image_cells(
    table: pd.DataFrame, column: str, weights: NDArray[np.float32], chosen: NDArray[np.bool_]
) -> dict[str, Cell]:
    """The figures of the `chosen` (N,) images, good ones against the others."""
    anomalous = (table["kind"] != "good").to_numpy()[chosen]
    figures = image_figures(table[column].to_numpy()[chosen], anomalous, weights[chosen])
    cells = {name: Cell(float(values[0]), values) for name, values in figures.items()}
    return trusted(cells, int(anomalous.sum()), int((~anomalous).sum()))


def _add_image_cells(
    cells: Cells,
    reasons: Reasons,
    place: tuple[str, ...],
    table: pd.DataFrame,
    column: str,
    weights: NDArray[np.float32],
) -> None:
    def chosen(kinds: Sequence[str]) -> NDArray[np.bool_]:
        return table["kind"].isin(["good", *kinds]).to_numpy()

    found = by_kind(lambda kinds: _image_cells(table, column, weights, chosen(kinds)))
    cells |= {(*place, "image", name): cell for name, cell in found.items()}
    reasons += explain(found, lambda kinds: _image_ranking(table, column, kinds).problem, ".".join((*place, "image")))


def _add_pixel_cells(cells: Cells, reasons: Reasons, place: tuple[str, ...], found: MapFigures) -> None:
    cells |= {(*place, "pixel", figure): cell for figure, cell in found.cells.items()}
    reasons += explain(found.cells, lambda kinds: found.problems[tuple(kinds)], ".".join((*place, "pixel")))


def _add_defect_cells(cells: Cells, table: pd.DataFrame, pixels: PixelFigures, weights: NDArray[np.float32]) -> None:
    """Good images against those with one type of defect; without masks the type is the folder's name."""
    good = (table["kind"] == "good").to_numpy()
    by_defect = pixels.maps[FUSED].defects if FUSED in pixels.maps else {}
    types = [pixels.types.get(path, (defect,)) for path, defect in zip(table["path"], table["defect"], strict=True)]
    for defect in sorted({one for row, kinds in zip(good, types, strict=True) if not row for one in kinds}):
        mine = np.array([defect in kinds for kinds in types]) & ~good
        place = ("defects", defect)
        cells[(*place, "images")] = Cell(int(mine.sum()), np.full(1, np.nan))
        found = _image_cells(table, COLUMNS[FUSED], weights, good | mine)
        cells |= {(*place, "image", name): cell for name, cell in found.items()}
        cells |= {(*place, "pixel", name): cell for name, cell in by_defect.get(defect, {}).items()}


def _decision(
    table: pd.DataFrame, weights: NDArray[np.float32], decision: Decision | None, reasons: Reasons
) -> tuple[Cells, Tree]:
    """What the threshold does on the test images, and what was promised."""
    if decision is None:
        reasons.append(("decision", "no threshold was set"))
        return {}, {}
    above = (table[COLUMNS[FUSED]] > decision.threshold).to_numpy()
    cells: Cells = {}
    groups = {"false_alarm_rate_observed": ["good"], "detection_rate": list(KINDS)}
    groups |= {f"detection_rate_{kind}": [kind] for kind in KINDS}
    for key, kinds in groups.items():
        chosen = table["kind"].isin(kinds).to_numpy()
        drawn = weights[chosen].sum(axis=0, dtype=np.float64)
        hits = weights[chosen & above].sum(axis=0, dtype=np.float64)
        rates = np.divide(hits, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
        # A share of images needs no resampling, and none in ten is not proof of none at all.
        ends = clopper_pearson(int(hits[0]), int(drawn[0]), LEVEL) if len(rates) > 1 and chosen.any() else None
        cells["decision", key] = Cell(float(rates[0]), rates, ends)
        if not chosen.any():
            reasons.append((f"decision.{key}", f"no {' or '.join(kinds)} test images"))
    if not math.isfinite(decision.threshold):
        reasons.append(("decision.threshold", "no held-out normal image to set it from: every image passes"))
    elif (decision.normals + 1) * decision.false_alarm_rate < 1:
        promised = f"{100 * decision.false_alarm_rate:g} %"
        too_few = f"{decision.normals} held-out normal images are too few to promise {promised}"
        reasons.append(("decision.false_alarm_rate_promised", too_few))
    return cells, {
        "threshold": rounded(decision.threshold),
        "normals": decision.normals,
        "false_alarm_rate_promised": rounded(decision.false_alarm_rate),
    }


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


def _bootstrap_entry(test: pd.DataFrame, bootstrap: Bootstrap) -> Tree:
    """How the intervals came about, and of which images: runs are compared only on the same ones."""
    images = hashlib.sha256("\n".join(sorted(test["image_id"])).encode()).hexdigest()
    return {"level": LEVEL, "resamples": bootstrap.resamples, "seed": bootstrap.seed, "images": images}
