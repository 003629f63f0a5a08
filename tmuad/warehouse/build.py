"""Writes the warehouse. The file is a copy made from Parquet for people to query.

It is rebuilt from scratch each time and is never an input of anything: equal rows give different bytes (design, section 5).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tmuad.data.arrivals import read_log
from tmuad.describe.position import READING_ORDER
from tmuad.errors import ArtifactError
from tmuad.score.sentences import load_names, noun
from tmuad.tables import comment_of
from tmuad.warehouse.schema import (
    CLASSES_SCHEMA,
    TABLES,
    UNITS_SCHEMA,
    VERSION,
    VERSIONS_SCHEMA,
    Table,
)
from tmuad.warehouse.views import COLUMNS, VIEWS
from tmuad.workspace import ARRIVALS, NAMES

DECLARED = 1_000_000  # rows up to which a table's keys are declared
BATCH = 100_000  # rows that are read at once

_CELLS = "[" + ", ".join(f"'{name}'" for name in READING_ORDER) + "]"
_THIRD = "least(2, greatest(0, CAST(trunc({} * 3) AS INTEGER)))"  # as tmuad.describe.position.cell
_OBJECTS = f"""
WITH listed AS (
    SELECT unit, image_id, object_class, unnest(range(1, len(x) + 1)) AS number, x, y, area, candidates, object_runs
    FROM descriptions WHERE unit = ? AND len(x) > 0
), single AS (
    SELECT unit, image_id, object_class, number, x[number] AS x, y[number] AS y, area[number] AS size,
           candidates[number] AS candidate, object_runs[number] AS runs FROM listed
), boxes AS (
    SELECT unit, image_id, candidate, any_value(x0) AS x0, any_value(y0) AS y0, any_value(x1) AS x1, any_value(y1) AS y1,
           any_value(score) AS confidence
    FROM segments WHERE unit = ? AND source = 'grounded' AND candidate >= 0 GROUP BY ALL
)
SELECT unit, image_id, object_class, number, x, y,
       ({_CELLS})[1 + 3 * {_THIRD.format("y")} + {_THIRD.format("x")}] AS position,
       size, x0, y0, x1, y1, confidence, runs
FROM single LEFT JOIN boxes USING (unit, image_id, candidate) ORDER BY image_id, object_class, number
"""
_LOGGED = """
UPDATE context SET arrived = incoming.arrived, arrived_from = 'log' FROM incoming, images
WHERE context.unit = incoming.unit AND images.unit = incoming.unit AND images.path = incoming.path
      AND context.image_id = images.image_id
"""


def build(
    path: Path, artifacts_root: Path, units: Sequence[str], names_root: Path = NAMES, arrivals_root: Path = ARRIVALS
) -> None:
    """Write the warehouse of `units` to `path`, replacing what was there only when the new one is whole.

    A stage that has not run leaves its table without the unit's rows, and a column that an artifact lacks is NULL.

    Raises:
        ArtifactError: a unit has no manifest, an artifact cannot be read, two artifacts do not belong together, or `path`
            cannot be written.
        ParameterError: a file of class names cannot be understood.
        DataError: a log of arrivals cannot be understood.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with duckdb.connect(str(temporary)) as connection:
            connection.begin()  # one transaction: a commit for each of a hundred comments takes a second
            keyed = _keyed([artifacts_root / unit for unit in units])
            for name, table in TABLES.items():
                _create(connection, name, table, keyed)
            for unit in sorted(units):
                _fill(connection, artifacts_root / unit, unit, names_root, arrivals_root)
            for name in TABLES.keys() - keyed:
                _check_keys(connection, name, TABLES[name], artifacts_root)
            _insert(connection, "versions", _versions(artifacts_root, sorted(units)), str(artifacts_root))
            for name, (sql, comment) in VIEWS.items():
                connection.execute(f"CREATE VIEW {name} AS {sql}")
                _comment(connection, f"VIEW {name}", comment)
                for (column,) in connection.execute(f"SELECT column_name FROM (DESCRIBE {name})").fetchall():
                    meaning = COLUMNS.get((name, column)) or _known_columns().get(column, "")
                    _comment(connection, f'COLUMN {name}."{column}"', meaning)
            connection.commit()
        temporary.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error}); make the folder writable or free some space"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _fill(
    connection: duckdb.DuckDBPyConnection, folder: Path, unit: str, names_root: Path, arrivals_root: Path
) -> None:
    files = {name: folder / table.file for name, table in TABLES.items() if table.file}
    if not files["images"].is_file():
        raise ArtifactError(f"{files['images']}: no such file; run `dvc repro` for the unit '{unit}' first")
    files = {name: file for name, file in files.items() if file.is_file()}
    _insert(connection, "units", _unit_row(folder, unit, files["images"]), str(folder))
    _insert(connection, "classes", _class_rows(unit, files, names_root), str(folder))
    for name, file in files.items():
        for rows in _read(file, unit, TABLES[name].schema):
            _insert(connection, name, rows, str(file))
    connection.execute(f"INSERT INTO objects {_OBJECTS}", [unit, unit])
    if log := read_log(arrivals_root / f"{unit}.csv"):
        rows = [pa.array([unit] * len(log)), pa.array(list(log)), pa.array(list(log.values()), pa.timestamp("s"))]
        connection.register("incoming", pa.table(rows, names=["unit", "path", "arrived"]))
        connection.execute(_LOGGED)
        connection.unregister("incoming")


def _keyed(folders: Sequence[Path]) -> set[str]:
    """Tables whose keys are declared: an index of millions of digests would take gigabytes of memory and most of the time.

    Those of the others are checked once all rows are in.
    """
    rows = dict.fromkeys(TABLES, 0)
    for name, table in TABLES.items():
        for file in (folder / table.file for folder in folders if table.file):
            if file.is_file():
                with contextlib.suppress(pa.ArrowException):  # it is named when it is read
                    rows[name] += pq.read_metadata(file).num_rows
    rows["objects"] = rows["descriptions"]
    keyed: set[str] = set()
    for name, table in TABLES.items():
        if rows[name] <= DECLARED and (not table.parent or table.parent in keyed):
            keyed.add(name)
    return keyed


def _check_keys(connection: duckdb.DuckDBPyConnection, name: str, table: Table, root: Path) -> None:
    """What a declared key does, after the fact. Raises ArtifactError."""
    key = _columns(table.key)
    wrong = {"the key stands twice": f"SELECT {key} FROM {name} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"}
    if table.parent:
        other = _columns(TABLES[table.parent].key)
        there = f"no such row in {table.parent}"
        wrong[there] = f"SELECT {key} FROM {name} ANTI JOIN {table.parent} USING ({other}) LIMIT 1"
    for reason, sql in wrong.items():
        if found := connection.execute(sql).fetchone():
            raise _unfit(str(root / str(found[0]) / (table.file or name)), f"{reason}: {', '.join(map(str, found))}")


def _create(connection: duckdb.DuckDBPyConnection, name: str, table: Table, keyed: set[str]) -> None:
    connection.register("incoming", table.schema.empty_table())
    types = connection.execute("SELECT column_name, column_type FROM (DESCRIBE incoming)").fetchall()
    connection.unregister("incoming")
    lines = [f'"{column}" {kind}' for column, kind in types]
    if name in keyed:
        lines.append(f"PRIMARY KEY ({_columns(table.key)})")
    if name in keyed and table.parent:
        key = _columns(TABLES[table.parent].key)
        lines.append(f"FOREIGN KEY ({key}) REFERENCES {table.parent} ({key})")
    connection.execute(f"CREATE TABLE {name} ({', '.join(lines)})")
    _comment(connection, f"TABLE {name}", table.comment)
    for field in table.schema:
        _comment(connection, f'COLUMN {name}."{field.name}"', comment_of(field))


def _known_columns() -> dict[str, str]:
    """Column of a table -> what it means; the first table that has it says."""
    known: dict[str, str] = {}
    for table in TABLES.values():
        for field in table.schema:
            known.setdefault(field.name, comment_of(field))
    return known


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _insert(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, source: str) -> None:
    connection.register("incoming", rows)
    try:
        connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
    except duckdb.ConstraintException as error:
        raise _unfit(source, str(error).partition("\n")[0]) from None
    connection.unregister("incoming")


def _unfit(source: str, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{source}: does not fit the unit's other artifacts: {reason}. They stem from different runs; run `dvc repro`"
    )


def _comment(connection: duckdb.DuckDBPyConnection, what: str, comment: str) -> None:
    quoted = comment.replace("'", "''")
    connection.execute(f"COMMENT ON {what} IS '{quoted}'")


def _read(artifact: Path, unit: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The artifact's rows under `schema`, in its order, BATCH at once: other columns are left out, absent ones are NULL."""
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    wanted = [field for field in schema if field.name != "unit"]
    try:
        with pq.ParquetFile(artifact) as file:
            there = set(file.schema_arrow.names)
            present = [field.name for field in wanted if field.name in there]
            for batch in file.iter_batches(BATCH, columns=present):
                n = len(batch)
                columns = [
                    batch[field.name].cast(field.type) if field.name in there else pa.nulls(n, field.type)
                    for field in wanted
                ]
                yield pa.table([pa.repeat(pa.scalar(unit, pa.string()), n), *columns], schema=nullable)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(artifact, error) from None


def _columns_of(artifact: Path, *names: str) -> pa.Table:
    try:
        return pq.read_table(artifact, columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(artifact, error) from None


def _unreadable(artifact: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{artifact}: not readable ({error}); delete it and run `dvc repro`")


def _unit_row(folder: Path, unit: str, manifest: Path) -> pa.Table:
    counts: dict[str, Any] = {"train": 0, "validation": 0, "test_good": 0, "test_logical": 0, "test_structural": 0}
    images = _columns_of(manifest, "split", "kind").group_by(["split", "kind"]).aggregate([([], "count_all")])
    for row in images.to_pylist():
        counts[f"test_{row['kind']}" if row["split"] == "test" else row["split"]] += row["count_all"]
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        metrics = {}
    except ValueError as error:
        raise ArtifactError(f"{folder / 'metrics.json'}: not JSON ({error}); run `dvc repro`") from None
    decision, image, pixel = (metrics.get(part) or {} for part in ("decision", "image", "pixel"))
    row = {"unit": unit, **counts, "pixel_auroc": pixel.get("auroc")}
    row |= {key: decision.get(key) for key in ("threshold", "false_alarm_rate_promised", "false_alarm_rate_observed")}
    row |= {f"image_{key}": image.get(key) for key in ("auroc", "auroc_logical", "auroc_structural")}
    return pa.Table.from_pylist([row], schema=UNITS_SCHEMA)


def _class_rows(unit: str, files: dict[str, Path], names_root: Path) -> pa.Table:
    """Every class that an image of the unit shows or that a person has named."""
    names = load_names(names_root / f"{unit}.yaml")
    seen = set(names)
    for table in ("descriptions", "text_bank"):
        if table in files:
            seen |= set(_columns_of(files[table], "object_class")["object_class"].unique().to_pylist())
    rows = [
        {"unit": unit, "object_class": c, "one": noun(c, 1, names), "many": noun(c, 2, names)}
        for c in sorted(seen - {""})
    ]
    return pa.Table.from_pylist(rows, schema=CLASSES_SCHEMA)


def _versions(root: Path, units: Sequence[str]) -> pa.Table:
    try:
        tmuad = version("tmuad")
    except PackageNotFoundError:  # run from its source
        tmuad = "source"
    rows = [
        ("", "schema", str(VERSION), "tables and views of this data base"),
        ("", "tmuad", tmuad, "the program that built it"),
        ("", "duckdb", duckdb.__version__, "the library that wrote it"),
    ]
    meanings = {table.file: table.comment for table in TABLES.values() if table.file}
    meanings |= {"object_bank.safetensors": "object memory bank", "patch_bank.safetensors": "patch memory bank"}
    meanings |= {"calibration.json": "threshold and scales of the banks"}
    for unit in units:
        for file, meaning in sorted(meanings.items()):
            if (root / unit / file).is_file():
                with (root / unit / file).open("rb") as stream:
                    rows.append((unit, file, hashlib.file_digest(stream, "sha256").hexdigest(), meaning))
    return pa.Table.from_pylist(
        [dict(zip(VERSIONS_SCHEMA.names, row, strict=True)) for row in rows], schema=VERSIONS_SCHEMA
    )
