"""The paper's tables, claims, figures and page, from real units: what stands in a cell, where it is from, what it lacks."""

import csv
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from fits import Bench, data_set, kit, save

from tmuad.ablate.moved import STEPS
from tmuad.ablate.publish import publish
from tmuad.ablate.run import run_group
from tmuad.config import load_params
from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Cell
from tmuad.report.paper.charts import Series, bar_chart, line_chart
from tmuad.report.paper.claims import CLAIMS, VERDICTS, Judged
from tmuad.report.paper.collect import collect
from tmuad.report.paper.reference import FOLDER, load_references
from tmuad.report.paper.sources import NO_DRAWS, Found, Origin, mean_of, range_of
from tmuad.report.paper.write import claim_rows
from tmuad.stages.__main__ import PER_UNIT, main
from tmuad.workspace import UnitPaths

PROJECT = Path(__file__).parent.parent
LIST = yaml.safe_load((PROJECT / "variants.yaml").read_text())
BOX, BRAIN = "mvtec_loco.breakfast_box", "brainmri.BrainMRI"
RAN = ("banks", "text", "patches", "clusters", "cost")


def quietly(*arguments: str) -> None:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        assert main(list(arguments)) == 0, said.getvalue()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unit of nobody's data set, one of five categories of MVTec LOCO, all of BrainMRI; ablations on the first."""
    place = tmp_path_factory.mktemp("paper")
    root = data_set(place / "photos")
    scratched = kit(311)
    scratched[50:53, 8:60] = 20
    for kind, image in (("logical_anomalies", kit(310, discs=1)), ("structural_anomalies", scratched)):
        save(root / "test" / kind / "01.png", image)  # of one anomaly alone no interval would be believed
        shutil.copytree(root / "ground_truth" / kind / "00", root / "ground_truth" / kind / "01")
    units = {name: {"root": "photos", "layout": "mvtec_loco"} for name in ("demo.kit", BOX, BRAIN)}
    Bench(place, None).params(units, {"evaluate": {"resamples": 20}})
    kept = {group: LIST[group] for group in (*RAN, "objects")}
    kept["clusters"] = {name: LIST["clusters"][name] for name in ("k-10", "k-25")}
    (place / "variants.yaml").write_text(yaml.safe_dump(kept))
    with chdir(place):
        quietly("settings")
        for stage in PER_UNIT:
            quietly(stage, "demo.kit")
        for unit in (BOX, BRAIN):  # the same photographs under other names
            shutil.copytree(UnitPaths("demo.kit").folder, UnitPaths(unit).folder)
        params = load_params(Path("params.yaml"))
        for group in RAN:
            run_group(params, "demo.kit", group)
        publish(units)
        for stage in ("tables", "report"):
            quietly(stage)
    return place


def lines(table: int):
    """(scope, row, column) -> the line of ours."""
    paper = collect(load_params(Path("params.yaml")))
    return {(line.scope.name, line.row, line.column): line for line in paper.lines[table]}


def metric(unit: str, *keys: str) -> float:
    value = json.loads(UnitPaths(unit).metrics.read_text())
    for key in keys:
        value = value[key]
    return value


# --- the cells


def test_a_category_at_hand_fills_its_cell_and_the_others_say_what_they_need(here: Path) -> None:
    found = lines(1)
    box = found["mvtec_loco", "Breakfast Box", "TMUAD-I"]
    assert box.printed == pytest.approx(100 * metric(BOX, "image", "auroc"))
    assert box.paper == 99.5 and box.gap == pytest.approx(box.printed - 99.5)
    assert box.ours.origin is not None and box.ours.origin.units == (BOX,)
    juice = found["mvtec_loco", "Juice Bottle", "TMUAD-I"]
    assert juice.printed is None and juice.gap is None and "unit mvtec_loco.juice_bottle" in juice.ours.needs
    average = found["mvtec_loco", "Average", "TMUAD-I"]
    assert average.printed is None and "4 of 5 categories" in average.ours.needs
    unified = found["mvtec_loco", "Breakfast Box", "TMUAD-U"]
    assert unified.printed is None and "profile tmuad-u-b with its weights" in unified.ours.needs
    assert (
        "tmuad plug --unit mvtec_loco.breakfast_box --name pbas"
        in found["mvtec_loco", "Breakfast Box", "PBAS+M_T"].ours.needs
    )


def test_a_data_set_at_hand_fills_its_row_at_image_and_pixel_level(here: Path) -> None:
    for table, level in ((2, "image"), (3, "pixel")):
        line = lines(table)["brainmri", "BrainMRI", "TMUAD-I"]
        assert line.printed == pytest.approx(100 * metric(BRAIN, level, "auroc"))
        assert line.paper is None and line.gap is None  # the paper has a dash there


def test_units_at_hand_have_the_papers_rows_without_a_gap(here: Path) -> None:
    line = lines(5)["demo", "M_O + M_P", "average pixel"]
    assert line.printed is not None and line.paper == 85.2 and line.gap is None
    assert line.about == "the two image banks"
    assert lines(6)["demo", "whole image by VLM, T5 encoder", "only M_T"].printed is not None
    assert lines(9)["demo", "demo", "DINOv2+CLIP"].printed is not None
    assert "`make tables`" in lines(8)["demo", "CLIP, SAM only", "only M_O"].ours.needs  # its group was not run
    assert "variant `as: Ours, strict`" in lines(10)["demo", "AUROC", "Ours, strict"].ours.needs  # not on the list


def test_time_and_size_are_measured(here: Path) -> None:
    time, size, auroc = (lines(11)["demo", "TMUAD-U-S", c] for c in ("inference time (s)", "parameters (M)", "AUROC"))
    assert 0 < time.printed < 60 and time.unit == "s" and size.printed > 0 and 0 <= auroc.printed <= 100
    three = lines(11)["demo", "TMUAD-U-B (3 GPUs)", "inference time (s)"]
    assert three.printed is None and "three GPUs" in three.ours.needs


def test_the_csv_has_every_cell_of_the_paper_and_ours(here: Path) -> None:
    for number, reference in load_references(PROJECT / FOLDER).items():
        with Path(f"reports/tables/table_{number:02d}.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        printed = {(r["row"], r["column"]): r["paper"] for r in rows if r["scope"] != "demo"}
        for row, cells in reference.rows.items():
            for column, text in cells.items():
                assert (float(printed[row, column]) if printed[row, column] else None) == (
                    float(text) if text else None
                )
        for row in rows:
            ours = bool(row["ours"])
            assert ours or row["not_run"].startswith("needs ") or row["scope"] == "paper"
            assert not ours or (row["units"] and row["profile"] == "embedded" and row["weights"] == "none")
            assert not ours or re.fullmatch("[0-9a-f]{12}([+][0-9a-f]{12})*", row["parameters"])


def test_markdown_says_where_a_number_is_from(here: Path) -> None:
    text = Path("reports/tables/table_01.md").read_text()
    box = lines(1)["mvtec_loco", "Breakfast Box", "TMUAD-I"]
    assert box.ours.origin is not None and box.ours.origin.parameters in text
    assert "weights: none" in text and "not run: needs data set MVTec LOCO AD (unit mvtec_loco.pushpins)" in text
    assert "the mean of the five categories is 94.7" in text and "94.6*" in text


def test_ablations_of_another_fit_are_not_shown(own: Path) -> None:
    content = yaml.safe_load((own / "params.yaml").read_text())
    content["fuse"] = {"calibrated": {"text": 7.0}}
    (own / "params.yaml").write_text(yaml.safe_dump(content))
    quietly("settings")
    found = lines(11)["demo", "TMUAD-U-S", "AUROC"]
    assert found.printed is None and "belongs to another fit" in found.ours.needs
    assert lines(6)["demo", "whole image by VLM, T5 encoder", "only M_T"].printed is not None  # does not read `fuse`


def plugged(place: Path, unit: str, method: str, without: float, with_text: float) -> None:
    both = {"without": without, "with": with_text}
    entry = {side: {"auroc": value, "interval": [value - 0.1, value + 0.1]} for side, value in both.items()}
    entry["difference"] = {"value": with_text - without, "interval": None}
    kinds = dict.fromkeys(("all", "logical", "structural", "average"), entry)
    content = {"figures": {"image": kinds, "pixel": kinds}, "digests": {"maps": "1"}, "profile": "embedded"}
    path = place / "reports/plug" / unit / f"{method}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_plugged_detectors_fill_their_cells(own: Path) -> None:
    plugged(own, "demo.kit", "patchcore", 0.6, 0.8)
    plugged(own, BOX, "pbas", 0.7, 0.9)
    seven = lines(7)
    assert seven["demo", "patchcore + M_T", "AUROC"].printed == pytest.approx(80)
    assert seven["demo", "patchcore + M_T", "gain"].printed == pytest.approx(20)
    box = lines(1)["mvtec_loco", "Breakfast Box", "PBAS+M_T"]
    assert box.printed == pytest.approx(90) and box.gap == pytest.approx(-4.5)
    assert box.ours.cell is not None and box.ours.cell.interval == pytest.approx((0.8, 1.0))
    path = own / "reports/plug/demo.kit/patchcore.json"
    content = json.loads(path.read_text())
    for kind in content["figures"]["image"].values():
        kind["difference"] = None  # as `tmuad plug` writes it where nothing was resampled
    path.write_text(json.dumps(content))
    gain = lines(7)["demo", "patchcore + M_T", "gain"]
    assert gain.printed is None and "more images" in gain.ours.needs
    path = own / "reports/plug/demo.kit/univad.json"
    path.write_text('{"figures": {}}')
    with pytest.raises(ArtifactError, match=r"univad\.json: not a comparison of `tmuad plug`"):
        lines(7)


# --- means over units


def found(value: float, *drawn: float, unit: str = "u") -> Found:
    return Found(Cell(value, np.array([value, *drawn])), Origin((unit,), "embedded", "abc"))


def test_a_mean_over_units_is_one_resample_by_resample_and_lacks_what_one_lacks() -> None:
    mean = mean_of([found(0.8, 0.7, 0.9, unit="a"), found(0.6, 0.5, 0.7, unit="b")])
    assert mean.value == pytest.approx(0.7) and mean.cell.replicates.tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert mean.origin.units == ("a", "b")
    assert range_of([found(0.8, 0.7), found(0.6, 0.5)]).value == pytest.approx(0.2)
    assert np.isnan(mean_of([Found(Cell(0.5, NO_DRAWS), Origin(("a",), "p", "d"))] * 2).cell.interval).all()
    lacking = mean_of([found(0.8), Found(needs="x"), Found(needs="x"), Found(needs="y")])
    assert lacking.cell is None and lacking.needs == "x; y"


# --- the claims


@pytest.mark.parametrize(
    ("values", "difference", "verdict"),
    [
        ((0.9, 0.8), (0.05, 0.2), "holds"),
        ((0.9, 0.8), (-0.05, 0.2), "holds, within noise"),
        ((0.8, 0.9), (-0.2, 0.05), "does not hold, within noise"),
        ((0.8, 0.9), (-0.2, -0.05), "does not hold"),
        ((0.8, 0.8), (-0.1, 0.2), "undecided: equal"),
        ((0.9, 0.8), None, "holds, within noise"),
    ],
)
def test_verdicts_of_claims(values: tuple[float, float], difference: tuple[float, float] | None, verdict: str) -> None:
    judged = Judged(CLAIMS[0], "kit", "text", "objects", values, difference)
    assert judged.verdict == verdict
    assert replace(judged, needs="more").verdict == "not run"


def test_claims_compare_with_the_best_of_the_other_side(here: Path) -> None:
    claims = [c for c in collect(load_params(Path("params.yaml"))).claims if c.scope == "demo.kit"]
    assert len(claims) == len(CLAIMS)
    best = next(c for c in claims if c.claim.text.startswith("all three banks"))
    others = [
        metric("demo.kit", "banks", n, "image", "average") for n in ("text", "objects", "patches", "text+objects")
    ]
    assert best.values[0] == pytest.approx(metric("demo.kit", "image", "average"))
    assert best.values[1] >= max(others) - 1e-9
    assert best.difference is not None and best.difference[0] <= best.values[0] - best.values[1] + 1e-9
    unrun = next(c for c in claims if c.claim.where == "Table X")
    assert unrun.verdict == "not run" and "variant" in unrun.needs
    assert {row[3] for row in claim_rows(claims)} <= set(VERDICTS)


def test_claims_speak_of_rows_that_the_paper_has() -> None:
    references = load_references(PROJECT / FOLDER)
    named = [name for claim in CLAIMS for name in (*claim.better, *claim.others) if name.startswith("row ")]
    assert len(named) >= 12
    for name in named:
        table, _, row = name.removeprefix("row ").partition("/")
        assert row in {*references[int(table)].rows, *references[int(table)].columns}, name


# --- the figures


def test_every_figure_is_there_or_says_what_it_needs(here: Path) -> None:
    figures = json.loads(Path("reports/figures/figures.json").read_text())
    assert {figure["number"] for figure in figures} == set(range(7, 19))
    for figure in figures:
        assert bool(figure["file"]) != bool(figure["needs"])
        assert not figure["file"] or (Path("reports/figures") / figure["file"]).stat().st_size > 500
    drawn = {(f["number"], f["scope"]) for f in figures if f["file"]}
    assert {(n, "demo") for n in (7, 12, 13, 14, 15, 16, 17, 18)} <= drawn
    assert (11, "brainmri") in drawn and (8, "mvtec_ad") not in drawn
    assert len(Path("reports/figures/figure_18.csv").read_text().splitlines()) == 3
    assert {path.name for path in Path("reports/figures").glob("*.png")} == {
        f["file"] for f in figures if f["file"][-3:] == "png"
    }


def test_figure_13_shows_what_positions_find_and_how_far_a_camera_may_move(here: Path) -> None:
    figures = [f for f in json.loads(Path("reports/figures/figures.json").read_text()) if f["number"] == 13]
    drawn = {f["file"]: f for f in figures if f["scope"] == "demo"}
    assert set(drawn) == {"figure_13_demo.svg", "figure_13_moved_demo.svg"}
    with Path("reports/figures/figure_13.csv").open(encoding="utf-8") as stream:
        values = {row["auroc_logical"] for row in csv.DictReader(stream)}
    assert ("No difference on these units" in drawn["figure_13_demo.svg"]["note"]) == (len(values) == 1)
    with Path("reports/figures/figure_13_moved_demo.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(STEPS) and {row["variant"] for row in rows} == {
        "positions-in-words",
        "positions-as-places",
    }
    chart = ET.parse("reports/figures/figure_13_moved_demo.svg").getroot()
    assert len(list(chart.iter("{http://www.w3.org/2000/svg}circle"))) == len(rows)


def test_dvc_plots_shows_the_sweep_over_centroids(own: Path) -> None:
    (own / "dvc.yaml").write_text(
        yaml.safe_dump({"plots": yaml.safe_load((PROJECT / "dvc.yaml").read_text())["plots"]})
    )
    for command in (["init", "--no-scm", "-q"], ["plots", "show", "-o", "drawn"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True, capture_output=True)
    page = Path("drawn/index.html").read_text()
    with Path("reports/figures/figure_18.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 and "AUROC (Fig. 18)" in page and "ms to compare an image (Fig. 18)" in page
    for row in rows:
        for column in ("clusters", "auroc", "milliseconds"):
            assert f'"{column}": "{row[column]}"' in page, (column, row)


@pytest.mark.parametrize(
    "chart",
    [
        bar_chart("a <b>", ["x & y", "z"], [Series("s", [1.0, None], [(0.5, 1.5), None]), Series("t", [2, 3])], 0, 5, "%"),
        line_chart("k", [10, 100], [Series("a", [50.0, 60.0])], [Series("b", [1.0, 2.0])], ("K", "%", "ms")),
        line_chart("one", [10], [Series("a", [50.0])], [Series("b", [None])], ("K", "%", "ms")),
        line_chart("no second axis", [1, 2], [Series("a", [50.0, None])], [], ("K", "%", "")),
        bar_chart("none", [], [], 0, 1, ""),
    ],
)  # fmt: skip
def test_charts_are_well_formed_and_escaped(chart: str) -> None:
    root = ET.fromstring(chart)
    assert root.tag.endswith("svg") and "nan" not in chart


def test_bars_are_as_high_as_their_values() -> None:
    chart = ET.fromstring(bar_chart("t", ["x"], [Series("s", [25.0]), Series("t", [100.0])], 0, 100, "%"))
    heights = [float(r.get("height")) for r in chart.iter("{http://www.w3.org/2000/svg}rect") if r.get("width") != "11"]
    assert heights[0] == pytest.approx(heights[1] / 4, abs=0.1)


# --- the page


def test_the_page_shows_tables_figures_configuration_provenance_and_cost(here: Path) -> None:
    page = Path("reports/index.html").read_text()
    for anchor in ("claims", "tables", "figures", "configuration", "provenance", "cost"):
        assert f'id="{anchor}"' in page and f'href="#{anchor}"' in page
    assert page.count("<h3>Table ") == 11
    assert (
        "Model weights: none" in page and collect(load_params(Path("params.yaml"))).sources.origin().parameters in page
    )
    assert "peak memory" in page and "data set VisA" in page and "<svg" in page
    for source in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert not source.startswith(("http", "//")) and (Path("reports") / source).exists(), source


def test_two_runs_on_the_same_artifacts_give_the_same_bytes(own: Path) -> None:
    files = [p for folder in ("tables", "figures") for p in sorted(Path("reports", folder).iterdir())]
    before = {path: path.read_bytes() for path in [*files, Path("reports/index.html")]}
    for folder in ("tables", "figures"):
        shutil.rmtree(Path("reports", folder))
    for stage in ("tables", "report"):
        quietly(stage)
    assert {path: path.read_bytes() for path in before} == before
    assert {p for folder in ("tables", "figures") for p in Path("reports", folder).iterdir()} == set(files)


def test_a_plain_repro_runs_no_ablation() -> None:
    """The stage `tables` depends on a folder that no stage has among its outputs."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    deps = stages["tables"]["deps"]
    assert "ablations/results" in deps and not any(d.startswith("ablations/runs") for d in deps)
    for stage in yaml.safe_load((PROJECT / "ablations/dvc.yaml").read_text())["stages"].values():
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in stage.get("do", stage)["outs"]]
        assert not any(out.startswith("ablations/results") for out in outs)
