"""Saved questions: a `.sql` file whose leading comment says what the answer has to be.

    -- title: every normal image shows exactly 2 screws
    -- unit: demo.kit
    -- expect: no rows
    SELECT path, ...

`expect` is `no rows` (each row is then an offence, and its column path or image_id names the image), `value: V` (the answer
is one value, equal to V), or `range: [LOW, HIGH]` (one number within, bounds included; null for an open end).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import yaml

from tmuad.errors import DataError, TmuadError
from tmuad.warehouse import DEFAULT_LIMITS, Limits, QueryError, Reader, connect
from tmuad.workspace import QUERIES, WAREHOUSE

Level = Literal["report", "stop"]
KEYS = ("title", "unit", "expect", "level", "support", "note")
SHOWN = 5  # offending images that a message names


@dataclass(frozen=True)
class Expectation:
    kind: Literal["no rows", "value", "range"]
    value: Any = None
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.kind == "range":
            low, high = ("any" if math.isinf(bound) else f"{bound:g}" for bound in (self.low, self.high))
            return f"between {low} and {high}"
        return self.kind if self.kind == "no rows" else f"the value {self.value!r}"


@dataclass(frozen=True)
class Check:
    """One saved question."""

    name: str  # of the file, without its suffix
    title: str
    sql: str
    expectation: Expectation
    unit: str = ""  # "" asks about all units
    level: Level = "report"  # stop: a failure ends the stage `checks` with an error
    support: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came out. A query that DuckDB refuses is a failure, and so is an answer of the wrong shape."""

    check: Check
    state: Literal["passed", "failed", "skipped"]
    answer: str  # in words
    images: tuple[str, ...] = ()  # offending images, "unit: path"

    def __str__(self) -> str:
        words = f"{self.state.upper():8}{self.check.title} ({self.check.name}): {self.answer}"
        return words + "".join(f"\n          {image}" for image in self.images)


def load_checks(folder: Path = QUERIES) -> list[Check]:
    """The checks in `folder`, by name. Raises DataError for a file that is none; a missing folder holds none."""
    return [read_check(path) for path in sorted(folder.glob("*.sql"))]


def read_check(path: Path) -> Check:
    """The check in the file `path`. Raises DataError if it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    head, body = _split(text)
    try:
        settings = yaml.safe_load(head) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: its leading comment is no YAML ({error}); put values with a colon in quotes"
        ) from None
    if not isinstance(settings, dict) or "expect" not in settings:
        raise DataError(f"{path}: says not what it expects; begin with a line such as '-- expect: no rows'")
    unknown = sorted(str(key) for key in set(settings) - set(KEYS))
    if unknown:
        raise DataError(f"{path}: unknown key '{unknown[0]}' in its leading comment; known are {', '.join(KEYS)}")
    if not body.strip():
        raise DataError(f"{path}: holds no query")
    level = settings.get("level", "report")
    if level not in ("report", "stop"):
        raise DataError(f"{path}: level: {level!r}; expected report or stop")
    title, unit, support = (str(settings.get(key) or "") for key in ("title", "unit", "support"))
    return Check(path.stem, title or path.stem, body, _expectation(settings["expect"], path), unit, level, support)


def run_checks(
    warehouse: Path = WAREHOUSE,
    checks: Sequence[Check] | None = None,
    unit: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Outcome]:
    """The outcome of each check (by default, of all in data/queries), in their order.

    With `unit`, the checks of that unit and those of all units run, on that unit's rows alone: what a gate asks before it
    promotes a re-fit. `failures` picks those that should stop it.

    Raises:
        ArtifactError: there is no warehouse that this version reads.
        DataError: a saved question cannot be understood.
    """
    chosen = load_checks() if checks is None else checks
    with connect(warehouse) as connection:
        units = {name for (name,) in connection.execute("SELECT unit FROM units").fetchall()}
    return [_run(check, warehouse, units, unit, limits) for check in chosen if not unit or check.unit in ("", unit)]


def failures(outcomes: Sequence[Outcome], level: Level = "report") -> list[Outcome]:
    """Those that failed; with level "stop", those alone that are to stop a run."""
    return [o for o in outcomes if o.state == "failed" and (level == "report" or o.check.level == "stop")]


def _run(check: Check, warehouse: Path, units: set[str], unit: str | None, limits: Limits) -> Outcome:
    if check.unit and check.unit not in units:
        return Outcome(check, "skipped", f"the warehouse has no unit '{check.unit}'")
    try:
        with connect(warehouse, check.unit or unit, limits) as connection:
            answer = Reader(connection, warehouse, limits).ask(check.sql)
            return _judge(check, answer, _paths(connection))
    except QueryError as error:
        return Outcome(check, "failed", f"the query cannot be answered: {error}")
    except TmuadError as error:
        return Outcome(check, "failed", str(error))


def _judge(check: Check, answer: pa.Table, paths: dict[str, str]) -> Outcome:
    want = check.expectation
    if want.kind == "no rows":
        if answer.num_rows == 0:
            return Outcome(check, "passed", "no rows, as expected")
        offences = f"{answer.num_rows} row{'' if answer.num_rows == 1 else 's'} where none were expected"
        return Outcome(check, "failed", offences, _images(answer, paths))
    if (answer.num_rows, answer.num_columns) != (1, 1):
        size = f"{answer.num_rows} rows of {answer.num_columns} columns"
        return Outcome(check, "failed", f"expected {want}, found {size} instead of a single value")
    value = answer[0][0].as_py()
    value = float(value) if isinstance(value, Decimal) else value
    if want.kind == "value":
        right = value == want.value and isinstance(value, bool) == isinstance(want.value, bool)
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number and want.low <= float(value) <= want.high  # false for NaN
    return Outcome(check, "passed" if right else "failed", f"found {value!r}, expected {want}")


def _images(answer: pa.Table, paths: dict[str, str]) -> tuple[str, ...]:
    """What tells the offending images: their columns path or image_id, else the whole row; the first few."""
    rows = answer.slice(0, SHOWN).to_pylist() if len(set(answer.column_names)) == answer.num_columns else []
    named = []
    for row in rows:
        unit = f"{row['unit']}: " if row.get("unit") else ""
        path = row.get("path") or paths.get(str(row.get("image_id")))
        named.append(unit + str(path) if path else ", ".join(f"{key} {value}" for key, value in row.items())[:200])
    more = answer.num_rows - len(named)
    return (*named, f"and {more} more") if more and named else tuple(named)


def _paths(connection: Any) -> dict[str, str]:
    return dict(connection.execute("SELECT image_id, path FROM images").fetchall())


def _split(text: str) -> tuple[str, str]:
    """The leading comment, without its marks, and the rest."""
    lines = text.splitlines()
    count = next((i for i, line in enumerate(lines) if not re.match(r"\s*--", line)), len(lines))
    return "\n".join(re.sub(r"^\s*--\s?", "", line) for line in lines[:count]), "\n".join(lines[count:])


def _expectation(raw: Any, path: Path) -> Expectation:
    match raw:
        case "no rows":
            return Expectation("no rows")
        case {"value": value, **rest} if not rest and isinstance(value, str | int | float | bool):
            return Expectation("value", value=value)
        case {"range": [low, high], **rest} if not rest and all(_bound(bound) for bound in (low, high)):
            bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
            if bounds[0] <= bounds[1]:
                return Expectation("range", low=bounds[0], high=bounds[1])
    raise DataError(
        f"{path}: expect: {raw!r}; expected 'no rows', '{{value: V}}' or '{{range: [LOW, HIGH]}}' with null for an open end"
    )


def _bound(bound: Any) -> bool:
    return bound is None or (isinstance(bound, int | float) and not isinstance(bound, bool) and not math.isnan(bound))
