"""Results in every format, and the interactive prompt with real keys on a pipe."""

import csv
import datetime as dt
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tmuad import tables
from tmuad.formats import Format
from tmuad.warehouse import Limits, Reader, build, connect
from tmuad.warehouse.export import as_text, encode, printable
from tmuad.warehouse.prompt import SqlCompleter, answer, run_prompt

NASTY = 'a,"b"\n<i>\x1b[31mвинт\u202e'
ROWS = pa.table(
    {
        "name": [NASTY, None, "ab" * 32],
        "n": pa.array([1, None, -3], pa.int32()),
        "x": [0.5, float("nan"), 1e-9],
        "list": [[1, 2], [], None],
        "when": pa.array([dt.datetime(2026, 1, 2), None, None], pa.timestamp("s")),
    }
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompt")
    image = dict(zip(tables.MANIFEST_SCHEMA.names, ["i1", "train/ø'.png", "train", "good", "", []], strict=True))
    (folder / "a").mkdir()
    pq.write_table(pa.Table.from_pylist([image], schema=tables.MANIFEST_SCHEMA), folder / "a/manifest.parquet")
    build(folder / "w.duckdb", folder, ["a"])
    return folder / "w.duckdb"


@pytest.fixture
def reader(warehouse):
    limits = Limits(seconds=5)
    with connect(warehouse, None, limits) as connection:
        yield Reader(connection, warehouse, limits)


def test_csv_and_json_hold_every_value_exactly():
    table = list(csv.reader(io.StringIO(encode(ROWS, Format.csv).decode())))
    assert table[0] == ROWS.column_names
    assert table[1] == [NASTY, "1", "0.5", "[1, 2]", "2026-01-02T00:00:00"]
    assert table[2] == ["", "", "", "[]", ""]
    found = json.loads(encode(ROWS, Format.json))
    assert [row["name"] for row in found] == [NASTY, None, "ab" * 32]
    assert found[0]["list"] == [1, 2] and found[1]["x"] is None and found[0]["when"] == "2026-01-02T00:00:00"


def test_parquet_reads_back_with_types():
    back = pq.read_table(io.BytesIO(encode(ROWS, Format.parquet)))
    assert back.schema.field("n").type == pa.int32() and back["name"].to_pylist() == ROWS["name"].to_pylist()
    assert encode(ROWS, Format.parquet) == encode(ROWS, Format.parquet)


def test_two_columns_of_one_name_both_arrive():
    doubled = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert json.loads(encode(doubled, Format.json)) == [{"a": 1, "a_2": 2}]
    assert encode(doubled, Format.csv) == b"a,a\n1,2\n"
    assert "1  2" in as_text(doubled)


def test_text_is_aligned_and_commands_no_terminal():
    text = as_text(ROWS)
    assert "\x1b" not in text and "\u202e" not in text and "винт" in text
    header, line, *rows, count = text.splitlines()
    assert count == "(3 rows)" and len(rows) == 3 and set(line) == {"─", " "}
    at = header.index(" n") + 1
    assert [row[at] for row in rows] == ["1", "–", "3"]  # numbers end in one column
    assert rows[2].startswith("ab" * 6 + " ")  # image ids are shortened


def test_long_tables_and_cells_are_cut_and_say_so():
    many = pa.table({"a": ["x" * 500] * 300, "b": [list(range(99))] * 300})
    text = as_text(many)
    assert "first 200 of 300 rows; --format csv gives all" in text
    assert max(map(len, text.splitlines())) < 140 and "…" in text
    assert len(encode(many, Format.csv).splitlines()) == 301
    assert as_text(pa.table({})) == "(0 rows)\n"
    wide = as_text(pa.table({"a": ["螺丝", "x"], "b": ["y", "y"]})).splitlines()
    assert wide[2] == "螺丝  y" and wide[3] == "x     y"


@pytest.mark.parametrize("text", ["", "plain", "ø µ 螺丝", "tab\there", "\x00\x1b]0;title\x07", "a\u200bb", "\udc80"])
def test_printable_keeps_letters_and_shows_the_rest(text):
    shown = printable(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b\u202e\udc80]", shown)
    assert shown == text or "\\" in shown


# --- the prompt


def completions(reader, text):
    columns = {"images": ["unit", "path"], "verdicts": ["unit", "score"]}
    found = SqlCompleter(columns).get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


def test_completion_knows_tables_columns_keywords_and_commands(reader):
    assert completions(reader, "SELECT * FROM ima") == ["images"]
    assert completions(reader, "SELECT images.") == ["unit", "path"]
    assert completions(reader, "SELECT count(sc") == ["score"]
    assert completions(reader, "sel") == ["SELECT"]
    assert completions(reader, ".ta") == [".tables"]
    assert completions(reader, ".schema ver") == ["verdicts"]
    assert completions(reader, "SELECT ") == []


def test_dot_commands(reader):
    assert "wrong_verdicts" in answer(reader, ".tables")
    assert "SHA-256" in answer(reader, ".schema images")
    assert "no table" in answer(reader, ".schema images'; DROP TABLE images")
    assert "no command" in answer(reader, ".drop") and "semicolon" in answer(reader, ".help")


def converse(reader, keys, history=None):
    said = []
    with create_pipe_input() as typed:
        typed.send_text(keys)
        run_prompt(reader, said.append, history, (typed, DummyOutput()))
    return "".join(said)


def test_a_conversation_with_a_mistake_goes_on(reader, tmp_path):
    history = tmp_path / "state/history"
    said = converse(reader, "SELECT path\nFROM images;\nSELECT nothing FROM images;\n.tables\n.quit\n", history)
    assert "train/ø'.png" in said and "nothing" in said and "LINE 1" in said and "one row per image" in said
    kept = history.read_text()
    assert "SELECT path" in kept and "SELECT nothing" in kept


def test_history_is_recalled_and_control_d_leaves(reader, tmp_path):
    history = tmp_path / "history"
    converse(reader, "SELECT 40 + 2 AS n;\n\x04", history)
    said = converse(reader, "\x1b[A\n\x04", history)  # arrow up, Enter
    assert "42" in said


def test_a_history_that_cannot_be_kept_is_no_obstacle(reader, tmp_path):
    (tmp_path / "file").write_text("")
    said = converse(reader, "SELECT 7 AS n;\n\x04", tmp_path / "file/history")
    assert "cannot be written" in said and "7" in said
