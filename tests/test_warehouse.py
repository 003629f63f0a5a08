"""The DuckDB product on two tiny units: tables, comments, views, and what a query must not be able to do."""

import json
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tmuad import tables
from tmuad.errors import ArtifactError
from tmuad.warehouse import TABLES, VIEWS, QueryError, build, connect, query
from tmuad.warehouse.schema import UNITS_SCHEMA

NASTY = 'it\'s "a" <b>; DROP TABLE images; --винт'
RUNS = [3, 2, 4]


def row(schema, *values):
    return dict(zip(schema.names, values, strict=True))


def image(image_id, split="train", kind="good", defect=""):
    masks = [f"truth/{image_id}.png"] if kind != "good" else []
    return row(tables.MANIFEST_SCHEMA, image_id, f"{split}/{image_id}.png", split, kind, defect, masks)


def description(image_id, name, count, position, size):
    places = [0.5] * count
    texts = (f"{count} {name} at {position}", f"T of {image_id}")
    lists = ([position], places, places, places, list(range(count)), [RUNS] * count, RUNS)
    return row(tables.DESCRIPTIONS_SCHEMA, image_id, name, count, position, size, *texts, *lists)


def verdict(image_id, word, score):
    return row(tables.VERDICTS_SCHEMA, image_id, word, score, 2.0, 1.0, 0.0, 0.0, "t1")


def finding(image_id, rank, name, attribute, strength):
    sentence = f"{rank}. {name} {attribute}"
    return row(tables.FINDINGS_SCHEMA, image_id, rank, name, attribute, "2", "1", strength, 0, 0, 2, 2, RUNS, sentence)


UNIT_A = {
    "manifest": (
        tables.MANIFEST_SCHEMA,
        [
            image("t1"), image("t2"), image("t3"), image("g1", "test"), image("g2", "test"),
            image("l1", "test", "logical", NASTY), image("l2", "test", "logical", "missing"),
        ],
    ),
    "descriptions": (
        tables.DESCRIPTIONS_SCHEMA,
        [
            description("t1", "screw", 2, "left", 0.10), description("t2", "screw", 3, "top", 0.14),
            description("t3", "screw", 2, "left", 0.12), description("t1", NASTY, 1, "centre", 0.5),
            description("t2", "", 0, "", 0.0), description("g1", "screw", 9, "right", 0.9),
        ],
    ),
    "findings": (
        tables.FINDINGS_SCHEMA,
        [
            finding("g2", 1, "screw", "size", 0.4), finding("l1", 1, "screw", "missing", 1.0),
            finding("l1", 2, "nut", "extra", 0.5), finding("l2", 1, "screw", "missing", 0.5),
        ],
    ),
    "verdicts": (
        tables.VERDICTS_SCHEMA,
        [verdict("g1", "good", 1.0), verdict("g2", "anomalous", 3.0), verdict("l1", "anomalous", 5.0),
         verdict("l2", "good", 1.5)],
    ),
}  # fmt: skip


def write_artifacts(root):
    for unit in ("a", "b"):
        (root / unit).mkdir(parents=True)
    for name, (schema, rows) in UNIT_A.items():
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "a" / f"{name}.parquet")
    manifest = pa.Table.from_pylist([image("t1")], schema=tables.MANIFEST_SCHEMA)
    pq.write_table(manifest.drop_columns("masks"), root / "b/manifest.parquet")
    metrics = {"decision": {"threshold": 2.0, "false_alarm_rate_observed": 0.5}, "image": {"auroc": 0.75}}
    (root / "a/metrics.json").write_text(json.dumps(metrics))
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    build(folder / "tmuad.duckdb", write_artifacts(folder / "artifacts"), ["b", "a"])
    return folder


@pytest.fixture
def artifacts(built, tmp_path):
    return shutil.copytree(built / "artifacts", tmp_path / "artifacts")


@pytest.fixture
def warehouse(built, tmp_path):
    path = tmp_path / "reports" / "tmuad.duckdb"
    path.parent.mkdir()
    return shutil.copy(built / "tmuad.duckdb", path)


def rows(path, sql):
    return [tuple(row) for row in query(path, sql).itertuples(index=False)]


def test_every_artifact_is_there_row_by_row(warehouse):
    for name, (schema, expected) in UNIT_A.items():
        table = "images" if name == "manifest" else name
        with connect(warehouse) as connection:
            columns = ", ".join(f'"{c}"' for c in schema.names)
            found = connection.execute(f"SELECT {columns} FROM {table} WHERE unit = 'a'").fetchall()
        assert [dict(zip(schema.names, row, strict=True)) for row in found] == expected


def test_units_table_sums_up(warehouse):
    [a, b] = query(warehouse, "FROM units ORDER BY unit").to_dict("records")
    assert (a["train"], a["validation"], a["test_good"], a["test_logical"], a["test_structural"]) == (3, 0, 2, 2, 0)
    assert (a["threshold"], a["false_alarm_rate_observed"], a["image_auroc"]) == (2.0, 0.5, 0.75)
    assert b["train"] == 1 and b["threshold"] != b["threshold"]


def test_a_column_that_an_artifact_lacks_is_null_and_a_missing_file_no_rows(warehouse):
    assert rows(warehouse, "SELECT path, masks IS NULL FROM images WHERE unit = 'b'") == [("train/t1.png", True)]
    assert rows(warehouse, "SELECT count(*) FROM segments") == [(0,)]


def test_every_table_view_and_column_is_explained(warehouse):
    unexplained = """
        SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL
          AND table_name IN (SELECT table_name FROM duckdb_tables())
        UNION ALL SELECT table_name, '' FROM duckdb_tables() WHERE comment IS NULL
        UNION ALL SELECT view_name, '' FROM duckdb_views() WHERE NOT internal AND comment IS NULL
    """
    assert rows(warehouse, unexplained) == []
    named = {row[0] for row in rows(warehouse, "SELECT table_name FROM duckdb_tables()")}
    assert named == set(TABLES)
    comment = "SELECT comment FROM duckdb_columns() WHERE table_name = 'descriptions' AND column_name = 'size'"
    assert rows(warehouse, comment) == [("share of the image that the class covers, 0..1 (O_size)",)]


def test_types_are_those_of_the_schema_also_for_empty_tables(warehouse):
    types = dict(rows(warehouse, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'segments'"))
    assert types["runs"] == "UINTEGER[]" and types["score"] == "FLOAT" and types["x0"] == "INTEGER"


def test_normal_ranges(warehouse):
    found = query(warehouse, "FROM normal_ranges").set_index("object_class")
    screw, odd = found.loc["screw"], found.loc[NASTY]
    assert (screw["count_min"], screw["count_max"], list(screw["counts"])) == (2, 3, [2, 3])
    assert (screw["size_min"], screw["size_max"]) == (0.10, 0.14)  # the test image's 0.9 is no normal size
    assert list(screw["positions"]) == ["left", "top"]
    assert (odd["count_min"], odd["count_max"], odd["images_with_class"], odd["training_images"]) == (0, 1, 1, 3)
    assert len(found) == 2


def test_wrong_verdicts_false_alarms_and_reasons(warehouse):
    wrong = rows(warehouse, "SELECT path, kind, verdict, first_reason FROM wrong_verdicts")
    assert wrong == [
        ("test/g2.png", "good", "anomalous", "1. screw size"),
        ("test/l2.png", "logical", "good", "1. screw missing"),
    ]
    assert rows(warehouse, "SELECT path, score FROM false_alarms") == [("test/g2.png", 3.0)]
    reasons = rows(warehouse, "SELECT object_class, attribute, kind, images, mean_strength FROM findings_by_reason")
    assert reasons[0] == ("screw", "missing", "logical", 2, 0.75)
    assert len(reasons) == 3


def test_names_of_any_kind_are_plain_text(warehouse):
    assert rows(warehouse, "SELECT defect FROM images WHERE image_id = 'l1'") == [(NASTY,)]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- only a comment",
        "DELETE FROM images",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW false_alarms",
        "COPY images TO '{other}'",
        "FROM read_csv('{secret}')",
        "FROM read_text('{secret}')",
        "FROM '{secret}'",
        "ATTACH '{other}' AS other",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "FROM secret_frame",
    ],
)
def test_a_query_can_only_read_the_warehouse(warehouse, tmp_path, sql):
    secret, other = tmp_path / "secret.csv", tmp_path / "other"
    secret.write_text("a\n1\n")
    secret_frame = pa.table({"a": [1]})  # noqa: F841  (DuckDB would find it by name)
    before = warehouse.read_bytes()
    with pytest.raises(QueryError):
        query(warehouse, sql.format(secret=secret, other=other))
    assert warehouse.read_bytes() == before and not other.exists()


def test_a_mistake_in_a_query_is_pointed_at(warehouse):
    with pytest.raises(QueryError, match="imagez"):
        query(warehouse, "SELECT * FROM imagez")


def test_rebuilding_starts_from_scratch_and_leaves_nothing_behind(warehouse, artifacts):
    build(warehouse, artifacts, ["b"])
    assert rows(warehouse, "SELECT DISTINCT unit FROM images") == [("b",)]
    assert [p.name for p in warehouse.parent.iterdir()] == [warehouse.name]


def test_a_failed_build_keeps_the_old_warehouse(warehouse, artifacts):
    (artifacts / "a/findings.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ArtifactError, match=r"findings\.parquet: not readable"):
        build(warehouse, artifacts, ["a", "b"])
    assert rows(warehouse, "SELECT count(*) FROM findings") == [(4,)]
    assert [p.name for p in warehouse.parent.iterdir()] == [warehouse.name]


def test_a_unit_that_was_never_prepared_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere.*manifest\.parquet: no such file"):
        build(tmp_path / "w.duckdb", tmp_path, ["nowhere"])


def test_missing_or_foreign_files_are_no_warehouse(tmp_path):
    with pytest.raises(ArtifactError, match="dvc repro"):
        query(tmp_path / "none.duckdb", "SELECT 1")
    (tmp_path / "text.duckdb").write_text("not a data base" * 1000)
    with pytest.raises(ArtifactError, match="not readable as a warehouse"):
        query(tmp_path / "text.duckdb", "SELECT 1")


def test_no_units_make_an_empty_warehouse(tmp_path):
    build(tmp_path / "w.duckdb", tmp_path, [])
    for view in VIEWS:
        assert query(tmp_path / "w.duckdb", f"FROM {view}").empty
    assert list(query(tmp_path / "w.duckdb", "FROM units").columns) == UNITS_SCHEMA.names


def test_the_file_is_an_ordinary_duckdb_file(warehouse):
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (8,)
