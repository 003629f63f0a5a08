"""The paper's tables as transcribed: whole, and true to the sums that they state, but for what the notes say."""

import csv
import shutil
from pathlib import Path

import pytest

from tmuad.errors import ArtifactError
from tmuad.report.paper.reference import FOLDER, load_references

REFERENCE = Path(__file__).parent.parent / FOLDER
TABLES = load_references(REFERENCE)
CATEGORIES = ("Breakfast Box", "Juice Bottle", "Pushpins", "Screw Bag", "Splicing Connectors")


def noted(table: int) -> set[tuple[str, str]]:
    return {(note.row, note.column) for note in TABLES[table].notes}


def off(printed: float, computed: float) -> bool:
    """Whether a number is not what its parts give, rounded to a tenth either way at a half."""
    return abs(printed - computed) > 0.05 + 1e-6


def test_every_row_and_method_is_there() -> None:
    shapes = {number: (len(table.rows), len(table.columns)) for number, table in TABLES.items()}
    assert shapes == {
        1: (7, 12), 2: (6, 12), 3: (5, 12), 4: (5, 3), 5: (5, 6), 6: (5, 1), 7: (2, 2), 8: (4, 1), 9: (3, 3), 10: (1, 7),
        11: (9, 3),
    }  # fmt: skip
    cells = sum(bool(text) for table in TABLES.values() for row in table.rows.values() for text in row.values())
    assert cells == 7 * 12 - 6 + 72 - 1 - 9 + 60 - 1 - 6 + 15 + 30 + 5 + 3 + 4 + 9 + 7 + 27


def test_averages_of_table_1_are_those_of_its_categories_but_for_two() -> None:
    table = TABLES[1]
    wrong = set()
    for column in table.columns:
        values = [table.value(category, column) for category in CATEGORIES]
        if None in values:
            assert column == "GeneralAD"
            continue
        assert table.value("ΔAUROC", column) == pytest.approx(max(values) - min(values))
        if off(table.value("Average", column), sum(values) / 5):
            wrong.add(("Average", column))
    assert wrong == {("Average", "OmniAL"), ("Average", "TMUAD-U")}
    assert wrong <= noted(1)


@pytest.mark.parametrize("number", [4, 5])
def test_averages_of_logical_and_structural_but_for_one(number: int) -> None:
    table = TABLES[number]
    wrong = set()
    for row in table.rows:
        for level in ("",) if number == 4 else (" image", " pixel"):
            names = ("Logical", "Structural", "Average") if number == 4 else ("logical", "structural", "average")
            logical, structural, average = (table.value(row, f"{name}{level}") for name in names)
            if off(average, (logical + structural) / 2):
                wrong.add((row, f"{names[2]}{level}"))
    assert wrong == (set() if number == 4 else {("M_T + M_O + M_P", "average pixel")})
    assert wrong <= noted(number)


def test_computed_values_of_the_notes_are_right() -> None:
    assert float(TABLES[1].notes[1].computed) == pytest.approx(
        sum(TABLES[1].value(c, "TMUAD-U") for c in CATEGORIES) / 5
    )
    assert float(TABLES[5].notes[0].computed) == pytest.approx((94.6 + 84.8) / 2)
    for table in TABLES.values():
        for note in table.notes:
            if note.printed:
                assert float(note.printed) == table.value(note.row, note.column)


def test_numbers_that_stand_in_several_tables_agree() -> None:
    one, four, five, seven, eleven = (TABLES[n] for n in (1, 4, 5, 7, 11))
    assert seven.value("UniVAD", "AUROC") == one.value("Average", "UniVAD")
    assert seven.value("UniVAD + M_T", "gain") == pytest.approx(91.2 - 81.9)
    assert four.value("Ours", "Average") == five.value("M_T + M_O + M_P", "average image")
    assert TABLES[6].value(list(TABLES[6].rows)[-1], "only M_T") == five.value("M_T", "logical image")
    assert eleven.value("TMUAD-U-B (Ours)", "AUROC") == one.value("Average", "TMUAD-U")
    assert eleven.value("TMUAD-I-B", "AUROC") == one.value("Average", "TMUAD-I")
    assert eleven.value("PBAS", "AUROC") == one.value("Average", "PBAS")
    assert eleven.value("UniVAD", "AUROC") == four.value("UniVAD", "Average")  # and not Table I's, as a note says
    assert ("UniVAD", "AUROC") in noted(11)


def test_every_method_has_its_reference() -> None:
    with (REFERENCE / "methods.csv").open(encoding="utf-8") as stream:
        known = {(part, row["column or row"]) for row in csv.DictReader(stream) for part in row["table"].split(" and ")}
    for number in (1, 2, 3):
        assert {(str(number), column) for column in TABLES[number].columns} <= known


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "reference")
    path = tmp_path / "reference/table_04.csv"
    path.write_text(path.read_text().replace("71.5", "7l.5"))
    with pytest.raises(ArtifactError, match=r"table_04.csv: row 'SimpleNet', column 'Logical': '7l.5' is no number"):
        load_references(tmp_path / "reference")
    path.write_text("row,Logical\nOurs,1,2\n")
    with pytest.raises(ArtifactError, match="more or fewer cells"):
        load_references(tmp_path / "reference")
    path.unlink()
    with pytest.raises(ArtifactError, match=r"table_04\.csv: not readable"):
        load_references(tmp_path / "reference")
