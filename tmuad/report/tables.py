"""Results of all units as tables: Markdown for people, CSV for machines."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tmuad.errors import ArtifactError
from tmuad.workspace import ARTIFACTS, UnitPaths

BANKS = ("text", "objects", "patches")
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
"""


@dataclass(frozen=True)
class UnitResult:
    """What is known of one unit. `metrics` is None where `not_run` says why."""

    unit: str
    metrics: dict[str, Any] | None
    not_run: str = ""
    problems: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PROBLEM_COLUMNS)))

    def figure(self, *keys: str) -> float | None:
        """The number under nested `keys` of metrics.json; None where there is none."""
        value: Any = self.metrics or {}
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int | float) else None


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

    A unit is `dataset.category`. Columns: unit, row ("unit" or "mean"), counts of test images, and the figures as
    fractions of 1.
    """
    rows = []
    for result in results:
        if result.metrics is None:
            continue
        row: dict[str, Any] = {"unit": result.unit, "row": "unit"}
        row |= {kind: result.figure("counts", kind) for kind in ("good", "logical", "structural")}
        row |= {column: result.figure(*keys) for column, (_, keys) in FIGURES.items()}
        row |= {column: result.figure(*keys) for column, keys in EXTRA.items()}
        for bank in bank_names(results):
            for column, (_, keys) in FIGURES.items():
                row[f"{bank}_{column}"] = result.figure("banks", bank, *keys)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["unit", "row"])
    figures = [c for c in frame.columns if c not in ("unit", "row", "good", "logical", "structural", "threshold")]
    frame[figures] = frame[figures].astype("float64")
    evaluated = frame.loc[frame[[c for c in FIGURES if c in frame]].notna().any(axis=1), "unit"]
    return pd.concat([frame, *(_mean(frame, name, units, figures) for name, units in _groups(evaluated))])


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
        parts.append(_markdown(headings, [[_name(row), *(percent(row[c]) for c in FIGURES)] for row in _rows(frame)]))
        parts += [
            "## Each bank alone, and in pairs\n",
            _banks(frame, bank_names(results)),
            "## The decision\n",
            _decisions(frame, results),
        ]
    parts += _lists(results)
    return "\n".join(parts)


def percent(value: float | None, digits: int = 1) -> str:
    """0.9512 -> '95.1'; a dash for None and NaN."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:.{digits}f}"


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
    return [(unit, reason, ", ".join(metrics)) for (unit, reason), metrics in grouped.items()]


def _groups(units: "pd.Series[str]") -> list[tuple[str, list[str]]]:
    datasets: dict[str, list[str]] = {}
    for unit in units:
        datasets.setdefault(unit.partition(".")[0], []).append(unit)
    groups = [(name, members) for name, members in datasets.items() if len(members) > 1]
    if len(units) > 1 and [len(members) for _, members in groups] != [len(units)]:
        groups.append(("all units", list(units)))
    return groups


def _mean(frame: pd.DataFrame, name: str, units: Sequence[str], figures: Sequence[str]) -> pd.DataFrame:
    members = frame[frame["unit"].isin(units)]
    return pd.DataFrame([{"unit": name, "row": "mean", **members[list(figures)].mean().to_dict()}])


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _name(row: dict[str, Any]) -> str:
    return f"**mean of {row['unit']}**" if row["row"] == "mean" else str(row["unit"])


def _banks(frame: pd.DataFrame, banks: Sequence[str]) -> str:
    shown = ("image_auroc_logical", "image_auroc_structural", "image_auroc", "pixel_auroc")
    headings = ["unit", "bank", *(FIGURES[column][0] for column in shown)]
    lines = [
        [_name(row), bank, *(percent(row[f"{bank}_{column}"]) for column in shown)]
        for row in _rows(frame)
        for bank in banks
        if any(pd.notna(row[f"{bank}_{column}"]) for column in shown)
    ]
    return _markdown(headings, lines)


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
            *(percent(row[c]) for c in rates),
        ]
        for row in _rows(frame)
        if row["row"] == "unit"
    ]
    return "Rates in per cent. An image whose score is above the threshold is anomalous.\n\n" + _markdown(
        headings, lines
    )


def _lists(results: Sequence[UnitResult]) -> list[str]:
    """Sections on what is missing; each only where there is something to say."""
    parts = []
    not_run = [[r.unit, r.not_run] for r in results if r.metrics is None]
    if not_run:
        parts += ["## Not run\n", _markdown(["unit", "why"], not_run)]
    absent = absent_figures(results)
    if absent:
        parts += ["## Figures that do not exist, or need a caution\n", _markdown(["unit", "why", "figures"], absent)]
    problems = problems_of(results)
    if problems:
        parts += ["## Problems found in the data\n", _markdown(["unit", *PROBLEM_COLUMNS], problems)]
    return parts


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right. Cells are shown as text, whatever they hold."""
    numeric = [bool(rows) and all(_is_figure(row[i]) for row in rows) for i in range(len(headings))]
    lines = [
        list(headings),
        ["--:" if right else "---" for right in numeric],
        *([_cell(c) for c in row] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _is_figure(cell: str) -> bool:
    return cell == "–" or cell.replace(".", "", 1).replace("-", "", 1).isdigit()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
