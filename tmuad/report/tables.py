"""Results of all units as tables: Markdown for people, CSV for machines."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Cell, Cells, Key
from tmuad.evaluate.replicates import read_replicates
from tmuad.report.markdown import difference_cell, markdown_table, with_interval
from tmuad.workspace import ARTIFACTS, UnitPaths

BANKS = ("text", "objects", "patches")
BOUNDS = ("_low", "_high")
PROBLEM_COLUMNS = ("path", "problem", "decision")

# column of results.csv -> (heading, keys into metrics.json)
FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "image_auroc_logical": ("image, logical", ("image", "auroc_logical")),
    "image_auroc_structural": ("image, structural", ("image", "auroc_structural")),
    "image_auroc": ("image, all", ("image", "auroc")),
    "image_average": ("image, average", ("image", "average")),
    "pixel_auroc_logical": ("pixel, logical", ("pixel", "auroc_logical")),
    "pixel_auroc_structural": ("pixel, structural", ("pixel", "auroc_structural")),
    "pixel_auroc": ("pixel, all", ("pixel", "auroc")),
    "pixel_average": ("pixel, average", ("pixel", "average")),
}
EXTRA = {
    "image_ap": ("image", "ap"),
    "image_f1_max": ("image", "f1_max"),
    "pixel_ap": ("pixel", "ap"),
    "pixel_f1_max": ("pixel", "f1_max"),
    "pixel_aupro": ("pixel", "aupro"),
    "pixel_aupro_logical": ("pixel", "aupro_logical"),
    "pixel_aupro_structural": ("pixel", "aupro_structural"),
    "pixel_spro_5": ("pixel", "spro_5"),
    "pixel_spro_5_logical": ("pixel", "spro_5_logical"),
    "pixel_spro_5_structural": ("pixel", "spro_5_structural"),
    "pixel_spro_5_average": ("pixel", "spro_5_average"),
    "pixel_spro_30": ("pixel", "spro_30"),
    "threshold": ("decision", "threshold"),
    "false_alarm_rate_promised": ("decision", "false_alarm_rate_promised"),
    "false_alarm_rate_observed": ("decision", "false_alarm_rate_observed"),
    "detection_rate_logical": ("decision", "detection_rate_logical"),
    "detection_rate_structural": ("decision", "detection_rate_structural"),
}
NOTES = """\
All figures are AUROC in per cent. *All*: normal images against every anomalous one; its mean over the categories of a
data set is the average of the paper's Table I. *Average*: (logical + structural) / 2, as in its Tables IV and V.
A dash stands for a figure that does not exist; why is said below. A mean is over the units that have the figure.
In brackets: the 95 % interval by a bootstrap over the test images; how it is drawn stands in docs/metrics.md.
"""
OTHER_NOTES = """\
In per cent. AP: average precision. F1: the best over all thresholds. AUPRO: per-region overlap up to a false-positive
rate of 30 %. sPRO: its saturated form up to 5 %, where the data set says when a defect counts as found; its average is
(logical + structural) / 2, the figure of MVTec LOCO's own script.
"""
OTHERS = {
    "image_ap": "image, AP",
    "image_f1_max": "image, F1",
    "pixel_ap": "pixel, AP",
    "pixel_f1_max": "pixel, F1",
    "pixel_aupro": "AUPRO",
    "pixel_spro_5_average": "sPRO 5 %, average",
}


@dataclass(frozen=True)
class UnitResult:
    """What is known of one unit. `metrics` is None where `not_run` says why."""

    unit: str
    metrics: dict[str, Any] | None
    not_run: str = ""
    problems: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PROBLEM_COLUMNS)))
    cells: Cells = field(default_factory=dict)  # figures with their replicates, for intervals of means

    def figure(self, *keys: str) -> float | None:
        """The number under nested `keys` of metrics.json; None where there is none."""
        value: Any = self.metrics or {}
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int | float) else None

    def interval(self, *keys: str) -> tuple[float, float] | None:
        """The 95 % interval of the figure under `keys`; None where there is none."""
        value: Any = (self.metrics or {}).get("intervals")
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return (float(value[0]), float(value[1])) if isinstance(value, list) and len(value) == 2 else None


def load_result(unit: str, metrics: Path, problems: Path) -> UnitResult:
    """The result of `unit` from its metrics.json and problems.csv; a missing file is a result too.

    Raises:
        ArtifactError: a file is there but cannot be read.
    """
    try:
        listed = pd.read_csv(problems, dtype=str, keep_default_na=False) if problems.is_file() else None
        if listed is not None and not set(PROBLEM_COLUMNS) <= set(listed.columns):
            raise ValueError(f"expected the columns {', '.join(PROBLEM_COLUMNS)}")
    except ValueError as error:
        raise ArtifactError(f"{problems}: not readable ({error}); run `dvc repro`") from None
    known: dict[str, Any] = {} if listed is None else {"problems": listed[list(PROBLEM_COLUMNS)]}
    replicates = metrics.with_name("replicates.parquet")
    if replicates.is_file():
        known["cells"] = read_replicates(replicates)
    try:
        return UnitResult(unit, json.loads(metrics.read_text(encoding="utf-8")), **known)
    except FileNotFoundError:
        return UnitResult(unit, None, "its stage 'evaluate' has not run", **known)
    except ValueError as error:
        raise ArtifactError(f"{metrics}: not readable as JSON ({error}); run `dvc repro`") from None


def load_results(units: Iterable[str], artifacts: Path = ARTIFACTS) -> list[UnitResult]:
    """The results of `units`, in their order; see `load_result`."""
    paths = [UnitPaths(unit, artifacts) for unit in units]
    return [load_result(p.unit, p.metrics, p.problems) for p in paths]


def bank_names(results: Sequence[UnitResult]) -> list[str]:
    """The banks alone, then the pairs that were evaluated."""
    found = {name for r in results for name in (r.metrics or {}).get("banks", {})}
    return [*BANKS, *sorted(found - set(BANKS))]


def results_frame(results: Sequence[UnitResult]) -> pd.DataFrame:
    """A row per unit that has run, then the means: of each data set with two units or more, and of all units.

    A unit is `dataset.category`. Columns: unit, row ("unit" or "mean"), counts of test images, the figures as fractions
    of 1, and the ends of their 95 % intervals with _low and _high behind the figure's name.
    """
    rows, keys = [], _keys(results)
    for result in results:
        if result.metrics is None:
            continue
        row: dict[str, Any] = {"unit": result.unit, "row": "unit"}
        row |= {kind: result.figure("counts", kind) for kind in ("good", "logical", "structural")}
        row |= {column: result.figure(*key) for column, key in keys.items()}
        row |= {f"{column}{end}": None for column in keys for end in BOUNDS}
        for column, key in keys.items():
            row |= dict(zip((f"{column}{end}" for end in BOUNDS), result.interval(*key) or (), strict=False))
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["unit", "row"])
    numbers = [c for c in frame.columns if c not in ("unit", "row", "good", "logical", "structural")]
    frame[numbers] = frame[numbers].astype("float64")
    evaluated = frame.loc[frame[[c for c in FIGURES if c in frame]].notna().any(axis=1), "unit"]
    means = [_mean(frame, name, [r for r in results if r.unit in units], keys) for name, units in _groups(evaluated)]
    return pd.concat([frame, *means])


def _keys(results: Sequence[UnitResult]) -> dict[str, Key]:
    """Column of `results_frame` -> where its figure stands in metrics.json."""
    keys = {column: key for column, (_, key) in FIGURES.items()} | EXTRA
    for bank in bank_names(results):
        keys |= {f"{bank}_{column}": ("banks", bank, *key) for column, (_, key) in FIGURES.items()}
    return keys


def results_csv(results: Sequence[UnitResult]) -> str:
    """`results_frame` as CSV; empty cells where a figure does not exist."""
    frame = results_frame(results)
    counts = [c for c in ("good", "logical", "structural") if c in frame.columns]
    frame[counts] = frame[counts].astype("Int64")
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def results_markdown(results: Sequence[UnitResult]) -> str:
    """The text of reports/results.md."""
    frame = results_frame(results)
    parts = ["# Results\n", NOTES]
    if len(frame):
        headings = ["unit", *(heading for heading, _ in FIGURES.values())]
        parts.append(
            markdown_table(headings, [[_name(row), *(_cell_of(row, c) for c in FIGURES)] for row in _rows(frame)])
        )
        others = [[_name(row), *(_cell_of(row, c) for c in OTHERS)] for row in _rows(frame)]
        parts += ["## Other figures\n", OTHER_NOTES, markdown_table(["unit", *OTHERS.values()], others)]
        parts += defect_sections(results)
        parts += [
            "## Each bank alone, and in pairs\n",
            _banks(frame, results),
            "## The decision\n",
            _decisions(frame, results),
        ]
    parts += _lists(results)
    return "\n".join(parts)


def number(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.4g}"


def problems_of(results: Sequence[UnitResult]) -> list[list[str]]:
    """Rows (unit, path, problem, decision) of all units."""
    return [[r.unit, *map(str, row)] for r in results for row in r.problems.itertuples(index=False)]


def absent_figures(results: Sequence[UnitResult]) -> list[tuple[str, str, str]]:
    """(unit, reason, metrics it concerns) for figures that do not exist or need a caution; equal reasons together."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for entry in (result.metrics or {}).get("reasons") or []:
            if not entry["metric"].startswith("banks."):  # a bank lacks what the whole lacks
                grouped.setdefault((result.unit, entry["reason"]), []).append(entry["metric"])
    return [(unit, reason, _brief(metrics)) for (unit, reason), metrics in grouped.items()]


def _brief(metrics: Sequence[str]) -> str:
    """`metrics` without those that are undefined wherever the AUROC is."""
    kept = [m for m in metrics if m.count(".") != 1 or m.split(".")[0] == "decision" or "auroc" in m or ".average" in m]
    left = len(metrics) - len(kept)
    return ", ".join(kept) + (f" and {left} other figures" if left and kept else "") or ", ".join(metrics)


def _groups(units: "pd.Series[str]") -> list[tuple[str, list[str]]]:
    datasets: dict[str, list[str]] = {}
    for unit in units:
        datasets.setdefault(unit.partition(".")[0], []).append(unit)
    groups = [(name, members) for name, members in datasets.items() if len(members) > 1]
    if len(units) > 1 and [len(members) for _, members in groups] != [len(units)]:
        groups.append(("all units", list(units)))
    return groups


def _mean(frame: pd.DataFrame, name: str, members: Sequence[UnitResult], keys: dict[str, Key]) -> pd.DataFrame:
    """Means over `members`. Their images are resampled apart, so that the mean of replicates is one of the mean."""
    columns = [column for column in keys if column != "threshold"]
    values = frame[frame["unit"].isin([m.unit for m in members])][columns].mean()
    row: dict[str, Any] = {column: float(values[column]) for column in columns}
    for column in columns:
        cells = [member.cells.get(keys[column]) for member in members if member.figure(*keys[column]) is not None]
        known = [cell for cell in cells if cell is not None]
        if known and len(known) == len(cells) and len({len(cell.replicates) for cell in known}) == 1:
            mean = Cell(row[column], np.mean([cell.replicates for cell in known], axis=0))
            row |= dict(zip((f"{column}{end}" for end in BOUNDS), mean.interval, strict=True))
    return pd.DataFrame([{"unit": name, "row": "mean", **row}])


def _cell_of(row: dict[str, Any], column: str) -> str:
    return with_interval(row[column], (row.get(f"{column}_low", np.nan), row.get(f"{column}_high", np.nan)))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _name(row: dict[str, Any]) -> str:
    return f"**mean of {row['unit']}**" if row["row"] == "mean" else str(row["unit"])


def _banks(frame: pd.DataFrame, results: Sequence[UnitResult]) -> str:
    shown = ("image_auroc_logical", "image_auroc_structural", "image_auroc", "pixel_auroc")
    headings = ["unit", "bank", *(FIGURES[column][0] for column in shown), "image, all, less all banks fused"]
    compared = {r.unit: {c["metric"]: c for c in (r.metrics or {}).get("comparisons") or []} for r in results}
    lines = [
        [
            _name(row),
            bank,
            *(_cell_of(row, f"{bank}_{column}") for column in shown),
            difference_cell(compared.get(str(row["unit"]), {}).get(f"banks.{bank}.image.auroc")),
        ]
        for row in _rows(frame)
        for bank in bank_names(results)
        if any(pd.notna(row[f"{bank}_{column}"]) for column in shown)
    ]
    return markdown_table(headings, lines)


def defect_sections(results: Sequence[UnitResult]) -> list[str]:
    """A table of the types of defects, where a unit has more than one."""
    lines = []
    for result in results:
        defects = (result.metrics or {}).get("defects") or {}
        for name, figures in defects.items() if len(defects) > 1 else ():
            keys = [("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro"), ("pixel", "spro_5")]
            places = [("defects", name, *key) for key in keys]
            shown = [with_interval(result.figure(*place), result.interval(*place)) for place in places]
            lines.append([result.unit, name, str(figures.get("images", "–")), *shown])
    headings = ["unit", "defect", "images", "image, AUROC", "pixel, AUROC", "AUPRO", "sPRO 5 %"]
    return ["## By type of defect\n", markdown_table(headings, lines)] if lines else []


def _decisions(frame: pd.DataFrame, results: Sequence[UnitResult]) -> str:
    normals = {r.unit: r.figure("decision", "normals") for r in results}
    headings = [
        "unit",
        "threshold",
        "set from",
        "false alarms promised",
        "observed",
        "logical found",
        "structural found",
    ]
    rates = (
        "false_alarm_rate_promised",
        "false_alarm_rate_observed",
        "detection_rate_logical",
        "detection_rate_structural",
    )
    lines = [
        [
            _name(row),
            number(row["threshold"]),
            f"{normals.get(row['unit']) or 0} normal images",
            *(_cell_of(row, c) for c in rates),
        ]
        for row in _rows(frame)
        if row["row"] == "unit"
    ]
    return "Rates in per cent. An image whose score is above the threshold is anomalous.\n\n" + markdown_table(
        headings, lines
    )


def _lists(results: Sequence[UnitResult]) -> list[str]:
    """Sections on what is missing; each only where there is something to say."""
    parts = []
    not_run = [[r.unit, r.not_run] for r in results if r.metrics is None]
    if not_run:
        parts += ["## Not run\n", markdown_table(["unit", "why"], not_run)]
    absent = absent_figures(results)
    if absent:
        parts += [
            "## Figures that do not exist, or need a caution\n",
            markdown_table(["unit", "why", "figures"], absent),
        ]
    problems = problems_of(results)
    if problems:
        parts += ["## Problems found in the data\n", markdown_table(["unit", *PROBLEM_COLUMNS], problems)]
    return parts
