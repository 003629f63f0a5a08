"""Results of a query as text for people, and as CSV, JSON or Parquet for programs."""

import csv
import datetime as dt
import io
import json
import math
import re
import unicodedata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tmuad.formats import Format

MAX_ROWS = 200  # of a text table; the other formats have no end
MAX_CELL = 60  # characters of a text table's cell


def encode(rows: pa.Table, form: Format, max_rows: int = MAX_ROWS, max_cell: int = MAX_CELL) -> bytes:
    """`rows` in the format `form`; UTF-8 where it is text."""
    match form:
        case Format.table:
            return as_text(rows, max_rows, max_cell).encode()
        case Format.csv:
            return _csv(rows).encode()
        case Format.json:
            lines = [json.dumps(_plain(row), ensure_ascii=False) for row in _records(rows)]
            return ("[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n").encode()
        case Format.parquet:
            content = io.BytesIO()
            pq.write_table(rows.replace_schema_metadata(None), content, compression="zstd", store_schema=False)
            return content.getvalue()


def as_text(rows: pa.Table, max_rows: int = MAX_ROWS, max_cell: int = MAX_CELL) -> str:
    """Aligned columns, numbers to the right, and how many rows there are.

    Characters that would command a terminal (a file may be named so) are shown as their escapes.
    """
    shown = rows.slice(0, max_rows)
    columns = []
    for name, values in zip(rows.column_names, shown.columns, strict=True):
        numeric = (
            pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
        )
        cells = [printable(name), *(_cut(_words(value), max_cell) for value in values.to_pylist())]
        width = max(map(_width, cells))
        columns.append([_padded(cell, width, numeric) for cell in cells])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    if lines:
        lines.insert(1, "  ".join("─" * _width(column[0]) for column in columns))
    count = f"{rows.num_rows:,} row{'' if rows.num_rows == 1 else 's'}"
    if rows.num_rows > max_rows:
        count = f"first {max_rows:,} of {count}; --format csv gives all"
    return "\n".join([*lines, f"({count})"]) + "\n"


def printable(text: str) -> str:
    """`text` with control and format characters as escapes, in one line."""
    return "".join(c if unicodedata.category(c)[0] != "C" else ascii(c)[1:-1] for c in text)


def _csv(rows: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in _records(rows):
        writer.writerow(
            json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else "" if value is None else value
            for value in (_plain(value) for _, value in row)
        )
    return text.getvalue()


def _records(rows: pa.Table) -> list[list[tuple[str, Any]]]:
    """Rows as pairs: two columns of a result may have one name."""
    columns = [values.to_pylist() for values in rows.columns]
    return [list(zip(rows.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    """What JSON can say of `value`; a row of pairs becomes an object, a repeated name gets a number."""
    match value:
        case [(str(), _), *_] if all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            named: dict[str, Any] = {}
            for name, inner in value:
                key, number = name, 1
                while key in named:
                    number += 1
                    key = f"{name}_{number}"
                named[key] = _plain(inner)
            return named
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case dt.date() | dt.datetime() | dt.time():
            return value.isoformat()
        case bytes():
            return value.hex()
    return str(value)


def _words(value: Any) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.6g}"
        case str() if len(value) == 64 and re.fullmatch("[0-9a-f]+", value):
            return value[:12]  # an image id: the beginning tells images apart, and every command takes it
        case str():
            return printable(value)
        case list():
            return "[" + ", ".join(_words(inner) for inner in value[:40]) + (", …]" if len(value) > 40 else "]")
    return printable(str(value))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _width(text: str) -> int:
    """Terminal columns: East Asian letters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
