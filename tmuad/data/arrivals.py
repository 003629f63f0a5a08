"""When an image arrived: from the log of whoever took it in, else the photograph's own date, else a date in its name.

A file's modification time is not asked: it changes with every copy and check-out, and equal data must give equal tables.
The log is read where weeks are counted (the warehouse), and by no stage before it: a new line makes nothing else out of date.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from tmuad.cache import write_atomic
from tmuad.errors import DataError
from tmuad.workspace import ARRIVALS

_EXIF, _ORIGINAL, _CHANGED = 0x8769, 0x9003, 0x0132
_PNG, _PNG_MARKS = b"\x89PNG", (b"eXIf", b"Raw profile type")
_IN_NAME = re.compile(r"(?<!\d)(20\d\d)([-_.]?)(\d\d)\2(\d\d)(?:[T_ -]?(\d\d)[-_.:h]?(\d\d)(?:[-_.:m]?(\d\d))?)?(?!\d)")


@dataclass(frozen=True)
class Arrival:
    when: datetime | None = None
    source: str = ""  # photograph or name; empty where neither tells


def log_path(unit: str) -> Path:
    return ARRIVALS / f"{unit}.csv"


def read_log(path: Path) -> dict[str, datetime]:
    """path of the image in the unit -> arrival, from a CSV with the columns path and arrived (ISO 8601); {} without one.

    Raises:
        DataError: the file is no such table.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"path", "arrived"} <= set(rows.fieldnames or ()):
                raise ValueError("expected the columns path and arrived")
            return {row["path"]: datetime.fromisoformat(row["arrived"].strip()).replace(tzinfo=None) for row in rows}
    except (OSError, ValueError, AttributeError, csv.Error) as error:
        raise DataError(
            f"{path}: no list of arrivals ({error}); one line per image: path,2026-01-31T08:15:00"
        ) from None


def update_log(path: Path, changes: Mapping[str, datetime | None]) -> None:
    """Set when images arrived, None: take the image out; all other lines stay as they are. To repeat it changes nothing.

    Raises:
        DataError: the file is no such table, or cannot be written.
    """
    read_log(path)
    lines = list(io.StringIO(path.read_bytes().decode() if path.exists() else "path,arrived\n", newline=""))
    reader = csv.reader(line.removeprefix("\ufeff") for line in lines)
    columns = next(reader)
    kept, start = lines[: reader.line_num], reader.line_num
    for row in reader:
        if dict(zip(columns, row, strict=False)).get("path") not in changes:
            kept += lines[start : reader.line_num]
        start = reader.line_num
    added = io.StringIO()
    writer = csv.DictWriter(added, columns, lineterminator="\n")
    for name, when in sorted(changes.items()):
        if when is not None:
            writer.writerow({"path": name, "arrived": when.isoformat(timespec="seconds")})
    text = "".join(kept)
    text += ("" if text.endswith("\n") or not added.getvalue() else "\n") + added.getvalue()
    try:
        if text != "".join(lines):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text.encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); free some space") from None


def arrival(root: Path, path: str) -> Arrival:
    """When the image `path` of the unit in `root` arrived, as far as the image itself tells."""
    if (when := _taken(root / path)) is not None:
        return Arrival(when, "photograph")
    for match in reversed(list(_IN_NAME.finditer(path))):
        year, _, month, day, *clock = match.groups()
        try:
            hour, minute, second = (int(part or 0) for part in clock)
            return Arrival(datetime(int(year), int(month), int(day), hour, minute, second), "name")
        except ValueError:
            continue
    return Arrival()


def _taken(path: Path) -> datetime | None:
    """EXIF's date of the photograph."""
    try:
        with path.open("rb") as file:
            # A PNG's may stand behind its pixels, which Pillow would decode to get there.
            if file.read(len(_PNG)) == _PNG and not any(mark in path.read_bytes() for mark in _PNG_MARKS):
                return None
        with Image.open(path) as image:
            exif = image.getexif()
            text = exif.get_ifd(_EXIF).get(_ORIGINAL) or exif.get(_CHANGED) or ""
            return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except Exception:  # whatever is wrong with a header that nothing else depends on: then nothing is known
        return None
