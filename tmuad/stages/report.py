"""Tables, panels and the page, from what the units' stages left."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tmuad.config import Params
from tmuad.engine import load_image
from tmuad.evaluate.threshold import markdown, thresholds
from tmuad.parquet import read_parquet, write_artifact
from tmuad.report.models import models_in_use, models_markdown, models_title
from tmuad.report.pages import write_page
from tmuad.report.panels import Example, choose_examples, write_panels
from tmuad.report.paper.collect import collect
from tmuad.report.paper.page import LINKS, sections
from tmuad.report.tables import load_results, results_csv, results_markdown
from tmuad.score.fuse import load_calibration
from tmuad.stages.maps import bank_maps, truth_masks
from tmuad.workspace import REPORTS, UnitPaths


def run(params: Params) -> None:
    for unit in params.units:
        threshold = load_calibration(UnitPaths(unit).calibration).threshold
        write_panels(REPORTS / "panels" / unit, _examples(params, unit), threshold, workers=params.data.workers)
    results = load_results(params.units)
    title, models = models_title(params), models_in_use(params)
    write_artifact(REPORTS / "results.md", (results_markdown(results) + models_markdown(title, models)).encode())
    write_artifact(REPORTS / "results.csv", results_csv(results).encode())
    write_page(REPORTS, results, (title, models), sections(REPORTS, params, collect(params)), LINKS)
    promises = [thresholds(unit, params.decide.of(unit).false_alarm_rate) for unit in params.units]
    write_artifact(REPORTS / "thresholds.md", (markdown(promises) + models_markdown(title, models)).encode())


def _examples(params: Params, unit: str) -> list[Callable[[], Example]]:
    """What makes each: an image and its maps are made when they are drawn."""
    paths, root = UnitPaths(unit), Path(params.unit(unit).root)
    manifest, scores = read_parquet(paths.manifest).to_pandas(), read_parquet(paths.scores).to_pandas()
    test = manifest[manifest["split"] == "test"].merge(scores[["image_id", "score"]], on="image_id")
    findings = read_parquet(paths.findings, ["image_id", "sentence"]).to_pandas()
    maps = bank_maps(params, unit, load_calibration(paths.calibration))
    masks = truth_masks(params, unit)
    rows = test.set_index("path")

    def example(path: str, role: str) -> Example:
        row = rows.loc[path]
        return Example(
            image_id=row["image_id"],
            path=path,
            kind=row["kind"],
            defect=row["defect"],
            role=role,
            score=float(row["score"]),
            reasons=tuple(findings.loc[findings["image_id"] == row["image_id"], "sentence"]),
            image=load_image(root / path, params.data),
            truth=masks(path) if row["kind"] != "good" and len(row["masks"]) else None,
            fused=maps(row["image_id"])["fused"],
        )

    return [partial(example, path, role) for path, role in choose_examples(test)]
