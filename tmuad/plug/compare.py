"""A detector with and without the text bank: AUROC of images and pixels by kind of anomaly, with paired intervals."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tmuad.errors import DataError
from tmuad.evaluate.bootstrap import Bootstrap
from tmuad.evaluate.cells import DIGITS, INTERVAL_DIGITS, Cell, Cells, Key, rounded
from tmuad.evaluate.compare import Difference, paired_difference
from tmuad.evaluate.evaluate import Decision, Evaluation, evaluate_unit
from tmuad.parquet import read_parquet
from tmuad.plug.adapters import some
from tmuad.plug.fusion import FusedImage, Result
from tmuad.stages.maps import truths
from tmuad.workspace import UnitPaths

LEVELS = ("image", "pixel")
KINDS = {"all": "auroc", "logical": "auroc_logical", "structural": "auroc_structural", "average": "average"}
WITH: Key = ()
WITHOUT: Key = ("banks", "patches")  # the detector stands where the patch bank does
TEXT: Key = ("banks", "text")


@dataclass(frozen=True)
class Figure:
    """One AUROC, three times."""

    level: str  # image or pixel
    kind: str  # all, logical, structural, or average of these two
    without: Cell
    with_text: Cell
    text_alone: Cell
    difference: Difference | None  # with less without, on the same resamples of the same images


@dataclass(frozen=True)
class ImageRow:
    """One test image."""

    path: str
    kind: str
    defect: str
    image: FusedImage


@dataclass(frozen=True)
class Comparison:
    """The figures of a detector with and without M_T on one unit."""

    method: str
    unit: str
    profile: str
    weight: float
    splits: dict[str, int]  # images the scale is from, by split
    remarks: tuple[str, ...]
    digests: dict[str, str]  # of the text bank, and of the detector's scores
    figures: tuple[Figure, ...]
    metrics: dict[str, Any]  # the tree of metrics.json; the detector has the name "patches" in it
    rows: tuple[ImageRow, ...]  # the test images by path

    def figure(self, level: str, kind: str) -> Figure:
        return next(figure for figure in self.figures if (figure.level, figure.kind) == (level, kind))

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain data: the same for the same maps, bank and parameters."""
        tree: dict[str, Any] = {level: {} for level in LEVELS}
        for figure in self.figures:
            tree[figure.level][figure.kind] = {
                "without": _entry(figure.without),
                "with": _entry(figure.with_text),
                "text_alone": _entry(figure.text_alone),
                "difference": _difference(figure.difference),
            }
        return {
            "method": self.method,
            "unit": self.unit,
            "profile": self.profile,
            "weight": self.weight,
            "metric": "auroc",
            "figures": tree,
            "images": self.metrics["counts"],
            "decision": self.metrics["decision"],
            "calibration": {"images": self.splits, "remarks": list(self.remarks)},
            "bootstrap": self.metrics["bootstrap"][0],
            "digests": self.digests,
            "absent": [entry for entry in self.metrics["reasons"] if not entry["metric"].startswith("banks.")],
        }


def compare(result: Result, method: str) -> Comparison:
    """See `Result.compare`."""
    fusion, bank = result.fusion, result.fusion.bank
    params, paths = bank.params, UnitPaths(bank.unit)
    manifest = read_parquet(paths.manifest).to_pandas()
    test = manifest[manifest["split"] == "test"].sort_values("path", kind="stable")
    # Another file of equal content has the same map.
    found = {
        path: result.images.get(path) or result.by_id.get(i)
        for path, i in zip(test["path"], test["image_id"], strict=True)
    }
    if missing := [path for path, image in found.items() if image is None]:
        raise DataError(
            f"{bank.unit}: {len(missing)} test images have no map: {some(missing)}; a comparison is of all of them: "
            "run the detector on these as well"
        )
    images = [image for image in found.values() if image is not None]
    scores = pd.DataFrame(
        {
            "image_id": [image.image_id for image in images],
            "score": [image.score for image in images],
            "s_text": [float(_text_peak(image)) for image in images],
            "s_objects": 0.0,
            "s_patches": [image.alone for image in images],
        }
    )

    def maps(image_id: str) -> dict[str, Any]:
        mine = result.maps_of(result.by_id[image_id].name)
        return {"fused": mine["fused"], "text": mine["text"], "patches": mine["detector"]}

    decision = None
    if math.isfinite(fusion.threshold):
        decision = Decision(fusion.threshold, fusion.calibration.false_alarm_rate, len(fusion.normal_scores))
    bootstrap = Bootstrap(params.evaluate.resamples, params.evaluate.seed)
    evaluation = evaluate_unit(test, scores, maps, truths(params, bank.unit), decision, bootstrap)
    rows = zip(test["path"], test["kind"], test["defect"], images, strict=True)
    return Comparison(
        method=method,
        unit=bank.unit,
        profile=params.profile,
        weight=fusion.weight,
        splits=fusion.splits,
        remarks=fusion.remarks,
        digests={
            "text_bank": hashlib.sha256(paths.text_entries.read_bytes()).hexdigest(),
            "scores": _digest(test, images),
        },
        figures=_figures(evaluation),
        metrics=evaluation.metrics,
        rows=tuple(ImageRow(*row) for row in rows),
    )


def _text_peak(image: FusedImage) -> float:
    """Maximum of S_T: the strongest finding of the text bank."""
    return max((f.strength for f in image.findings if f.attribute != "appearance"), default=0.0)


def _digest(test: pd.DataFrame, images: list[FusedImage]) -> str:
    lines = [f"{path}\t{image.alone:.6g}" for path, image in zip(test["path"], images, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _figures(evaluation: Evaluation) -> tuple[Figure, ...]:
    cells: Cells = evaluation.cells
    figures = []
    for level in LEVELS:
        for kind, name in KINDS.items():
            if (level, name) not in cells:  # no masks, no pixel figures
                continue
            before, after, text = (cells[(*place, level, name)] for place in (WITHOUT, WITH, TEXT))
            change = paired_difference(
                f"{level}.{name}", before.value, after.value, before.replicates, after.replicates
            )
            figures.append(Figure(level, kind, before, after, text, change))
    return tuple(figures)


def _entry(cell: Cell) -> dict[str, Any]:
    low, high = cell.interval
    known = math.isfinite(low)
    interval = [round(low, INTERVAL_DIGITS), round(high, INTERVAL_DIGITS)] if known else None
    return {"auroc": rounded(cell.value), "interval": interval}


def _difference(change: Difference | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "value": round(change.difference, DIGITS),
        "interval": [round(change.low, INTERVAL_DIGITS), round(change.high, INTERVAL_DIGITS)],
        "p": round(change.p, INTERVAL_DIGITS),
        "within_noise": change.within_noise,
    }
