"""The paper's tables as it prints them: reports/reference/table_01.csv to table_11.csv, and notes on their inconsistencies.

The first column, `row`, names the row; an empty cell is a dash in the paper. Numbers are read as printed, AUROC in per cent.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tmuad.errors import ArtifactError

FOLDER = Path("reports/reference")
TABLES = range(1, 12)
ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


@dataclass(frozen=True)
class Note:
    """Where the paper contradicts itself, or can be read in two ways."""

    table: int
    row: str  # empty: the table as a whole
    column: str
    printed: str
    computed: str  # from the table's own parts, where that differs
    text: str


@dataclass(frozen=True)
class Reference:
    """One table of the paper."""

    number: int
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]  # row -> column -> as printed; "" for a dash
    notes: tuple[Note, ...]

    def value(self, row: str, column: str) -> float | None:
        """The number in a cell; None for a dash, and for a cell that the table has not."""
        text = self.rows.get(row, {}).get(column, "")
        return float(text) if text else None

    def names(self) -> list[str]:
        """All rows and columns: what a variant may stand for."""
        return [*self.rows, *self.columns]


def load_references(folder: Path = FOLDER) -> dict[int, Reference]:
    """Every table by its number.

    Raises:
        ArtifactError: a file is missing or is no table of numbers.
    """
    noted: dict[int, list[Note]] = {}
    for row in _read(folder / "notes.csv"):
        note = Note(int(row["table"]), row["row"], row["column"], row["printed"], row["computed"], row["note"])
        noted.setdefault(note.table, []).append(note)
    return {n: _table(folder / f"table_{n:02d}.csv", n, tuple(noted.get(n, ()))) for n in TABLES}


def _table(path: Path, number: int, notes: tuple[Note, ...]) -> Reference:
    rows = {row["row"]: {k: v for k, v in row.items() if k != "row"} for row in _read(path)}
    columns = tuple(next(iter(rows.values()))) if rows else ()
    for name, row in rows.items():
        for column, text in row.items():
            if text and not text.replace(".", "", 1).isdigit():
                raise ArtifactError(f"{path}: row '{name}', column '{column}': {text!r} is no number; see {FOLDER}")
    return Reference(number, columns, rows, notes)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); git restore {FOLDER}") from None
    if any(None in row or None in row.values() for row in rows):
        raise ArtifactError(f"{path}: a row has more or fewer cells than the head; git restore {FOLDER}")
    return rows
