"""Reasons in words: grammatical, true to the finding, and in the user's own names."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmuad import masks
from tmuad.errors import ParameterError
from tmuad.score.sentences import at, load_names, noun, plural, sentence
from tmuad.score.text import Attribute, Finding

RUNS = masks.encode(np.ones((2, 2), dtype=np.bool_))
NAMES = {"class-1": ("screw", "screws"), "class-2": ("LED", "LEDs"), "class-3": ("die", "dice")}


def finding(
    attribute: Attribute, expected: str, found: str, count: int = 1, where: str = "left", name: str = "class-1"
) -> Finding:
    return Finding(name, attribute, expected, found, 1.0, RUNS, count, where)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (finding("missing", "2", "1"), "Expected 2 screws, found 1: 1 is missing at the left."),
        (
            finding("missing", "3", "0", 3, "2 centre, 1 top right"),
            "Expected 3 screws, found 0: 3 are missing in the centre (2) and at the top right (1).",
        ),
        (finding("missing", "1", "0", name="class-3"), "Expected 1 die, found 0: 1 is missing at the left."),
        (
            finding("missing", "2", "0", 2, "2 left", "class-3"),
            "Expected 2 dice, found 0: 2 are missing at the left (2).",
        ),
        (finding("extra", "none", "1", where="centre"), "Expected no screws, found 1: 1 is too many in the centre."),
        (
            finding("extra", "1", "3", 2, "1 left, 1 right"),
            "Expected 1 screw, found 3: 2 are too many at the left (1) and at the right (1).",
        ),
        (
            finding("position", "left", "centre", name="class-2"),
            "One LED is out of place: expected at the left, found in the centre.",
        ),
        (
            finding("position", "left, within 2 %", "left, 10 % of the side away"),
            "One screw is out of place: expected at the left, within 2 %, found at the left, 10 % of the side away.",
        ),
        (
            finding("size", "2 to 3 %", "4 %"),
            "The screw at the left is too large: 4 % of the image, normally 2 to 3 %.",
        ),
        (
            finding("size", "2 to 3 %", "0.5 %", 2, "1 left, 1 right"),
            "The screws at the left (1) and at the right (1) are too small: 0.5 % of the image, normally 2 to 3 %.",
        ),
        (finding("appearance", "as in normal images", "unlike them"), "Unusual appearance on the screw at the left."),
        (finding("appearance", "as in normal images", "unlike them", name=""), "Unusual appearance at the left."),
        (
            finding("missing", "2", "1", name="class-9"),
            "Expected 2 class-9 objects, found 1: 1 is missing at the left.",
        ),
    ],
)
def test_sentences(what: Finding, words: str) -> None:
    assert sentence(what, NAMES) == words


CELLS = st.sampled_from(["top left", "top", "left", "centre", "bottom right"])


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    attribute: Attribute = draw(st.sampled_from(["missing", "extra", "position", "size", "appearance"]))
    count = draw(st.integers(1, 9))
    where = draw(CELLS) if count == 1 else ", ".join(f"{count} {draw(CELLS)}" for _ in range(draw(st.integers(1, 3))))
    if attribute == "missing":
        expected, found = str(count + 2), "2"
    elif attribute == "extra":
        expected, found = draw(st.sampled_from([("none", str(count)), ("4", str(4 + count))]))
    elif attribute == "size":
        expected, found = "1.5 to 2.5 %", draw(st.sampled_from(["0.35 %", "17 %"]))
    else:
        expected, found = draw(CELLS), draw(CELLS)
    name = draw(st.sampled_from(["class-1", "class-2", "class-77", "bolt"]))
    return finding(attribute, expected, found, count, where, name)


@given(findings())
def test_every_number_in_a_sentence_is_one_of_the_finding(what: Finding) -> None:
    words = (
        sentence(what, NAMES)
        .replace(noun(what.object_class, 2, NAMES), "")
        .replace(noun(what.object_class, 1, NAMES), "")
    )
    numbers = re.findall(r"\d+(?:\.\d+)?", f"{what.expected} {what.found} {what.count} {what.where}")
    assert set(re.findall(r"\d+(?:\.\d+)?", words)) <= set(numbers)
    assert words[0].isupper()
    assert words.endswith(".")
    assert words.count(".") == 1 + sum("." in number for number in re.findall(r"\d+\.\d+", words))


@given(findings())
def test_one_is_and_many_are(what: Finding) -> None:
    words = sentence(what, NAMES)
    if what.attribute in ("missing", "extra", "size"):
        assert (" is " in words) == (what.count == 1)
        assert (" are " in words) == (what.count > 1)


@pytest.mark.parametrize(
    "name", ['1/4" bolt', "<b>nut & bolt</b>", "Mutter ø 5 µm", "螺丝", "plate on a stick", "{}", "%s", "\\1"]
)
@pytest.mark.parametrize("attribute", ["missing", "extra", "position", "size", "appearance"])
def test_a_name_stands_in_the_sentence_unharmed(tmp_path: Path, name: str, attribute: Attribute) -> None:
    import yaml

    path = tmp_path / "names.yaml"
    path.write_text(yaml.safe_dump({"class-1": name}, allow_unicode=True), encoding="utf-8")
    expected, found = {"size": ("1 to 2 %", "3 %")}.get(attribute, ("1", "0"))
    assert name in sentence(finding(attribute, expected, found), load_names(path))


def test_places_in_words() -> None:
    assert at("centre") == "in the centre"
    assert at("top left") == "at the top left"
    assert at("1 left, 2 centre, 1 right") == "at the left (1), in the centre (2) and at the right (1)"


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("screw", "screws"),
        ("box", "boxes"),
        ("brush", "brushes"),
        ("battery", "batteries"),
        ("key", "keys"),
        ("LED", "LEDs"),
        ("y", "ys"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


# ---- names files


def names_from(folder: Path, text: str | bytes) -> dict[str, tuple[str, str]]:
    path = folder / "names.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_names(path)


def test_names_come_from_yaml(tmp_path: Path) -> None:
    names = names_from(tmp_path, "class-1: screw\nclass-2: {one: die, many: dice}\nclass-3: ' box '\n")
    assert names == {"class-1": ("screw", "screws"), "class-2": ("die", "dice"), "class-3": ("box", "boxes")}


@pytest.mark.parametrize("text", ["", "# class-1: \n# class-2: \n", "{}"])
def test_a_file_of_comments_names_nothing(tmp_path: Path, text: str) -> None:
    assert names_from(tmp_path, text) == {}


def test_a_missing_file_names_nothing(tmp_path: Path) -> None:
    assert load_names(tmp_path / "names.yaml") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("class-1: [", "not readable as YAML"),
        (b"\xff\xfe\x00", "not readable as YAML"),
        ("- screw", "found list"),
        ("[]", "found list"),
        ("false", "found bool"),
        ("screw", "found str"),
        ("class-1: 5", "class-1"),
        ("class-1:", "class-1"),
        ("class-1: ''", "class-1"),
        ("class-1: '  '", "class-1"),
        ("class-1: no", "class-1"),
        ("class-1: {one: die}", "class-1"),
        ("class-1: {one: die, many: ''}", "class-1"),
        ("class-1: {one: die, many: dice, few: dies}", "class-1"),
        ("class-1: screw\nclass-2: screw", "'screw' names two classes"),
        ("class-1: screw\nclass-1: nut", "stands twice"),
    ],
)
def test_a_bad_names_file_says_what_is_wrong(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(ParameterError, match=r"names\.yaml") as caught:
        names_from(tmp_path, text)
    assert complaint in str(caught.value)


def test_a_folder_is_no_names_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot be read"):
        load_names(tmp_path)
