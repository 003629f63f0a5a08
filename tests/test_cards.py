"""Verdict cards: differences that are true, sentences that claim nothing else, and text that stays text everywhere."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

from tmuad import masks
from tmuad.banks.text import TextBank
from tmuad.cards.card import Reason, make_card
from tmuad.cards.difference import compare
from tmuad.cards.explain import write_card
from tmuad.cards.pictures import card_pictures, colour_of, mark_regions
from tmuad.cards.terminal import card_text
from tmuad.config import TextScoreParams
from tmuad.describe.description import grid_words
from tmuad.describe.position import CELLS, cell
from tmuad.errors import ArtifactError
from tmuad.score.fuse import BANKS, Calibration
from tmuad.score.judge import Verdict
from tmuad.score.sentences import noun, sentence
from tmuad.score.text import find_differences

NASTY = "<img src=x onerror=alert(1)> \"винт\" & 'x' \x1b[31m"
NAMES = {"class-1": ("screw", "screws"), "class-3": ("die", "dice"), "class-4": ('1/4" bolt <b>', '1/4" bolts <b>')}
CLASSES = ["class-1", "class-2", "class-3", "class-4", "螺丝"]
PARAMS = TextScoreParams()


def usual(number):
    shift = 0.01 * (number % 3)
    return scene(number, thing("class-1", 0.2 + shift, 0.4), thing("class-1", 0.2, 0.6), thing("class-3", 0.8, 0.5, 5))


BANK = TextBank([usual(i) for i in range(40)], SHAPE)


def judged(image, findings=None, score=5.0, threshold=3.0):
    found, index = find_differences(image, BANK, PARAMS)
    maps = {bank: np.zeros(SHAPE, np.float32) for bank in (*BANKS, "fused")}
    shares = dict(zip(BANKS, (0.5, 0.3, 0.2), strict=True))
    verdict = Verdict(
        "ab" * 32, score, threshold, score > threshold, dict.fromkeys(BANKS, 1.0), shares,
        found if findings is None else findings, maps, terms=maps,
    )  # fmt: skip
    return verdict, BANK.entries[index].image_id


def card_of(image, path="test/x.png", names=NAMES, **more):
    verdict, nearest = judged(image, **more)
    calibration = Calibration({}, {}, {}, 3.0, 0.05, (1.0, 2.0, 6.0))
    paths = {"image-0": "train/0.png", "image-1": f"train/{path}"}
    return make_card(
        "kit", path, verdict, image, BANK, calibration, names, nearest_text=nearest, nearest_patch=("image-1", 0.25),
        paths=paths, shape=SHAPE,
    )  # fmt: skip


def by_field(fields):
    return {(f.object_class, f.field): f for f in fields}


# --- field by field


def test_a_normal_image_lies_within_everything():
    fields = compare(usual(1), BANK, usual(1), NAMES)
    assert not [f for f in fields if f.outside]
    assert by_field(fields)["class-1", "count"].normal == "2" and by_field(fields)["class-1", "count"].name == "screw"


def test_a_unit_without_object_classes_has_nothing_to_compare():
    bare = TextBank([scene(i) for i in range(3)], SHAPE)
    assert compare(scene(9), bare, bare.entries[0], {}) == []
    assert "unlike" not in card_text(card_of(scene(9)))


def test_what_differs_is_outside_and_what_is_absent_counts_none():
    image = scene(99, thing("class-1", 0.2, 0.4), thing("class-3", 0.5, 0.9, 9), thing("class-9", 0.5, 0.5))
    found = by_field(compare(image, BANK, usual(0), NAMES))
    screws = found["class-1", "count"]
    assert (screws.found, screws.normal, screws.nearest, screws.outside) == ("1", "2", "2", True)
    place = found["class-3", "position"]
    assert place.outside and place.found.startswith("bottom; ") and place.normal.startswith("right; within")
    assert found["class-3", "size"].outside
    new = found["class-9", "count"]
    assert (new.found, new.normal, new.nearest, new.outside) == ("1", "none", "0", True)
    nothing = by_field(compare(scene(98), BANK, None, NAMES))
    assert nothing["class-3", "count"].found == "0" and nothing["class-3", "count"].nearest == ""
    assert ("class-3", "position") not in nothing


@st.composite
def images(draw):
    objects = [
        thing(
            draw(st.sampled_from(CLASSES)),
            draw(st.floats(0.1, 0.9)),
            draw(st.floats(0.1, 0.9)),
            draw(st.integers(2, 9)),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return scene(99, *objects)


def numbers(text):
    return [float(n) for n in re.findall(r"\d+(?:\.\d+)?", text)]


@given(images())
def test_a_field_is_outside_exactly_where_its_figures_say_so(image):
    for field in compare(image, BANK, BANK.entries[0], {}):
        if field.normal == "none":
            assert field.outside
        elif field.field == "count":
            assert field.outside == (int(field.found) not in [int(n) for n in numbers(field.normal)])
        elif field.field in ("size", "size of one"):
            low, high = numbers(field.normal)
            inside = [low <= n <= high for n in numbers(field.found)]
            assert field.outside or all(inside)
        elif field.outside:
            away, within = numbers(field.found.split(";")[1])[0], numbers(field.normal)[-1]
            assert away > within


# --- sentences: read back, every one has to say what its finding holds, and what the images show

PLACE = (
    r"(?:(?:at the (?:top left|top right|bottom left|bottom right|top|bottom|left|right)|in the centre)(?: \(\d+\))?)"
)
PLACES = rf"{PLACE}(?:(?:, | and ){PLACE})*"
COUNTED = re.compile(rf"Expected (no|\d+) (.+), found (\d+): (\d+) (is|are) (missing|too many) ({PLACES})\.", re.DOTALL)
MOVED = re.compile(rf"One (.+) is out of place: expected ({PLACE}.*?), found ({PLACE}.*?)\.", re.DOTALL)
SIZED = re.compile(
    rf"The (.+?) ({PLACES}) (is|are) too (large|small): ([\d.]+) % of the image, normally ([\d.]+) to ([\d.]+) %\.",
    re.DOTALL,
)
LOOKS = re.compile(rf"Unusual appearance(?: on the (.+?))? ({PLACE})\.", re.DOTALL)


def cells_of(words):
    """'at the left (2) and in the centre (1)' -> [left, left, centre]"""
    found = []
    for place, _, number in re.findall(
        rf"(?:at the |in the )({'|'.join(sorted((c for row in CELLS for c in row), key=len, reverse=True))})( \((\d+)\))?",
        words,
    ):
        found += [place] * int(number or 1)
    return found


def check_claims(image, finding, words, names, similar):
    """Everything the sentence says, against the image and T_sim themselves."""
    c = finding.object_class
    here = image.by_name[c].objects if c in image.by_name else ()
    there = similar.by_name[c].objects if c in similar.by_name else ()
    if match := COUNTED.fullmatch(words):
        expected, name, found, count, verb, change, places = match.groups()
        said = 0 if expected == "no" else int(expected)
        assert said == (len(there) if c in BANK.classes else 0) and int(found) == len(here)
        assert name == noun(c, said, names) and verb == ("is" if count == "1" else "are")
        assert (change == "missing") == (finding.attribute == "missing") == (len(here) < said)
        assert int(count) == abs(len(here) - said) == len(cells_of(places))
        real = [cell(o.x, o.y) for o in (there if change == "missing" else here)]
        assert all(cells_of(places).count(place) <= real.count(place) for place in set(cells_of(places)))
    elif match := MOVED.fullmatch(words):
        name, expected, found = match.groups()
        assert finding.attribute == "position" and name == noun(c, 1, names)
        assert cells_of(found)[0] in [cell(o.x, o.y) for o in here]
        assert cells_of(expected)[0] in {cell(x, y) for x, y in BANK.classes[c].places}
        if cells_of(found) == cells_of(expected):  # then the distances tell
            assert numbers(found)[0] > numbers(expected)[0]
        distances = [float(np.linalg.norm(BANK.classes[c].places - (o.x, o.y), axis=1).min()) for o in here]
        assert max(distances) > BANK.classes[c].reach
    elif match := SIZED.fullmatch(words):
        name, places, verb, direction, size, low, high = match.groups()
        count = len(cells_of(places))
        assert name == noun(c, count, names) and verb == ("is" if count == 1 else "are")
        assert (float(size) > float(high)) == (direction == "large") and (float(size) < float(low)) == (
            direction == "small"
        )
        sizes = [100 * o.area for o in here] + [100 * image.by_name[c].size]
        assert min(abs(float(size) - real) / real for real in sizes) < 0.06  # two digits
    else:
        match = LOOKS.fullmatch(words)
        assert match is not None and finding.attribute == "appearance", words
        assert match[1] == (noun(c, 1, names) if c else None)


@settings(max_examples=300)
@given(images())
def test_sentences_never_claim_what_the_findings_do_not_hold(image):
    findings, index = find_differences(image, BANK, PARAMS)
    for finding in findings:
        words = sentence(finding, NAMES)
        check_claims(image, finding, words, NAMES, BANK.entries[index])
        if finding.attribute in ("missing", "extra", "size"):
            assert sorted(cells_of(words)) == sorted(cells_of(sentence(finding, {})))  # a name changes no place


@given(images())
def test_a_card_says_what_the_verdict_holds_and_no_more(image):
    card = card_of(image)
    verdict, _ = judged(image)
    assert [r.sentence for r in card.reasons] == [sentence(f, NAMES) for f in verdict.findings]
    counts = {f.object_class: f.found for f in card.fields if f.field == "count"}
    for reason in card.reasons:
        if reason.attribute in ("missing", "extra"):
            assert reason.found == counts[reason.object_class]
        x0, y0, x1, y1 = reason.box
        region = masks.decode(reason.region, SHAPE)
        assert region[y0:y1, x0:x1].sum() == region.sum()


def test_the_checks_on_sentences_can_fail():
    image = scene(99, thing("class-1", 0.2, 0.4), thing("class-3", 0.8, 0.5, 5))
    [finding], index = find_differences(image, BANK, PARAMS)
    for wrong in (
        replace(finding, expected="3"), replace(finding, found="0"), replace(finding, count=2, where="2 left"),
        replace(finding, object_class="class-3"), replace(finding, where="top right"), replace(finding, attribute="extra"),
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_claims(image, finding, sentence(wrong, NAMES), NAMES, BANK.entries[index])


# --- what people see


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags, self.sources = "", [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def shown(card, tmp_path):
    image = np.full((*SHAPE, 3), 90, np.uint8)
    pictures = card_pictures(card, image, np.zeros(SHAPE), image, None)
    html, data = write_card(card, pictures, tmp_path / "cards")
    reader = Reader()
    reader.feed(html.read_text(encoding="utf-8"))
    return reader, json.loads(data.read_text(encoding="utf-8")), html


def test_any_name_is_text_in_page_terminal_and_json(tmp_path):
    names = {"class-1": (NASTY, NASTY + "s"), "class-3": ("[red]die[/red]", "dice")}
    card = card_of(scene(99, thing("class-1", 0.2, 0.4)), path=NASTY, names=names)
    page, data, html = shown(card, tmp_path)
    assert NASTY in page.text and "script" not in page.tags and page.tags.count("img") == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert data["image"] == NASTY and data["reasons"][0]["sentence"] == card.reasons[0].sentence
    assert re.fullmatch(r"[\w-]+\.html", html.name) and html.parent == tmp_path / "cards"
    text = card_text(card)
    assert "\x1b" not in text and "[red]die[/red]" in text and "винт" in text
    assert max(map(len, card_text(card_of(usual(1))).splitlines())) <= 120


def test_a_card_holds_score_shares_neighbours_and_fields(tmp_path):
    card = card_of(scene(99, thing("class-1", 0.2, 0.4), thing("class-3", 0.8, 0.5, 5)))
    _, data, _ = shown(card, tmp_path)
    assert (data["verdict"], data["score"], data["threshold"], data["p_value"]) == ("anomalous", 5.0, 3.0, 0.5)
    assert data["shares"] == {"text": 0.5, "objects": 0.3, "patches": 0.2}
    assert data["nearest_by_text"]["path"] == "train/0.png" and data["nearest_by_patch"]["image_id"] == "image-1"
    assert "region" not in data["reasons"][0] and len(data["reasons"][0]["box"]) == 4
    text = card_text(card)
    for words in (
        "ANOMALOUS",
        "score 5.00, threshold 3.00",
        "1 is missing at the left",
        "<- outside",
        "nearest by patch:",
    ):
        assert words in text


def test_cards_without_threshold_reasons_or_neighbours(tmp_path):
    card = card_of(usual(2), findings=[], score=1.0, threshold=float("inf"))
    page, data, _ = shown(card, tmp_path)
    assert data["threshold"] is None and data["verdict"] == "good" and "Nothing was found" in page.text
    lonely = replace(card, nearest_by_text=None, nearest_by_patch=None, verdict="anomalous", notes=(NASTY,))
    page, data, _ = shown(lonely, tmp_path)
    assert "banks together" in page.text and NASTY in page.text and data["nearest_by_text"] is None
    assert "No single reason" in card_text(lonely) and "no threshold" in card_text(lonely)


def test_regions_are_drawn_in_the_colour_of_their_number():
    reasons = []
    for i in range(2):
        region = np.zeros((128, 128), bool)
        region[40 : 60 + 20 * i, 20 + 60 * i : 50 + 60 * i] = True
        runs = masks.encode(region)
        reasons.append(Reason("", "", "appearance", "a", "b", 1.0, masks.box(runs, region.shape), "Words.", runs))
    drawn = mark_regions(np.zeros((128, 128, 3), np.uint8), replace(card_of(usual(0)), reasons=tuple(reasons)))
    for number, reason in enumerate(reasons, start=1):
        x0, y0, x1, y1 = reason.box
        coloured = (drawn == colour_of(number)).all(axis=2)
        assert coloured[y1 - 1, x0:x1].all() and coloured[y0:y1, x0].all()  # its outline
        assert coloured[y0 - 18 : y0 - 2, x0 + 1 : x0 + 16].mean() > 0.5  # its number, at the corner
        assert not coloured[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].any()
    assert (drawn[100:] == 0).all()


def test_a_card_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    card = card_of(usual(0))
    image = np.zeros((*SHAPE, 3), np.uint8)
    with pytest.raises(ArtifactError, match="make the folder writable"):
        write_card(card, card_pictures(card, image, np.zeros(SHAPE), None, None), tmp_path / "file")


def test_grid_words_and_cells_agree():
    image = scene(1, thing("a", 0.1, 0.1), thing("a", 0.1, 0.2), thing("a", 0.5, 0.5))
    assert grid_words(image.objects) == "2 top left, 1 centre"
