"""Markdown tables and their cells."""

from collections.abc import Sequence
from typing import Any

import pandas as pd


def percent(value: float | None, digits: int = 1) -> str:
    """0.9512 -> '95.1'; a dash for None and NaN."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:.{digits}f}"


def with_interval(value: float | None, ends: tuple[float, float] | None) -> str:
    """0.95, (0.9, 0.98) -> '95.0 [90.0, 98.0]'."""
    if value is None or pd.isna(value) or ends is None or pd.isna(ends[0]):
        return percent(value)
    return f"{percent(value)} [{percent(ends[0])}, {percent(ends[1])}]"


def difference_cell(entry: dict[str, Any] | None) -> str:
    """An entry of `comparisons` in metrics.json as '-3.1 [-5.0, -1.2]', and whether that is within noise."""
    if entry is None:
        return "–"
    low, high = (f"{100 * entry[end]:+.1f}" for end in ("low", "high"))
    return f"{100 * entry['difference']:+.1f} [{low}, {high}]" + (", within noise" if entry["within_noise"] else "")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right. Cells are shown as text, whatever they hold."""
    numeric = [bool(rows) and all(_is_figure(row[i]) for row in rows) for i in range(len(headings))]
    lines = [
        list(headings),
        ["--:" if right else "---" for right in numeric],
        *([_cell(c) for c in row] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _is_figure(cell: str) -> bool:
    cell = cell.partition(" [")[0]
    return cell == "–" or cell.removeprefix("+").replace(".", "", 1).replace("-", "", 1).isdigit()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
