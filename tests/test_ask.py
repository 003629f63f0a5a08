"""From a fitted unit to answers: the commands that explain, propose, audit and show, on a small unit that is really fitted."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tmuad.audit.report import audit_unit
from tmuad.cards.explain import Explainer
from tmuad.checks import run_checks
from tmuad.cli import app
from tmuad.config import load_params
from tmuad.errors import ArtifactError, DataError, ImageError, ParameterError, TmuadError
from tmuad.evaluate.threshold import thresholds
from tmuad.warehouse import query

UNIT = "demo.kit"
NOTEBOOK = Path(__file__).parents[1] / "docs/warehouse.ipynb"
PARAMS = f"""
units:
  {UNIT}: {{root: "data/demo/hardware_kit", layout: mvtec_loco}}
data: {{size: 128, workers: 1}}
demo: {{categories: [hardware_kit], size: 128, train: 12, validation: 5, test_good: 2, per_fault: 1}}
finetune: {{epochs: 1, crops_per_class: 8}}
object_bank: {{clusters: 20}}
patch_bank: {{clusters: 20, max_patches: 2000}}
"""
STAGES = (
    "demo",
    "prepare",
    "segment",
    "finetune",
    "describe",
    "text_bank",
    "feature_banks",
    "score",
    "fuse",
    "evaluate",
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a fitted unit whose first class a person has named, and a warehouse of it."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "data/names").mkdir(parents=True)
    (folder / f"data/names/{UNIT}.yaml").write_text("class-1: {one: 'Lasche ø <b>', many: \"Laschen 'ø'\"}\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        params = load_params(Path("params.yaml"))
        for name in (*STAGES, "context", "warehouse"):
            stage = importlib.import_module(f"tmuad.stages.{name}")
            stage.run(params) if name in ("demo", "warehouse") else stage.run(params, UNIT)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def inside(fitted, monkeypatch):
    monkeypatch.chdir(fitted)


@pytest.fixture(scope="module")
def explainer(fitted):
    before = Path.cwd()
    os.chdir(fitted)
    try:
        return Explainer.load(UNIT, load_params(Path("params.yaml")))
    finally:
        os.chdir(before)


def run(*arguments):
    """Output of `tmuad` with these arguments; raises what a user would see as an error."""
    outcome = CliRunner().invoke(app, list(arguments))
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome


# --- explain


def test_a_card_made_now_says_what_the_stages_decided(explainer):
    stored = query(
        Path("reports/tmuad.duckdb"),
        "SELECT * FROM verdicts JOIN images USING (unit, image_id) WHERE split = 'test' ORDER BY path",
    )
    assert len(stored) >= 3
    reasons = query(Path("reports/tmuad.duckdb"), "SELECT image_id, rank, sentence FROM findings ORDER BY rank")
    context = query(Path("reports/tmuad.duckdb"), "FROM context").set_index("image_id")
    for row in stored.iloc[:: max(1, len(stored) // 8)].itertuples():
        card, _ = explainer.explain(row.path)
        assert (card.image_id, card.verdict) == (row.image_id, row.verdict)
        assert card.score == pytest.approx(row.score, rel=1e-4) and card.threshold == pytest.approx(row.threshold)
        assert [r.sentence for r in card.reasons] == reasons.loc[
            reasons["image_id"] == row.image_id, "sentence"
        ].tolist()
        assert card.nearest_by_text.image_id == row.nearest_image_id
        assert card.nearest_by_patch.image_id == context.loc[row.image_id, "nearest_by_patch"]
        assert card.shares["text"] == pytest.approx(row.share_text, abs=1e-3)


def test_an_image_is_found_by_file_path_or_id(explainer, tmp_path):
    row = explainer.manifest.iloc[0]
    file = explainer.root / row["path"]
    by_all = [explainer.find(name) for name in (row["path"], row["image_id"], row["image_id"][:8])]
    assert {found[0] for found in by_all} == {file} and explainer.find(str(file)) == (file, str(file))
    copy = tmp_path / "ø <i> 'new'.png"
    Image.fromarray(np.roll(np.asarray(Image.open(file).convert("RGB")), 5, axis=1)).save(copy)
    card, _ = explainer.explain(str(copy))
    assert card.image == str(copy) and card.nearest_by_patch.path


@pytest.mark.parametrize("image", ["nowhere.png", "abc", "ffffffff", "test/good/00x.png", ""])
def test_an_image_that_is_none_is_refused(explainer, image):
    with pytest.raises(DataError, match=f"neither a file nor an image of {UNIT}"):
        explainer.find(image)
    with pytest.raises(DataError, match="Did you mean 'test/good/000"):
        explainer.find("test/good/0000.png")


def test_an_image_that_no_id_singles_out_or_that_is_gone(explainer, tmp_path):
    from dataclasses import replace

    twins = explainer.manifest.assign(image_id="ab" * 32)
    with pytest.raises(DataError, match="give more digits"):
        replace(explainer, manifest=twins).find("abababab")
    listed = explainer.manifest.assign(path="gone.png")
    with pytest.raises(ImageError, match=r"gone\.png"):
        replace(explainer, manifest=listed).explain("gone.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"torn\.png"):
        explainer.explain(str(tmp_path / "torn.png"))


def test_images_that_the_unit_knows_carry_a_note(explainer):
    notes = {split: explainer.explain(f"{split}/good/000.png")[0].notes for split in ("train", "validation", "test")}
    assert "have learnt from this image" in notes["train"][0] and "set the threshold" in notes["validation"][0]
    assert notes["test"] == ()


def test_explain_prints_and_writes_html_and_json():
    printed = run("explain", "test/logical_anomalies/000.png", "--unit", UNIT).output
    assert "nearest by patch:" in printed and "Lasche ø <b>" in printed
    as_json = json.loads(run("explain", "test/logical_anomalies/000.png", "-u", UNIT, "--json").output)
    [page] = Path(f"reports/cards/{UNIT}").glob(f"000-{as_json['image_id'][:12]}.html")
    assert json.loads(page.with_suffix(".json").read_text()) == as_json
    assert "Lasche ø &lt;b&gt;" in page.read_text() and "<b>'" not in page.read_text()


# --- a unit that is not ready, or unknown


@pytest.mark.parametrize("command", ["explain x.png", "threshold", "audit", "rules"])
def test_unknown_units_and_units_that_are_not_fitted(command, fitted, tmp_path, monkeypatch):
    name, *rest = command.split()
    with pytest.raises(ParameterError, match=f"unknown unit 'demo.kid'.*Did you mean '{UNIT}'"):
        run(name, *rest, "--unit", "demo.kid")
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="dvc repro"):
        run(name, *rest, "--unit", UNIT)


def test_explain_without_the_context_stage_says_so(explainer):
    from dataclasses import replace

    card, _ = replace(explainer, likeness=None).explain("test/good/000.png")
    assert card.nearest_by_patch is None and f"dvc repro context@{UNIT}" in card.notes[0]


# --- rules, checks, threshold, audit


def test_rules_are_proposed_accepted_and_hold(tmp_path):
    listed = run("rules", "--unit", UNIT).output
    assert "[17 of 17]" in listed and ("Laschen 'ø'" in listed or "Lasche ø <b>" in listed)
    saved = run("rules", "--unit", UNIT, "--accept", "all", "--folder", str(tmp_path))
    assert saved.output.count("saved ") == len(list(tmp_path.glob("*.sql"))) > 3
    outcome = run("checks", "--folder", str(tmp_path))
    assert outcome.exit_code == 0 and "FAILED" not in outcome.output and "PASSED" in outcome.output
    for wrong in ("99", "0", "x", "3-1"):
        with pytest.raises(ParameterError, match="is no number of a proposed rule"):
            run("rules", "--unit", UNIT, "--accept", wrong, "--folder", str(tmp_path))


def test_failing_checks_exit_with_3_and_the_stage_stops_at_level_stop(tmp_path, monkeypatch):
    from tmuad.stages import checks

    (tmp_path / "bad.sql").write_text(
        "-- expect: no rows\n-- level: stop\nSELECT path FROM images WHERE split = 'test'\n"
    )
    outcome = run("checks", "--folder", str(tmp_path))
    assert outcome.exit_code == 3 and "test/good/000.png" in outcome.output
    monkeypatch.setattr(checks, "load_checks", lambda: importlib.import_module("tmuad.checks").load_checks(tmp_path))
    with pytest.raises(DataError, match=r"test/good/000\.png"):
        checks.run(load_params(Path("params.yaml")))
    [written] = json.loads(Path("reports/checks.json").read_text())
    assert written["state"] == "failed" and written["images"][0].endswith("test/good/000.png")


def test_no_saved_questions(tmp_path):
    assert "proposes some" in run("checks", "--folder", str(tmp_path / "none")).output
    assert run_checks(Path("reports/tmuad.duckdb"), []) == []


def test_threshold_report_and_apply():
    printed = run("threshold", "--unit", UNIT, "--false-alarms", "1%").output
    assert "NOT POSSIBLE" in printed and "it takes 99" in printed and "patches" in printed
    assert Path(f"reports/{UNIT}/threshold.md").exists()
    listed = Path(f"reports/{UNIT}/p_values.csv").read_text().splitlines()
    assert len(listed) == 1 + pq.read_table(f"artifacts/{UNIT}/scores.parquet").num_rows
    content = Path("params.yaml").read_text()
    try:
        run("threshold", "--unit", UNIT, "--false-alarms", "25%", "--apply")
        assert load_params(Path("params.yaml")).decide.of(UNIT).false_alarm_rate == 0.25
        from tmuad.stages import fuse

        kept = {p: p.read_bytes() for p in Path(f"artifacts/{UNIT}").iterdir()}
        fuse.run(load_params(Path("params.yaml")), UNIT)
        calibration = json.loads(Path(f"artifacts/{UNIT}/calibration.json").read_text())
        assert calibration["false_alarm_rate"] == 0.25
        assert calibration["threshold"] == pytest.approx(thresholds(UNIT, 0.25).promises[0].threshold)
        for path, before in kept.items():
            path.write_bytes(before)
    finally:
        Path("params.yaml").write_text(content)


def test_audit_of_a_sound_set_and_of_one_with_a_copy(tmp_path):
    printed = run("audit", "--unit", UNIT).output
    assert "on 17 normal images" in printed and "near-duplicates" not in printed
    page = Path(f"reports/{UNIT}/audit.html").read_text()
    assert f"Audit of {UNIT}" in page and "http" not in page.replace("http-equiv", "")
    manifest = pq.read_table(f"artifacts/{UNIT}/manifest.parquet")
    original = Path(f"artifacts/{UNIT}/manifest.parquet").read_bytes()
    try:  # the set as it would be with a copy of a training image, saved again
        row = next(r for r in manifest.to_pylist() if r["split"] == "train")
        copy = tmp_path / "copy.jpg"
        Image.open(Path("data/demo/hardware_kit") / row["path"]).convert("RGB").save(copy, quality=80)
        again = row | {"image_id": "f" * 64, "path": str(copy)}
        pq.write_table(
            manifest.from_pylist([*manifest.to_pylist(), again], schema=manifest.schema),
            f"artifacts/{UNIT}/manifest.parquet",
        )
        found = audit_unit(UNIT, load_params(Path("params.yaml")))
        [double] = [r for r in found.remarks if r.kind == "near-duplicates"]
        assert set(double.images) == {row["image_id"], "f" * 64}
    finally:
        Path(f"artifacts/{UNIT}/manifest.parquet").write_bytes(original)


# --- gallery, notebook, and the command as a process


def test_the_gallery_of_the_unit_is_whole_and_equal_each_time():
    from tmuad.stages import gallery

    params = load_params(Path("params.yaml"))
    gallery.run(params)
    folder = Path("reports/gallery")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    gallery.run(params)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    data = json.loads((folder / "data.js").read_text().removeprefix("window.TMUAD_GALLERY = ").rstrip(";\n"))
    details = (folder / "details/0.js").read_text()
    for row in data["rows"]:
        assert (folder / f"thumbs/{row[0]}.jpg").exists() and (folder / f"maps/{row[0]}.png").exists()
    items = json.loads(details[details.index(", ") + 2 : -3])
    assert len(items) == len(data["rows"])
    for detail, row in zip(items, data["rows"], strict=True):
        assert bool(detail["truth"]) == (row[3] != 0) and (
            not detail["truth"] or (folder / f"truth/{detail['truth']}.png").exists()
        )
        assert all((folder / f"images/{near['picture']}.jpg").exists() for near in detail["neighbours"])


def test_the_report_stage_writes_promises():
    from tmuad.stages import report

    report.run(load_params(Path("params.yaml")))
    assert f"## {UNIT}: at most 5 % asked for" in Path("reports/thresholds.md").read_text()


def test_the_example_notebook_runs(fitted):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert not [cell for cell in book.cells if cell.get("outputs")], "keep it without outputs"
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(fitted)}}
    )
    client.execute()
    texts = [
        out.get("data", {}).get("text/plain", "") + out.get("text", "")
        for c in book.cells
        for out in c.get("outputs", [])
    ]
    assert any(UNIT in text for text in texts) and any("read-only" in text for text in texts)


def test_the_command_as_a_user_runs_it(tmp_path):
    def tmuad(*arguments, **more):
        environment = os.environ | {"PYTHONPATH": str(NOTEBOOK.parents[1])}
        command = [sys.executable, "-m", "tmuad.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **more)

    (tmp_path / "q.sql").write_text("SELECT count(*) AS n FROM images;", encoding="utf-8")
    out = tmp_path / "rows.parquet"
    run("sql", "FROM verdicts", "--format", "parquet", "--out", str(out), "--unit", UNIT)
    assert pq.read_table(out).num_rows > 0
    assert tmuad("sql", "--format", "json", input="SELECT 1 AS a").stdout == '[\n{"a": 1}\n]\n'
    assert run("sql", "--file", str(tmp_path / "q.sql"), "--format", "csv").output.startswith("n\n")
    wrong = tmuad("sql", "SELECT * FROM imagez")
    assert wrong.returncode == 1 and "^^^^^^" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["sql", "FROM units", "--file", "q.sql"], "one of the two"),
        (["sql", "--file", "nowhere.sql"], "cannot be read"),
        (["sql", "FROM units", "--memory", "much"], "memory limit"),
        (["sql", "FROM units", "--seconds", "-1"], "time limit"),
        (["sql", "FROM units", "--unit", "other"], f"it has: {UNIT}"),
        (["threshold", "--unit", UNIT, "--false-alarms", "many"], "such as 1%"),
        (["sql", "FROM units", "--out", "params.yaml/x"], "cannot be written"),
        (["sql", "FROM units", "--warehouse", "none.duckdb"], "dvc repro"),
    ],
)
def test_wrong_arguments_are_explained(arguments, why):
    with pytest.raises(TmuadError, match=why):
        run(*arguments)
