"""reports/tables: each of the paper's tables as Markdown for people and as CSV for machines."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tmuad.parquet import write_artifact
from tmuad.report.markdown import markdown_table
from tmuad.report.paper.claims import VERDICTS, Judged
from tmuad.report.paper.layout import TABLE_TITLES, Line
from tmuad.report.paper.reference import ROMAN, Note, Reference

COLUMNS = (
    "table", "scope", "row", "column", "paper", "ours", "low", "high", "gap", "unit_of_number", "units", "profile",
    "parameters", "weights", "not_run", "about",
)  # fmt: skip
PUBLISHED = "another method's number, as the paper prints it"
HOW = """\
*Paper*: as printed. *Ours*: from the units named below, AUROC in per cent with the 95 % interval of a bootstrap over the
test images. *Gap*: ours less the paper's, where both are of the same data set. Letters stand for what a number was made
with, or for what it takes where there is none.
"""
HAND = """\
The same cells for units that are of no data set of the paper. What it prints stands in parentheses for orientation: it is
of other images, so that there is no gap to give.
"""


def write_table(folder: Path, reference: Reference, lines: Sequence[Line]) -> None:
    """table_NN.md and table_NN.csv."""
    base = folder / f"table_{reference.number:02d}"
    write_artifact(base.with_suffix(".csv"), table_csv(reference, lines).encode())
    write_artifact(base.with_suffix(".md"), table_markdown(reference, lines).encode())


def title(number: int) -> str:
    return f"Table {ROMAN[number]}: {TABLE_TITLES[number]}"


def table_markdown(reference: Reference, lines: Sequence[Line]) -> str:
    """The text of table_NN.md."""
    parts = [f"# {title(reference.number)}\n", "## As the paper prints it\n", printed_table(reference)]
    parts += [f"- {note_text(note)}\n" for note in reference.notes]
    own, hand = [x for x in lines if x.scope.paper], [x for x in lines if not x.scope.paper]
    parts += ["\n## Ours beside it\n", HOW, ours_table(own)]
    if hand:
        parts += ["\n## On the units at hand\n", HAND, hand_table(hand)]
    return "\n".join(parts)


def printed_table(reference: Reference) -> str:
    """The paper's table; a star stands where a note speaks of the cell."""
    noted = {(note.row, note.column) for note in reference.notes}
    rows = []
    for name, cells in reference.rows.items():
        shown = [f"{text or '–'}{'*' if (name, column) in noted else ''}" for column, text in cells.items()]
        rows.append([name, *shown])
    return markdown_table(["", *reference.columns], rows)


def note_text(note: Note) -> str:
    where = ", ".join(part for part in (note.row, note.column) if part)
    return f"{where}: {note.text}" if where else note.text


def ours_table(lines: Sequence[Line]) -> str:
    """Lines of ours with the origins or needs they share listed below."""
    rows, legend = table_rows(lines)
    headings = ["row", "column", "paper", "ours", "gap", ""]
    told = "".join(f"- [{letter}] {text}\n" for letter, text in legend)
    stands = "".join(f"- {_which(line)}: {line.about}\n" for line in _first_of_each(lines))
    return (
        markdown_table(headings, rows) + "\n" + told + (f"\nWhat stands for what here:\n\n{stands}" if stands else "")
    )


def hand_table(lines: Sequence[Line]) -> str:
    """The units at hand in the shape of the paper's table."""
    headings, rows, legend = hand_rows(lines)
    told = "".join(f"- [{letter}] {text}\n" for letter, text in legend)
    stands = "".join(f"- {_which(line)}: {line.about}\n" for line in _first_of_each(lines))
    return (
        markdown_table(headings, rows) + "\n" + told + (f"\nWhat stands for what here:\n\n{stands}" if stands else "")
    )


def hand_rows(lines: Sequence[Line]) -> tuple[list[str], list[list[str]], list[tuple[str, str]]]:
    """Headings, rows and legend: a cell says ours, the paper's number in parentheses, and the letter of its origin."""
    letters: dict[str, str] = {}
    columns = list(dict.fromkeys(line.column for line in lines))
    cells: dict[tuple[str, str], str] = {}
    names: dict[tuple[str, str], None] = {}
    several = len({line.scope.name for line in lines}) > 1
    for line in lines:
        letter = letters.setdefault(source_text(line), _letter(len(letters)))
        paper = "" if line.paper is None else f" ({number(line.paper, line.unit)})"
        place = (line.scope.name if several else "", line.row)
        names[place] = None
        cells[f"{place}", line.column] = f"{ours_text(line)}{paper} {letter}"
    rows = [[": ".join(filter(None, place)), *(cells.get((f"{place}", c), "–") for c in columns)] for place in names]
    return ["", *columns], rows, [(letter, text) for text, letter in letters.items()]


def table_rows(lines: Sequence[Line]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Cells (row, column, paper, ours, gap, letter) of each line, and what the letters stand for."""
    letters: dict[str, str] = {}
    rows = []
    for line in lines:
        text = source_text(line)
        letter = letters.setdefault(text, _letter(len(letters)))
        gap = "–" if line.gap is None else f"{line.gap:+.1f}"
        rows.append([line.row, line.column, number(line.paper, line.unit), ours_text(line), gap, letter])
    return rows, [(letter, text) for text, letter in letters.items()]


def ours_text(line: Line) -> str:
    """'95.0 [90.1, 98.3]', or 'not run'."""
    if line.printed is None:
        return "not run"
    low, high = ends(line)
    return number(line.printed, line.unit) + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def ends(line: Line) -> tuple[float, float] | tuple[None, None]:
    """The interval in the unit of the numbers; None where there is none."""
    if line.ours.cell is None or line.unit != "%":
        return None, None
    low, high = line.ours.cell.interval
    return (None, None) if math.isnan(low) else (100 * low, 100 * high)


def source_text(line: Line) -> str:
    """Where the number came from, or what it takes."""
    if line.ours.cell is None:
        return f"not run: needs {line.ours.needs}"
    origin = line.ours.origin.text() if line.ours.origin else ""
    return origin + ("; measured on this machine" if line.unit == "s" else "")


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if unit == "%" else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def table_csv(reference: Reference, lines: Sequence[Line]) -> str:
    """Every cell of the table: the other methods' first, then ours."""
    mine = {(line.row, line.column) for line in lines if line.scope.paper}
    others = [
        {"table": reference.number, "scope": "paper", "row": row, "column": column, "paper": text, "about": PUBLISHED}
        for row, cells in reference.rows.items()
        for column, text in cells.items()
        if (row, column) not in mine
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*others, *(_csv_row(line) for line in lines)])
    return out.getvalue()


def _csv_row(line: Line) -> dict[str, Any]:
    low, high = ends(line)
    origin = line.ours.origin
    row: dict[str, Any] = {
        "table": line.table, "scope": line.scope.name, "row": line.row, "column": line.column,
        "paper": "" if line.paper is None else line.paper, "unit_of_number": line.unit, "about": line.about,
        "not_run": f"needs {line.ours.needs}" if line.ours.cell is None else "",
    }  # fmt: skip
    if line.printed is not None:
        row |= {"ours": _rounded(line.printed), "low": _rounded(low), "high": _rounded(high), "gap": _rounded(line.gap)}
    if origin is not None:
        weights = " ".join(f"{name}:{digest}" for name, digest in origin.weights)
        row |= {"units": " ".join(origin.units), "profile": origin.profile, "parameters": origin.parameters}
        row |= {"weights": weights or "none"}
    return row


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 4)


def _first_of_each(lines: Iterable[Line]) -> list[Line]:
    """One line for each thing that stands for something else."""
    seen: dict[tuple[str, str], Line] = {}
    for line in lines:
        if line.about:
            seen.setdefault((_which(line), line.about), line)
    return list(seen.values())


def _which(line: Line) -> str:
    """The row or the column that a variant stands for."""
    return f"*{line.column if line.table in (9, 10) else line.row}*"


def _letter(index: int) -> str:
    return (chr(ord("a") + index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


CLAIM_HEADINGS = ("claim", "in the paper", "on", "verdict", "best of the one side", "best of the other", "difference")


def claim_rows(claims: Sequence[Judged]) -> list[list[str]]:
    """A row of CLAIM_HEADINGS for each claim."""
    rows = []
    for judged in claims:
        a, b = judged.values
        low, high = judged.difference or (None, None)
        bounds = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
        sides = ["–", "–", f"needs {judged.needs}"]
        if not judged.needs:
            sides = [f"{judged.winner} {100 * a:.1f}", f"{judged.rival} {100 * b:.1f}", f"{100 * (a - b):+.1f}{bounds}"]
        rows.append([judged.claim.text, judged.claim.where, judged.scope, judged.verdict, *sides])
    return rows


def claims_summary(claims: Sequence[Judged]) -> list[str]:
    """A sentence for each verdict that occurs, those that hold first."""
    counts = Counter(judged.verdict for judged in claims)
    return [f"{counts[verdict]} of {len(claims)}: {verdict}" for verdict in VERDICTS if counts[verdict]]


def write_claims(folder: Path, claims: Sequence[Judged]) -> None:
    """claims.md and claims.csv."""
    text = [
        "# The paper's claims on the units at hand\n",
        "AUROC in per cent. The difference is that to the best of the other side, with its 95 % interval over the test "
        "images: both sides are looked at in the same resamples. *Within noise*: the interval holds 0.\n",
        *(f"- {sentence}\n" for sentence in claims_summary(claims)),
        "\n" + markdown_table(CLAIM_HEADINGS, claim_rows(claims)),
    ]
    write_artifact(folder / "claims.md", "\n".join(text).encode())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CLAIM_HEADINGS)
    writer.writerows(claim_rows(claims))
    write_artifact(folder / "claims.csv", out.getvalue().encode())
