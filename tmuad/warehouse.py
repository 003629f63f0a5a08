"""The DuckDB product: all units' artifacts as tables with comments, and views for what people ask.

The file is a copy made from Parquet for people to query. It is rebuilt from scratch each time and is never an input of
anything: equal rows give different bytes (design, section 5).
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tmuad import tables
from tmuad.errors import ArtifactError, TmuadError
from tmuad.tables import column, comment_of

UNIT = column("unit", pa.string(), "name of the unit: a category of a data set")

UNITS_SCHEMA = pa.schema(
    [
        UNIT,
        column("train", pa.int64(), "training images"),
        column("validation", pa.int64(), "held-out normal images"),
        column("test_good", pa.int64(), "normal test images"),
        column("test_logical", pa.int64(), "test images with a logical anomaly"),
        column("test_structural", pa.int64(), "test images with a structural anomaly"),
        column("threshold", pa.float64(), "a score above it is anomalous", nullable=True),
        column("false_alarm_rate_promised", pa.float64(), "0..1", nullable=True),
        column("false_alarm_rate_observed", pa.float64(), "on the normal test images, 0..1", nullable=True),
        column("image_auroc", pa.float64(), "all anomalies, 0..1", nullable=True),
        column("image_auroc_logical", pa.float64(), "good against logical, 0..1", nullable=True),
        column("image_auroc_structural", pa.float64(), "good against structural, 0..1", nullable=True),
        column("pixel_auroc", pa.float64(), "all anomalies, 0..1", nullable=True),
    ]
)

# table -> (file in the unit's folder, columns, what a row is)
TABLES: dict[str, tuple[str, pa.Schema, str]] = {
    "images": ("manifest.parquet", tables.MANIFEST_SCHEMA, "one row per image"),
    "segments": ("segments.parquet", tables.SEGMENTS_SCHEMA, "one row per segment of an image"),
    "descriptions": ("descriptions.parquet", tables.DESCRIPTIONS_SCHEMA, "one row per image and object class"),
    "text_bank": ("text_bank.parquet", tables.TEXT_BANK_SCHEMA, "one row per object class: what is normal"),
    "scores": ("scores.parquet", tables.SCORES_SCHEMA, "one row per scored image: what each bank says"),
    "findings": ("findings.parquet", tables.FINDINGS_SCHEMA, "one row per reason"),
    "verdicts": ("verdicts.parquet", tables.VERDICTS_SCHEMA, "one row per scored image: the decision"),
}

# view -> (SQL, what a row is)
VIEWS: dict[str, tuple[str, str]] = {
    "normal_ranges": (
        """
        WITH train AS (SELECT unit, image_id FROM images WHERE split = 'train'),
        total AS (SELECT unit, count(*) AS n FROM train GROUP BY unit),
        seen AS (SELECT d.* FROM descriptions d JOIN train USING (unit, image_id) WHERE object_class <> '')
        SELECT unit, object_class, any_value(n) AS training_images, count(*) AS images_with_class,
               CASE WHEN count(*) < any_value(n) THEN 0 ELSE min("count") END AS count_min, max("count") AS count_max,
               list_sort(list_distinct(list("count"))) AS counts,
               list_sort(list_distinct(list("position"))) AS positions,
               min(size) AS size_min, max(size) AS size_max
        FROM seen JOIN total USING (unit) GROUP BY unit, object_class ORDER BY unit, object_class
        """,
        "one row per unit and object class: counts, positions and sizes over the training images",
    ),
    "wrong_verdicts": (
        """
        SELECT unit, path, kind, defect, verdict, score, threshold, sentence AS first_reason
        FROM images JOIN verdicts USING (unit, image_id) LEFT JOIN first_findings USING (unit, image_id)
        WHERE split = 'test' AND (kind = 'good') <> (verdict = 'good') ORDER BY unit, kind, score DESC, path
        """,
        "one row per test image whose verdict is not what is true of it",
    ),
    "false_alarms": (
        "SELECT unit, path, score, threshold, first_reason FROM wrong_verdicts WHERE kind = 'good'",
        "one row per normal test image that was called anomalous, with its first reason",
    ),
    "findings_by_reason": (
        """
        SELECT unit, object_class, attribute, kind, count(DISTINCT image_id) AS images, avg(strength) AS mean_strength
        FROM findings JOIN images USING (unit, image_id) WHERE split = 'test'
        GROUP BY ALL ORDER BY unit, images DESC, object_class, attribute, kind
        """,
        "one row per unit, object class, attribute and kind of image: how many test images give that reason",
    ),
}
_FIRST_FINDINGS = "SELECT unit, image_id, sentence FROM findings WHERE rank = 1"


class QueryError(TmuadError):
    """A query that DuckDB refuses; the message says where."""


def build(path: Path, artifacts_root: Path, units: Sequence[str]) -> None:
    """Write the warehouse of `units` to `path`, replacing what was there only when the new one is whole.

    A stage that has not run leaves its table without the unit's rows, and a column that an artifact lacks is NULL.

    Raises:
        ArtifactError: a unit has no manifest, an artifact cannot be read, or `path` cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with duckdb.connect(str(temporary)) as connection:
            connection.begin()  # one transaction: a commit for each of a hundred comments takes a second
            _fill(connection, artifacts_root, sorted(units))
            connection.commit()
        temporary.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error}); make the folder writable or free some space"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def connect(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read the warehouse `path` and nothing else: no other file, no extension, no change.

    Raises:
        ArtifactError: the file is missing, or not a warehouse that this version reads.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such warehouse; `dvc repro` builds it")
    limits: dict[str, Any] = {
        "enable_external_access": False,
        "python_enable_replacements": False,  # a query must not see variables of the program around it
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "lock_configuration": True,
    }
    try:
        connection = duckdb.connect(str(path), read_only=True, config=limits)
    except duckdb.Error as error:
        raise ArtifactError(f"{path}: not readable as a warehouse ({error}); `dvc repro` rebuilds it") from None
    with connection:
        yield connection


def query(path: Path, sql: str) -> pd.DataFrame:
    """The rows that `sql` selects from the warehouse `path`.

    Raises:
        ArtifactError: as `connect`.
        QueryError: DuckDB refuses the query, or there is none.
    """
    with connect(path) as connection:
        try:
            result = connection.execute(sql)
            if result is None:
                raise QueryError('the query is empty; try "FROM units" or "SHOW TABLES"')
            return result.df()
        except duckdb.Error as error:
            raise QueryError(str(error)) from None


def _fill(connection: duckdb.DuckDBPyConnection, root: Path, units: Sequence[str]) -> None:
    for name, (file, schema, comment) in TABLES.items():
        full = pa.schema([UNIT, *schema])
        _create(connection, name, full, comment)
        for unit in units:
            artifact = root / unit / file
            if artifact.is_file():
                _insert(connection, name, _read(artifact, unit, full))
            elif name == "images":
                raise ArtifactError(f"{artifact}: no such file; run `dvc repro` for the unit '{unit}' first")
    _create(connection, "units", UNITS_SCHEMA, "one row per unit: images, threshold, results")
    rows = [_unit_row(connection, root, unit) for unit in units]
    _insert(connection, "units", pa.Table.from_pylist(rows, schema=UNITS_SCHEMA))
    connection.execute(f"CREATE VIEW first_findings AS {_FIRST_FINDINGS}")
    _comment(connection, "VIEW first_findings", "one row per image with a reason: the strongest")
    for name, (sql, comment) in VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {sql}")
        _comment(connection, f"VIEW {name}", comment)


def _create(connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, comment: str) -> None:
    connection.register("incoming", schema.empty_table())
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    connection.unregister("incoming")
    _comment(connection, f"TABLE {name}", comment)
    for field in schema:
        _comment(connection, f'COLUMN {name}."{field.name}"', comment_of(field))


def _insert(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("incoming", rows)
    connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
    connection.unregister("incoming")


def _comment(connection: duckdb.DuckDBPyConnection, what: str, comment: str) -> None:
    quoted = comment.replace("'", "''")
    connection.execute(f"COMMENT ON {what} IS '{quoted}'")


def _read(artifact: Path, unit: str, schema: pa.Schema) -> pa.Table:
    """The artifact's rows under `schema`, in its order: other columns are left out, absent ones are NULL."""
    try:
        found = pq.read_table(artifact)
        columns = [
            found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(len(found), field.type)
            for field in schema
            if field.name != "unit"
        ]
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{artifact}: not readable ({error}); delete it and run `dvc repro`") from None
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return pa.table([pa.array([unit] * len(found), pa.string()), *columns], schema=nullable)


def _unit_row(connection: duckdb.DuckDBPyConnection, root: Path, unit: str) -> dict[str, Any]:
    groups = connection.execute(
        "SELECT split, kind, count(*) FROM images WHERE unit = ? GROUP BY ALL", [unit]
    ).fetchall()
    counts = {"train": 0, "validation": 0, "test_good": 0, "test_logical": 0, "test_structural": 0}
    for split, kind, count in groups:
        counts[f"test_{kind}" if split == "test" else split] += count
    try:
        metrics = json.loads((root / unit / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        metrics = {}
    except ValueError as error:
        raise ArtifactError(f"{root / unit / 'metrics.json'}: not JSON ({error}); run `dvc repro`") from None
    decision, image, pixel = (metrics.get(part) or {} for part in ("decision", "image", "pixel"))
    named = {"unit": unit, **counts, "pixel_auroc": pixel.get("auroc")}
    named |= {key: decision.get(key) for key in ("threshold", "false_alarm_rate_promised", "false_alarm_rate_observed")}
    return named | {f"image_{key}": image.get(key) for key in ("auroc", "auroc_logical", "auroc_structural")}
