"""Results of the banks, verdicts and findings as rows of the tables in `tmuad.tables`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tmuad import masks
from tmuad.masks import Runs
from tmuad.parquet import rows_of
from tmuad.score.banks import BankResult
from tmuad.score.judge import Verdict
from tmuad.score.sentences import Names, sentence
from tmuad.score.text import Finding


def result_row(result: BankResult) -> dict[str, Any]:
    """Row of BANK_SCORES_SCHEMA; the findings lie in a table of their own."""
    return {
        "image_id": result.image_id,
        "nearest_image_id": result.nearest,
        "region_runs": [runs.tolist() for runs in result.regions],
        "region_distance": result.region_distance.tolist(),
        "grid": list(result.patch_distance.shape),
        "patch_distance": result.patch_distance.ravel().tolist(),
    }


def finding_rows(result: BankResult) -> list[dict[str, Any]]:
    """Rows of BANK_FINDINGS_SCHEMA."""
    return [{"image_id": result.image_id, **vars(f), "region": f.region.tolist()} for f in result.findings]


def read_results(scores: pa.Table, findings: pa.Table) -> list[BankResult]:
    """The results behind `result_row` and `finding_rows`, in the order of `scores`."""
    found = read_findings(findings)
    results = []
    for i in range(scores.num_rows):
        row = {name: scores[name][i] for name in scores.column_names}
        image_id = row["image_id"].as_py()
        grid = row["patch_distance"].values.to_numpy().reshape(row["grid"].as_py())
        distance = row["region_distance"].values.to_numpy()
        results.append(
            BankResult(
                image_id=image_id,
                findings=found.get(image_id, []),
                nearest=row["nearest_image_id"].as_py(),
                regions=[runs.values.to_numpy() for runs in row["region_runs"]],
                region_distance=distance,
                patch_distance=grid,
            )
        )
    return results


def read_findings(table: pa.Table) -> dict[str, list[Finding]]:
    """image_id -> the findings behind `finding_rows`, in their order; images without any are left out."""
    found: dict[str, list[Finding]] = {}
    for row in rows_of(table):
        region = np.array(row.pop("region"), dtype=np.uint32)
        found.setdefault(row.pop("image_id"), []).append(Finding(**row, region=region))
    return found


def open_regions(segments: pa.Table) -> dict[str, list[Runs]]:
    """image_id -> masks of its open segments, in their order."""
    regions: dict[str, list[Runs]] = {}
    columns = (segments[name] for name in ("image_id", "source", "runs"))
    for image_id, source, runs in zip(*columns, strict=True):
        if source.as_py() == "open":
            regions.setdefault(image_id.as_py(), []).append(runs.values.to_numpy())
    return regions


def score_row(verdict: Verdict, p_value: float, pairs: Mapping[str, float]) -> dict[str, Any]:
    """Row of SCORES_SCHEMA; `pairs` are the scores of two banks, under "text+objects" and so on."""
    return {
        "image_id": verdict.image_id,
        **{f"s_{bank}": value for bank, value in verdict.maxima.items()},
        "score": verdict.score,
        **{f"s_{pair}": value for pair, value in pairs.items()},
        "p_value": p_value,
    }


def verdict_row(verdict: Verdict, nearest: str) -> dict[str, Any]:
    """Row of VERDICTS_SCHEMA."""
    return {
        "image_id": verdict.image_id,
        "verdict": "anomalous" if verdict.anomalous else "good",
        "score": verdict.score,
        "threshold": verdict.threshold,
        **{f"share_{bank}": share for bank, share in verdict.shares.items()},
        "nearest_image_id": nearest,
    }


def worded_findings(verdict: Verdict, names: Names, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of FINDINGS_SCHEMA, strongest reason first."""
    rows = []
    for rank, finding in enumerate(verdict.findings, start=1):
        x0, y0, x1, y1 = masks.box(finding.region, shape)
        rows.append(
            {
                "image_id": verdict.image_id,
                "rank": rank,
                "object_class": finding.object_class,
                "attribute": finding.attribute,
                "expected": finding.expected,
                "found": finding.found,
                "strength": finding.strength,
                "x0": x0, "y0": y0, "x1": x1, "y1": y1,
                "runs": finding.region.tolist(),
                "sentence": sentence(finding, names),
            }
        )  # fmt: skip
    return rows
