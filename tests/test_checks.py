"""Saved questions: how they are read, what passes and fails, whom they name; and rules that hold in SQL as they do here."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

from tmuad import tables
from tmuad.checks.rules import propose, save_rule
from tmuad.checks.saved import failures, load_checks, read_check, run_checks
from tmuad.describe.table import descriptions_table
from tmuad.errors import ArtifactError, DataError
from tmuad.warehouse import build

NASTY = 'it\'s "ø" -- <b>'
QUERIES = Path(__file__).parents[1] / "data/queries"


def make_warehouse(folder, entries, unit="kit", splits=None):
    """A warehouse of described normal images."""
    (folder / unit).mkdir(parents=True, exist_ok=True)
    images = [
        {"image_id": e.image_id, "path": f"train/{e.image_id}'s ø.png", "split": (splits or {}).get(e.image_id, "train"),
         "kind": "good", "defect": "", "masks": []}
        for e in entries
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(images, schema=tables.MANIFEST_SCHEMA), folder / unit / "manifest.parquet")
    pq.write_table(descriptions_table(entries, SHAPE, 0.05), folder / unit / "descriptions.parquet")
    build(folder / "w.duckdb", folder, [unit], folder)
    return folder / "w.duckdb"


def usual(number):
    """Two screws at the left, a nut at the right."""
    return scene(number, thing("screw", 0.2, 0.4), thing("screw", 0.2, 0.6), thing("nut", 0.8, 0.5))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return make_warehouse(tmp_path_factory.mktemp("checks"), [usual(i) for i in range(6)])


def check(tmp_path, text, name="q"):
    path = tmp_path / f"{name}.sql"
    path.write_text(text, encoding="utf-8")
    return read_check(path)


def outcome(tmp_path, warehouse, text):
    [found] = run_checks(warehouse, [check(tmp_path, text)])
    return found


# --- reading


def test_the_leading_comment_is_read_and_the_query_kept(tmp_path):
    found = check(
        tmp_path, "-- title: 'a: b'\n--expect: {range: [0, null]}\n-- unit: kit\n-- level: stop\n\nSELECT 1 -- x\n"
    )
    assert (found.name, found.title, found.unit, found.level) == ("q", "a: b", "kit", "stop")
    assert found.sql.strip() == "SELECT 1 -- x" and str(found.expectation) == "between 0 and any"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1", "says not what it expects"),
        ("-- expect: no rows\n", "holds no query"),
        ("-- expect: [\nSELECT 1", "no YAML"),
        ("-- expect: no rows\n-- owner: me\nSELECT 1", "unknown key 'owner'"),
        ("-- expect: many rows\nSELECT 1", "expect: 'many rows'"),
        ("-- expect: {range: [2, 1]}\nSELECT 1", "expect:"),
        ("-- expect: {range: [a, 1]}\nSELECT 1", "expect:"),
        ("-- expect: {value: [1]}\nSELECT 1", "expect:"),
        ("-- expect: no rows\n-- level: loud\nSELECT 1", "expected report or stop"),
        ("-- - a\n-- - b\nSELECT 1", "says not what it expects"),
        ("", "says not what it expects"),
    ],
)
def test_what_is_no_check_is_named(tmp_path, text, why):
    with pytest.raises(DataError, match=r"q\.sql") as error:
        check(tmp_path, text)
    assert why in str(error.value)


def test_binary_files_and_missing_folders(tmp_path):
    (tmp_path / "x.sql").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"x\.sql: cannot be read"):
        load_checks(tmp_path)
    assert load_checks(tmp_path / "nowhere") == []


# --- answers


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("-- expect: no rows\nSELECT 1 WHERE false", "passed"),
        ("-- expect: no rows\nSELECT path FROM images", "failed"),
        ("-- expect: {value: 6}\nSELECT count(*) FROM images", "passed"),
        ("-- expect: {value: 7}\nSELECT count(*) FROM images", "failed"),
        ("-- expect: {value: left}\nSELECT 'left'", "passed"),
        ("-- expect: {value: 1}\nSELECT true", "failed"),
        ("-- expect: {value: 1}\nSELECT NULL", "failed"),
        ("-- expect: {value: 1}\nSELECT 1 WHERE false", "failed"),
        ("-- expect: {value: 1}\nSELECT 1, 1", "failed"),
        ("-- expect: {range: [1, 2]}\nSELECT 2.0", "passed"),
        ("-- expect: {range: [1, 2]}\nSELECT 2.001", "failed"),
        ("-- expect: {range: [null, 2]}\nSELECT -1e9", "passed"),
        ("-- expect: {range: [0, null]}\nSELECT 'nan'::DOUBLE", "failed"),
        ("-- expect: {range: [0, 1]}\nSELECT 'a'", "failed"),
        ("-- expect: no rows\nSELECT * FROM nowhere", "failed"),
        ("-- expect: no rows\nDELETE FROM images", "failed"),
        ("-- expect: no rows\n-- unit: other\nSELECT 1", "skipped"),
        ("-- expect: {value: 6}\n-- unit: kit\nSELECT count(*) FROM images", "passed"),
    ],
)
def test_answers_are_judged(tmp_path, warehouse, text, state):
    assert outcome(tmp_path, warehouse, text).state == state


def test_a_failing_check_names_the_images_by_path_or_by_id(tmp_path, warehouse):
    by_path = outcome(tmp_path, warehouse, "-- expect: no rows\nSELECT unit, path FROM images ORDER BY path LIMIT 2")
    assert by_path.images == ("kit: train/image-0's ø.png", "kit: train/image-1's ø.png")
    by_id = outcome(tmp_path, warehouse, "-- expect: no rows\nSELECT image_id FROM images ORDER BY image_id")
    assert by_id.images[0] == "train/image-0's ø.png" and by_id.images[-1] == "and 1 more"
    other = outcome(tmp_path, warehouse, "-- expect: no rows\nSELECT 1 AS a, 'x' AS b")
    assert other.images == ("a 1, b x",) and "train/image-0" in str(by_path)


def test_the_gate_asks_for_one_unit_and_tells_what_stops_it(tmp_path, warehouse):
    loud = check(tmp_path, "-- expect: {value: 0}\n-- level: stop\nSELECT count(*) FROM images", "loud")
    quiet = check(tmp_path, "-- expect: {value: 0}\nSELECT count(*) FROM images", "quiet")
    other = check(tmp_path, "-- expect: no rows\n-- unit: other\nSELECT 1", "other")
    found = run_checks(warehouse, [loud, quiet, other], unit="kit")
    assert [o.check.name for o in found] == ["loud", "quiet"]
    assert len(failures(found)) == 2 and [o.check.name for o in failures(found, "stop")] == ["loud"]


def test_the_shipped_questions_can_be_asked(warehouse):
    checks = load_checks(QUERIES)
    assert len(checks) >= 5
    found = {o.check.name: o for o in run_checks(warehouse, checks)}
    assert not [o for o in found.values() if "cannot be answered" in o.answer]
    assert found["every-image-is-described"].state == "passed"
    assert found["every-object-has-a-box"].state == "failed"  # nothing was segmented here


# --- rules


def titles(rules):
    return [rule.title for rule in rules]


def test_rules_say_what_all_images_share():
    rules, nearly = propose([usual(i) for i in range(6)], {"screw": ("bolt", "bolts")})
    assert titles(rules) == [
        "every normal image shows exactly 1 nut object",
        "in normal images, nut objects are found nowhere but at: right",
        "every normal image shows exactly 2 bolts",
        "in normal images, bolts are found nowhere but at: left",
    ]
    assert all((rule.support, rule.of) == (6, 6) for rule in rules) and nearly == []


def test_alternatives_and_companions():
    a = [scene(i, thing("a", 0.2, 0.2), thing("c", 0.5, 0.5), thing("c", 0.8, 0.5)) for i in range(4)]
    b = [scene(4 + i, thing("b", 0.2, 0.2), thing("d", 0.5, 0.5)) for i in range(3)]
    rules = {rule.title: rule for rule in propose(a + b, {})[0]}
    assert "every normal image shows either a objects or b objects" in rules
    assert "every normal image shows as many b objects as d objects" in rules
    together = rules["in normal images, a objects and c objects come together or not at all"]
    assert (together.support, together.of) == (4, 7)


def test_a_rule_that_few_contradict_is_shown_with_them_and_not_proposed():
    entries = [usual(i) for i in range(40)] + [scene(40, thing("screw", 0.2, 0.4), thing("nut", 0.8, 0.5))]
    rules, nearly = propose(entries, {})
    assert "every normal image shows exactly 2 screw objects" in titles(nearly)
    assert [rule.against for rule in nearly if "2 screw" in rule.title] == [("image-40",)]
    assert not [rule for rule in rules if "2 screw" in rule.title]


def test_images_without_object_classes_have_no_rules():
    assert propose([scene(i) for i in range(6)], {}) == ([], [])


def test_too_few_images_make_no_rule():
    with pytest.raises(DataError, match="it takes 5"):
        propose([usual(i) for i in range(4)], {})


@st.composite
def normal_sets(draw):
    names = draw(st.lists(st.sampled_from(["class-1", "class-10", NASTY, "螺丝"]), min_size=1, max_size=3, unique=True))
    images = []
    for number in range(draw(st.integers(5, 8))):
        objects = [
            thing(name, draw(st.sampled_from([0.15, 0.5, 0.85])), draw(st.sampled_from([0.15, 0.5, 0.85])))
            for name in names
            for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2])))
        ]
        images.append(scene(number, *objects))
    return images


@settings(max_examples=12)
@given(normal_sets())
def test_every_proposed_rule_holds_in_sql_too_and_those_that_do_not_name_the_same_images(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("rules")
    warehouse = make_warehouse(folder, entries)
    learnt_from = entries[: len(entries) // 2 + 3]
    rules, nearly = propose(learnt_from, {}) if len(learnt_from) >= 5 else ([], [])
    for rule in [*rules, *nearly]:
        found = run_checks(warehouse, [read_check(save_rule(rule, "kit", folder / "queries"))])[0]
        offending = sorted(e.image_id for e in entries if not rule.holds(e))
        assert (found.state == "passed") == (not offending), (rule.title, found.answer)
        if 0 < len(offending) <= 5:
            assert list(found.images) == [f"kit: train/{image_id}'s ø.png" for image_id in offending]


def test_saving_twice_changes_nothing_and_another_question_is_kept(tmp_path):
    rule = propose([usual(i) for i in range(6)], {"screw": (NASTY, NASTY)})[0][2]
    path = save_rule(rule, "kit", tmp_path)
    before = path.read_text()
    assert read_check(path).title == rule.title and NASTY in rule.title and read_check(path).unit == "kit"
    path.write_text(before.replace("6 of 6", "7 of 7"))
    assert save_rule(rule, "kit", tmp_path) == path and "7 of 7" in path.read_text()
    path.write_text("-- expect: no rows\nSELECT 1\n")
    with pytest.raises(ArtifactError, match="holds another question"):
        save_rule(rule, "kit", tmp_path)
