"""Tables, overlays, panels and the page: what they say, that they say it safely, and equal bytes for equal input."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Cell
from tmuad.report.overlay import CONTOUR, heat_overlay, outline
from tmuad.report.pages import write_page
from tmuad.report.panels import INDEX, SHEET, Example, choose_examples, named_kind, write_panels
from tmuad.report.tables import UnitResult, load_results, results_csv, results_frame, results_markdown
from tmuad.report.terminal import print_results

NASTY = "<script>alert(1)</script> | Größe \"винт\" & 'x'"


def metrics(logical: float | None, structural: float, **extra):
    both = None if logical is None else (logical + structural) / 2
    level = {"auroc": structural - 0.1, "auroc_logical": logical, "auroc_structural": structural, "average": both}
    return {
        "image": level,
        "pixel": level,
        "banks": {name: {"image": level, "pixel": level} for name in ("text", "objects", "patches", "text+objects")},
        "counts": {"good": 5, "logical": 0 if logical is None else 4, "structural": 3},
        "decision": {
            "threshold": 3.25,
            "normals": 20,
            "false_alarm_rate_promised": 0.05,
            "detection_rate_logical": 0.5,
        },
        "reasons": [] if logical is not None else [{"metric": "image.auroc_logical", "reason": "no logical samples"}],
        **extra,
    }


@pytest.fixture
def results():
    problems = pd.DataFrame([{"path": NASTY, "problem": "truncated", "decision": "skipped"}])
    return [
        UnitResult("demo.a", metrics(0.9, 0.8)),
        UnitResult("demo.b", metrics(0.7, 0.6), problems=problems),
        UnitResult("tile", metrics(None, 0.7)),
        UnitResult("late", None, "its stage 'evaluate' has not run"),
    ]


def example(kind="logical", defect="missing", score=5.0, side=40, path="test/x/000.png", reasons=("One is missing.",)):
    rng = np.random.default_rng(side)
    truth = None if kind == "good" else np.pad(np.ones((10, 10), bool), (5, side - 15))
    image = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    return Example("ab" * 32, path, kind, defect, "highest", score, reasons, image, truth, rng.random((side, side)))


# --- tables


def test_means_are_per_data_set_and_over_all_and_over_what_exists(results):
    frame = results_frame(results).set_index("unit")
    assert list(frame.index) == ["demo.a", "demo.b", "tile", "demo", "all units"]
    assert frame.loc["demo", "image_auroc_logical"] == pytest.approx(0.8)
    assert frame.loc["all units", "image_auroc_logical"] == pytest.approx(0.8)  # tile has none
    assert frame.loc["all units", "image_auroc"] == pytest.approx((0.7 + 0.5 + 0.6) / 3)
    assert frame.loc["demo", "image_average"] == pytest.approx(0.75)
    assert frame.loc["demo.a", "text+objects_image_auroc_structural"] == 0.8
    assert list(results_frame(results[:2])["unit"]) == ["demo.a", "demo.b", "demo"]
    assert list(results_frame(results[:1])["unit"]) == ["demo.a"]


def test_a_unit_without_test_images_takes_no_part_in_means_and_has_no_lines_of_dashes(results):
    none = {"auroc": None, "auroc_logical": None, "auroc_structural": None, "average": None}
    empty = metrics(
        0.5, 0.5, image=none, pixel=none, banks={b: {"image": none} for b in ("text", "objects", "patches")}
    )
    found = [results[0], UnitResult("mine", empty)]
    assert list(results_frame(found)["unit"]) == ["demo.a", "mine"]
    assert "| mine | – |" in results_markdown(found) and "| mine | text |" not in results_markdown(found)
    assert list(results_frame([UnitResult("mine", empty)])["unit"]) == ["mine"]


def test_csv_reads_back(results):
    frame = pd.read_csv(io.StringIO(results_csv(results)))
    assert frame["image_auroc_structural"].tolist() == pytest.approx([0.8, 0.6, 0.7, 0.7, 0.7])
    assert frame["good"].tolist()[:3] == [5, 5, 5]
    assert pd.isna(frame["image_auroc_logical"][2])


def test_markdown_says_everything_and_escapes(results):
    text = results_markdown(results)
    assert "| demo.a | 90.0 | 80.0 | 70.0 | 85.0 |" in text
    assert "| **mean of demo** | 80.0 |" in text
    assert "| tile | – | 70.0 |" in text
    assert "| late | its stage 'evaluate' has not run |" in text
    assert "| tile | no logical samples | image.auroc_logical |" in text
    assert "&lt;script>" in text and "<script>" not in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 7
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1


def with_bootstrap(unit, value, spread, seed):
    """A unit whose figures have intervals and, for the means, replicates."""
    draws = np.random.default_rng(seed).normal(value, spread, 400)
    cell = Cell(value, np.concatenate(([value], draws)))
    entry = {
        "difference": -0.031,
        "low": -0.05,
        "high": 0.012,
        "within_noise": True,
        "metric": "banks.text.image.auroc",
    }
    known = metrics(value, value, intervals={"image": {"auroc_logical": [value - 0.05, 0.99]}}, comparisons=[entry])
    known["defects"] = {name: {"images": 2, "image": {"auroc": value}} for name in ("dent", "scratch")}
    return UnitResult(unit, known, cells={("image", "auroc_logical"): cell})


def test_intervals_of_units_and_of_their_mean():
    units = [with_bootstrap("demo.a", 0.9, 0.02, 0), with_bootstrap("demo.b", 0.8, 0.02, 1)]
    frame = results_frame(units).set_index("unit")
    assert frame.loc["demo.a", ["image_auroc_logical_low", "image_auroc_logical_high"]].tolist() == [0.85, 0.99]
    low, high = frame.loc["demo", ["image_auroc_logical_low", "image_auroc_logical_high"]]
    half = 1.96 * 0.02 / np.sqrt(2)  # the mean of two independent figures
    assert (low, high) == pytest.approx((0.85 - half, 0.85 + half), abs=0.004)
    assert pd.isna(frame.loc["demo", "pixel_auroc_low"])
    text = results_markdown(units)
    assert "| demo.a | 90.0 [85.0, 99.0] | 90.0 |" in text
    assert "-3.1 [-5.0, +1.2], within noise |" in text
    assert "| demo.a | dent | 2 | 90.0 | – |" in text
    assert "image_auroc_logical_low" in results_csv(units)


def test_tables_of_nothing(results):
    assert "Not run" in results_markdown(results[3:])
    assert results_csv([]) == "unit,row\n"


def test_results_are_loaded_from_artifacts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/metrics.json").write_text(json.dumps(metrics(0.9, 0.8)))
    (tmp_path / "a/problems.csv").write_text("path,problem,decision\nx.png,NA,skipped\n")
    first, second = load_results(["a", "b"], tmp_path)
    assert first.figure("image", "auroc_logical") == 0.9 and first.figure("image", "nothing", "here") is None
    assert first.problems.values.tolist() == [["x.png", "NA", "skipped"]]
    assert second.metrics is None and "has not run" in second.not_run


@pytest.mark.parametrize(
    ("file", "content"), [("metrics.json", "{"), ("problems.csv", "a,b\n1,2\n"), ("problems.csv", "")]
)
def test_damaged_artifacts_are_named(tmp_path, file, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / file).write_text(content)
    with pytest.raises(ArtifactError, match=file):
        load_results(["a"], tmp_path)


def test_terminal_shows_results_and_where_to_look_next_in_80_columns(results):
    console = Console(width=80, file=io.StringIO())
    print_results(results, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"demo\.a +90\.0 +80\.0 +70\.0 +85\.0", text)
    assert "late: not run" in text and "1 problem in the data" in text
    assert "tmuad score IMAGE --unit demo.a" in text


def test_names_of_units_and_commands_are_never_folded(results):
    named = [replace(results[0], unit="demo.electronics_tray"), *results[1:]]
    text = io.StringIO()
    print_results(named, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert any(line.split()[:1] == ["demo.electronics_tray"] and len(line.split()) == 9 for line in lines)
    assert any("tmuad score IMAGE --unit demo.electronics_tray" in line and "judge" in line for line in lines)


def test_before_the_first_run_the_next_step_is_to_run(results):
    text = io.StringIO()
    print_results([r for r in results if r.metrics is None], Console(file=text, width=80))
    assert "dvc repro" in text.getvalue() and "reports/" not in text.getvalue()


@pytest.mark.parametrize(
    ("kind", "defect", "words"),
    [
        ("good", "", "good"), ("structural", "scratch", "structural: scratch"),
        ("logical", "logical_anomalies", "logical"), ("structural", "structural_anomalies", "structural"),
    ],
)  # fmt: skip
def test_a_defect_is_named_where_its_name_says_more_than_its_kind(kind, defect, words):
    assert named_kind(kind, defect) == words


# --- overlays


def test_heat_grows_with_strength_and_starts_at_low():
    image = np.full((4, 101, 3), 128, np.uint8)
    ramp = np.tile(np.linspace(0, 2, 101), (4, 1))
    heat = heat_overlay(image, ramp, threshold=np.inf, low=0.5, high=2.0).astype(int)
    assert (heat[:, :25] == 128).all()
    distance = np.abs(heat[0] - 128).sum(axis=1)
    assert (distance[27:] > 0).all() and distance[-1] > distance[30]


def test_contour_surrounds_what_is_above_the_threshold():
    image = np.full((30, 30, 3), 128, np.uint8)
    scores = np.zeros((30, 30))
    scores[10:20, 10:20] = 1.0
    cyan = (heat_overlay(image, scores, 0.5) == CONTOUR).all(axis=2)
    assert cyan[10, 10] and cyan[19, 15] and not cyan[15, 15] and not cyan[:10].any()
    assert not (heat_overlay(image, scores, 1.0) == CONTOUR).all(axis=2).any()  # not above
    assert (heat_overlay(image, np.zeros((30, 30)), 0.0) == image).all()


@pytest.mark.parametrize(("scores", "why"), [(np.zeros((3, 4)), "does not lie"), (np.full((4, 4), np.nan), "NaN")])
def test_a_map_that_does_not_fit_is_refused(scores, why):
    with pytest.raises(ValueError, match=why):
        heat_overlay(np.zeros((4, 4, 3), np.uint8), scores, 1.0)


def test_outline_leaves_the_image_alone_and_the_inside_visible():
    image = np.full((20, 20, 3), 9, np.uint8)
    mask = np.pad(np.ones((10, 10), bool), 5)
    drawn = outline(image, mask, (1, 2, 3))
    assert (image == 9).all()
    assert (drawn[10, 10] == 9).all() and (drawn[5, 5] == (1, 2, 3)).all() and (drawn[4, 5] == 20).all()
    assert (outline(image, np.zeros((20, 20), bool), (1, 2, 3)) == image).all()


# --- panels


def test_examples_are_of_every_defect_and_within_the_limit():
    rows = [
        (f"{k}/{d}/{i}", k, d, float(i))
        for k, d in (("good", ""), ("logical", "b"), ("logical", "a"))
        for i in range(9)
    ]
    table = pd.DataFrame(rows, columns=["path", "kind", "defect", "score"])
    chosen = choose_examples(table, limit=6)
    assert [path for path, _ in chosen] == [
        "logical/a/8", "logical/a/0", "logical/b/8", "logical/b/0", "good//8", "good//0",
    ]  # fmt: skip
    assert dict(chosen)["good//8"].startswith("highest")
    assert chosen == choose_examples(table.sample(frac=1, random_state=1), limit=6)
    assert len(choose_examples(table, limit=100)) == 15
    assert choose_examples(table.iloc[:1]) == [("good//0", "highest score of its kind")]
    assert choose_examples(table.iloc[:0]) == []


def test_panels_are_written_equal_and_stale_ones_go(tmp_path):
    examples = [example(), example("good", "", 1.0), example("structural", NASTY, 2.0, reasons=(NASTY * 5,) * 6)]
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "99-stale.png").touch()
        captions = write_panels(folder, [lambda one=one: one for one in examples], threshold=3.0)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted([*(c.file for c in captions), SHEET, INDEX])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [c.verdict for c in captions] == ["anomalous", "good", "good"]
    for caption in captions:
        assert Image.open(tmp_path / "a" / caption.file).size == (caption.width, caption.height)
        assert re.fullmatch(r"[a-z0-9-]+\.png", caption.file)
    listed = json.loads((tmp_path / "a" / INDEX).read_text())
    assert listed[2]["defect"] == NASTY and listed[2]["threshold"] == 3.0


def test_a_panel_shows_image_truth_and_heat(tmp_path):
    flat = np.full((40, 40, 3), 100, np.uint8)
    heat = np.zeros((40, 40))
    heat[20:, 20:] = 9.0
    shown = Example("cd" * 32, "p.png", "logical", "d", "r", 9.0, (), flat, np.tri(40, dtype=bool), heat)
    [caption] = write_panels(tmp_path, [lambda: shown], threshold=3.0)
    picture = np.asarray(Image.open(tmp_path / caption.file)).astype(int)
    left, middle, right = (picture[70:330, x : x + 280] for x in (16, 316, 616))
    assert (left == 100).all()
    assert (middle[..., 1] > middle[..., 0] + 50).any() and (middle[:100, 200:] == 100).all()
    assert (right[:100, :100] == 100).all() and (np.abs(right[200:, 200:] - 100).sum(axis=2) > 30).all()


def test_without_threshold_or_examples_panels_still_come(tmp_path):
    [caption] = write_panels(tmp_path / "a", [example], threshold=float("inf"))
    assert caption.threshold is None and caption.verdict == "good"
    assert write_panels(tmp_path / "b", [], threshold=1.0) == []
    assert (tmp_path / "b" / SHEET).exists()


# --- page


class Checker(HTMLParser):
    """Collects what a browser would load or run, and complains of unbalanced tags."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags, self.text = [], [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_whole_self_contained_and_escaped(tmp_path, results):
    named = [*results, UnitResult("größe & <b>", metrics(0.9, 0.8))]
    for unit in ("demo.a", "größe & <b>"):
        nasty = example(defect=NASTY, path=NASTY, reasons=(NASTY,))
        write_panels(tmp_path / "panels" / unit, [lambda nasty=nasty: nasty], 3.0)
    write_page(tmp_path, named)
    content = (tmp_path / "index.html").read_bytes()
    page = Checker()
    page.feed(content.decode("utf-8"))
    assert page.open == [] and "script" not in page.tags
    assert page.text.count(NASTY) >= 5  # title, path, reason, problem
    for source in page.sources:
        assert not re.match(r"[a-z]+:|//", source)
        if not source.startswith("#"):
            from urllib.parse import unquote

            assert (tmp_path / unquote(source)).is_file()
    assert "its stage 'evaluate' has not run" in page.text and "no logical samples" in page.text
    write_page(tmp_path, named)
    assert (tmp_path / "index.html").read_bytes() == content


def test_the_page_fits_a_narrow_window(tmp_path, results):
    """Links of many units wrap, and every table that may be wide scrolls by itself."""
    many = [replace(results[0], unit=f"data.category{i}") for i in range(30)]
    write_page(tmp_path, [*many, *results])
    text = (tmp_path / "index.html").read_text()
    nav = re.search(r"<nav>(.*?)</nav>", text, re.DOTALL).group(1)
    assert nav.count("</a> <a") == nav.count("<a") - 1
    assert text.count("<table") == len(re.findall(r"<div class=scroll><table", text)) > 30


def test_page_of_nothing_says_what_to_do(tmp_path):
    write_page(tmp_path / "reports", [])
    assert "dvc repro" in (tmp_path / "reports/index.html").read_text()


def test_damaged_panel_list_is_named(tmp_path, results):
    (tmp_path / "panels/demo.a").mkdir(parents=True)
    (tmp_path / "panels/demo.a" / INDEX).write_text("[{")
    with pytest.raises(ArtifactError, match=INDEX):
        write_page(tmp_path, results)
