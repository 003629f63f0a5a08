"""The DuckDB product on two tiny units: tables, comments, views, and what a query must not be able to do."""

import hashlib
import importlib
import json
import re
import shutil
import time
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scenes import SHAPE, scene, thing

import tmuad
from tmuad import tables
from tmuad.describe.description import SceneObject
from tmuad.describe.position import cell
from tmuad.describe.table import descriptions_table
from tmuad.errors import ArtifactError, ParameterError
from tmuad.warehouse import TABLES, VERSION, VIEWS, Limits, QueryError, build, connect, query
from tmuad.warehouse.guide import write_guide
from tmuad.warehouse.questions import QUESTIONS
from tmuad.warehouse.schema import UNITS_SCHEMA

BUILD = importlib.import_module("tmuad.warehouse.build")  # the package has a function of that name
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
        SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''
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


# --- objects, names, keys and versions


def test_objects_are_single_rows_with_place_and_box(built, tmp_path):
    root = shutil.copytree(built / "artifacts", tmp_path / "artifacts")
    things = [thing("screw", x, y) for x, y in ((0.1, 0.1), (0.5, 0.34), (0.9, 0.99))]
    described = descriptions_table([scene(1, *things)], SHAPE, 0.05).set_column(0, "image_id", pa.array(["t1"]))
    pq.write_table(described, root / "a/descriptions.parquet")
    segment = {
        "source": "grounded",
        "index": 0,
        "candidate": 7,
        "label": "screw",
        "score": 0.5,
        "area": 16,
        "runs": RUNS,
    }
    segment |= {"image_id": "t1", "x0": 1, "y0": 2, "x1": 5, "y1": 6}
    pq.write_table(pa.Table.from_pylist([segment], schema=tables.SEGMENTS_SCHEMA), root / "a/segments.parquet")
    path = tmp_path / "w.duckdb"
    build(path, root, ["a"])
    found = rows(path, 'SELECT number, "position", size FROM objects')
    places = ["top left", "centre", "bottom right"]
    assert found == [(i + 1, place, o.area) for i, (place, o) in enumerate(zip(places, things, strict=True))]
    # Only an object with a candidate of its own has a box.
    index = described.schema.get_field_index("candidates")
    pq.write_table(
        described.set_column(index, "candidates", pa.array([[7, -1, 3]], pa.list_(pa.int32()))),
        root / "a/descriptions.parquet",
    )
    build(path, root, ["a"])
    assert rows(path, "SELECT x0, y0, x1, y1, confidence FROM objects WHERE number = 1") == [(1, 2, 5, 6, 0.5)]
    assert rows(path, "SELECT count(*) FROM objects WHERE x0 IS NULL") == [(2,)]


@pytest.mark.parametrize(
    ("x", "y"), [(0, 0), (1 / 3, 2 / 3), (0.3333, 0.6667), (0.999, 1.0), (1.0, 0.0), (0.5, 0.5), (2 / 3, 1 / 3)]
)
def test_position_in_sql_is_that_of_the_descriptions(built, tmp_path, x, y):
    root = shutil.copytree(built / "artifacts", tmp_path / "artifacts")
    o = SceneObject("screw", x, y, 0.1, thing("screw", 0.5, 0.5).runs)
    described = descriptions_table([scene(1, o)], SHAPE, 0.05).set_column(0, "image_id", pa.array(["t1"]))
    pq.write_table(described, root / "a/descriptions.parquet")
    build(tmp_path / "w.duckdb", root, ["a"])
    assert rows(tmp_path / "w.duckdb", 'SELECT "position" FROM objects') == [(cell(x, y),)]


def test_classes_carry_the_names_a_person_gave(artifacts, tmp_path):
    (tmp_path / "names").mkdir()
    (tmp_path / "names/a.yaml").write_text("screw: {one: 'Schraube ø', many: Schrauben}\nunseen: <b>it's</b>\n")
    build(tmp_path / "w.duckdb", artifacts, ["a"], tmp_path / "names")
    named = dict(rows(tmp_path / "w.duckdb", "SELECT object_class, one FROM classes"))
    assert named == {"screw": "Schraube ø", "unseen": "<b>it's</b>", NASTY: f"{NASTY} object"}
    assert rows(tmp_path / "w.duckdb", "SELECT name FROM normal_ranges WHERE object_class = 'screw'") == [
        ("Schraube ø",)
    ]


def test_every_row_has_its_parent_and_keys_are_declared(warehouse):
    wanted = "constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')"
    kinds = f"SELECT table_name, constraint_type FROM duckdb_constraints() WHERE {wanted}"
    declared = set(rows(warehouse, kinds))
    assert {name for name, kind in declared if kind == "PRIMARY KEY"} == set(TABLES)
    assert {name for name, table in TABLES.items() if table.parent} <= {
        name for name, kind in declared if kind == "FOREIGN KEY"
    }


def test_artifacts_of_different_runs_are_refused_and_named(artifacts, tmp_path):
    stranger = pa.Table.from_pylist([verdict("never-listed", "good", 1.0)], schema=tables.VERDICTS_SCHEMA)
    pq.write_table(stranger, artifacts / "a/verdicts.parquet")
    with pytest.raises(ArtifactError, match=r"verdicts\.parquet: does not fit .*dvc repro"):
        build(tmp_path / "w.duckdb", artifacts, ["a"])


def test_versions_say_what_the_rows_were_computed_from(warehouse, built):
    found = {
        (unit, part): version for unit, part, version in rows(warehouse, "SELECT unit, part, version FROM versions")
    }
    assert found["", "schema"] == str(VERSION)
    digest = hashlib.sha256((built / "artifacts/a/manifest.parquet").read_bytes()).hexdigest()
    assert found["a", "manifest.parquet"] == digest


@pytest.mark.parametrize(
    "change", ["UPDATE versions SET version = '1' WHERE part = 'schema'", "DROP TABLE versions", "DELETE FROM versions"]
)
def test_a_warehouse_of_another_version_is_refused_with_the_remedy(warehouse, change):
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(change)
    with pytest.raises(ArtifactError, match=r"reads version .*dvc repro --force warehouse"):
        query(warehouse, "FROM units")


# --- views


def test_rules_and_rarities(artifacts, tmp_path):
    always = [description(i, "nut", 1, "top", 0.1) for i in ("t1", "t2", "t3")]
    odd = description("t3", "screw", 2, "left", 0.1) | {"image_text": "T of t1"}
    for one in always:
        one["image_text"] = "T of t1" if one["image_id"] != "t2" else "only t2"
    pq.write_table(
        pa.Table.from_pylist([*always, odd], schema=tables.DESCRIPTIONS_SCHEMA), artifacts / "a/descriptions.parquet"
    )
    build(tmp_path / "w.duckdb", artifacts, ["a"])
    assert rows(tmp_path / "w.duckdb", 'SELECT object_class, "count", "position", support FROM normal_rules') == [
        ("nut", 1, "top", 3)
    ]
    assert rows(tmp_path / "w.duckdb", "SELECT path, images_with_this_text FROM rare_normals") == [("train/t2.png", 1)]


def test_weeks_begin_on_monday_and_unknown_ones_stay_unknown(artifacts, tmp_path):
    def context(image_id, arrived):
        return row(tables.CONTEXT_SCHEMA, image_id, arrived, "photograph", "t2", 0.5)

    # the log of whoever takes images in comes before what a photograph says of itself
    (tmp_path / "log").mkdir()
    (tmp_path / "log/a.csv").write_text("path,arrived\ntrain/t2.png,2025-12-29\ntrain/gone.png,2024-01-01\n")
    days = [context("t1", datetime(2026, 1, 1, 8)), context("t2", datetime(2020, 1, 1)), context("t3", None)]
    pq.write_table(pa.Table.from_pylist(days, schema=tables.CONTEXT_SCHEMA), artifacts / "a/context.parquet")
    build(tmp_path / "w.duckdb", artifacts, ["a"], arrivals_root=tmp_path / "log")
    told = rows(tmp_path / "w.duckdb", "SELECT image_id, arrived_from FROM context ORDER BY image_id")
    assert told == [("t1", "photograph"), ("t2", "log"), ("t3", "photograph")]
    found = rows(
        tmp_path / "w.duckdb", "SELECT CAST(week AS VARCHAR), images FROM arrivals_by_week WHERE split = 'train'"
    )
    assert found[0] == ("2025-12-29", 2) and found[1][1] == 1
    near = query(
        tmp_path / "w.duckdb",
        "SELECT nearest_by_text, nearest_by_patch FROM explaining_normals WHERE path = 'test/g1.png'",
    )
    assert near["nearest_by_text"].tolist() == ["train/t1.png"] and near["nearest_by_patch"].isna().all()


def test_false_alarms_by_reason_and_missed_anomalies(warehouse):
    assert rows(warehouse, "SELECT object_class, attribute, images FROM false_alarms_by_reason") == [
        ("screw", "size", 1)
    ]
    assert rows(warehouse, "SELECT path FROM missed_anomalies") == [("test/l2.png",)]


# --- one unit, limits, and the open connection


def test_a_unit_narrows_every_table_and_view(warehouse):
    for name in (*TABLES, *VIEWS):
        whole = query(warehouse, f"SELECT * FROM {name}")
        narrow = query(warehouse, f"SELECT * FROM {name}", unit="a")
        assert "unit" in whole.columns
        assert len(narrow) == (whole["unit"] == "a").sum(), name
    with pytest.raises(ParameterError, match="it has: a, b"):
        query(warehouse, "FROM units", unit="c'; DROP TABLE units; --")


def test_a_query_that_takes_too_long_is_stopped(warehouse):
    before = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
        query(warehouse, "SELECT count(*) FROM range(10000000) a, range(10000000) b", limits=Limits(seconds=0.3))
    assert time.monotonic() - before < 5


def test_a_query_that_takes_too_much_memory_is_refused_without_spilling(warehouse):
    with pytest.raises(QueryError, match="more than 50MB of memory"):
        query(warehouse, "SELECT list(a.range) FROM range(100000000) a", limits=Limits(memory="50MB"))
    assert {p.name for p in warehouse.parent.iterdir()} == {warehouse.name}


@pytest.mark.parametrize(
    ("memory", "seconds"), [("lots", 1), ("-1GB", 1), ("1GB", 0), ("1GB", float("nan")), ("1GB", 1e300)]
)
def test_senseless_limits_are_refused(memory, seconds):
    with pytest.raises(ParameterError, match="limit"):
        Limits(memory, seconds)


def test_open_warehouse_gives_pandas_and_arrow_and_changes_nothing(warehouse):
    with tmuad.open_warehouse(warehouse) as connection:
        frame = connection.sql("FROM verdicts").df()
        assert len(frame) == 4 and connection.sql("FROM verdicts").to_arrow_table().num_rows == 4
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("DELETE FROM verdicts")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tmuad.nothing


def test_errors_point_at_the_place_and_name_what_there_is(warehouse):
    with pytest.raises(QueryError) as unknown:
        query(warehouse, "SELECT path\nFROM imagez")
    assert "LINE 2: FROM imagez" in str(unknown.value) and "     ^^^^^^" in str(unknown.value)
    assert "wrong_verdicts" in str(unknown.value)
    with pytest.raises(QueryError, match="no file but"):
        query(warehouse, "FROM read_csv('/etc/passwd')")
    with pytest.raises(QueryError, match="Unicode"):
        query(warehouse, "SELECT '\ud800'")


def test_the_guide_answers_every_question(tmp_path, warehouse):
    write_guide(tmp_path / "docs/sql.md", warehouse)
    text = (tmp_path / "docs/sql.md").read_text()
    assert text.count("```sql") == len(QUESTIONS) == 20
    for name, table in TABLES.items():
        assert f"### {name}\n" in text
        for field in table.schema:
            assert f"| `{field.name}` |" in text
    assert all(f"| `{view}` |" in text for view in VIEWS)


def test_the_guide_in_docs_is_of_this_version():
    text = (Path(__file__).parents[1] / "docs/sql.md").read_text()
    for question, sql in QUESTIONS:
        assert question in text and sql.strip() in text, "run: python -m tmuad.warehouse.guide docs/sql.md"
    for name, table in TABLES.items():
        assert f"### {name}\n" in text
        assert all(f"| `{field.name}` |" in text for field in table.schema)


def test_the_diagram_in_docs_is_that_of_a_real_warehouse(warehouse):
    """Tables, columns, keys and references, as DuckDB tells them; columns whose names mermaid cannot spell are left out."""
    text = (Path(__file__).parents[1] / "docs/sql.md").read_text()
    drawn = re.search(r"```mermaid\nerDiagram\n(.*?)```", text, re.DOTALL)[1]
    references = re.findall(r"^    (\w+) \|\|--(o\{|o\|) (\w+) : has$", drawn, re.MULTILINE)
    entities = re.findall(r"^    (\w+) \{\n(.*?)^    \}$", drawn, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^    (\w+ \|\|--o[{|] \w+ : has|\w+ \{\n.*?^    \})\n", "", drawn, flags=re.MULTILINE | re.DOTALL)
    assert rest.strip() == ""
    columns, primary, foreign = {}, {}, {}
    for entity, body in entities:
        fields = [re.fullmatch(r"        [\w\[\]]+ (\w+)(?: ([A-Z,]+))?", line) for line in body.splitlines()]
        columns[entity] = [field[1] for field in fields]
        primary[entity] = {field[1] for field in fields if "PK" in (field[2] or "")}
        foreign[entity] = {field[1] for field in fields if "FK" in (field[2] or "")}
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        real = connection.execute(
            "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() WHERE NOT internal "
            "AND table_name IN (SELECT table_name FROM duckdb_tables()) GROUP BY ALL"
        ).fetchall()
        keys = connection.execute(
            "SELECT table_name, constraint_type, constraint_column_names, referenced_table FROM duckdb_constraints()"
        ).fetchall()
    assert columns == {table: [c for c in names if c.isidentifier()] for table, names in real}
    assert primary == {table: set(names) for table, kind, names, _ in keys if kind == "PRIMARY KEY"}
    real_foreign = {table: (set(names), to) for table, kind, names, to in keys if kind == "FOREIGN KEY"}
    assert foreign == {table: real_foreign.get(table, (set(), ""))[0] for table in columns}
    assert {child: parent for parent, _, child in references} == {t: to for t, (_, to) in real_foreign.items()}
    for parent, several, child in references:  # one to one where the child's key is the parent's
        assert (several == "o|") == (primary[child] == primary[parent]), child


def test_tables_too_large_for_declared_keys_hold_the_same_rows_in_batches(artifacts, tmp_path, monkeypatch, warehouse):
    monkeypatch.setattr(BUILD, "DECLARED", 2)
    monkeypatch.setattr(BUILD, "BATCH", 2)
    build(tmp_path / "w.duckdb", artifacts, ["a", "b"])
    wanted = "SELECT DISTINCT table_name FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
    assert {name for (name,) in rows(tmp_path / "w.duckdb", wanted)}.isdisjoint({"images", "descriptions", "verdicts"})
    for name in TABLES.keys() - {"versions"}:
        question = f"SELECT * FROM {name} ORDER BY ALL"
        assert repr(rows(tmp_path / "w.duckdb", question)) == repr(rows(warehouse, question)), name


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["never-listed"], "no such row in images"), (["g1", "g1"], "the key stands twice: a, g1")],
)
def test_keys_that_are_not_declared_are_checked(artifacts, tmp_path, monkeypatch, names, reason):
    monkeypatch.setattr(BUILD, "DECLARED", 0)
    strangers = pa.Table.from_pylist([verdict(name, "good", 1.0) for name in names], schema=tables.VERDICTS_SCHEMA)
    pq.write_table(strangers, artifacts / "a/verdicts.parquet")
    with pytest.raises(ArtifactError, match=rf"a/verdicts\.parquet: does not fit .*{reason}.*dvc repro"):
        build(tmp_path / "w.duckdb", artifacts, ["a"])
    assert not (tmp_path / "w.duckdb").exists()
