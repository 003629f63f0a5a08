"""The whole graph with the paper's models at toy size: the real classes of every library, random weights, no mocks.

Nothing is learnt from the verdicts. What counts is that every stage takes what the one before wrote, that a second run
gives the same bytes, and that bad input ends in words.
"""

import csv
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_models import photos
from typer.testing import CliRunner

from tmuad.ablate.publish import publish
from tmuad.ablate.refit import refitted
from tmuad.ablate.rescore import FittedUnit, look_of, rescore, texts_under
from tmuad.ablate.run import run_group, run_one
from tmuad.ablate.store import read_results
from tmuad.ablate.variants import VARIANTS, Variant, load_variants, params_of, selected
from tmuad.banks.slots import load_object_bank
from tmuad.cli import app
from tmuad.config import Params, load_params
from tmuad.describe import clip_classifier
from tmuad.describe.description import describe
from tmuad.describe.qwen import Qwen
from tmuad.encode.model_features import ModelFeatureTask
from tmuad.encode.slots import feature_task
from tmuad.encode.texts import ClipText, T5Text
from tmuad.engine import load_image
from tmuad.errors import ArtifactError, ParameterError, WeightsError
from tmuad.inspector import Inspector
from tmuad.models.runtime import free_models
from tmuad.parquet import read_parquet
from tmuad.report.paper.collect import collect
from tmuad.report.paper.reference import FOLDER, load_references
from tmuad.segment.grounded_sam import ModelSceneTask
from tmuad.segment.scene import unpack_scene
from tmuad.segment.slots import scene_task

ROOT = Path(__file__).parent.parent
UNIT = "kit.small"
STAGES = ("prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse", "evaluate")


def workspace(folder: Path, units: tuple[str, ...] = (UNIT,), **overrides: object) -> Path:
    """A data set of nine drawn images, and a params.yaml with the profile."""
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shots = iter(photos(9, side=80))
    for name in ("train/good/0", "train/good/1", "train/good/2", "train/good/3", "validation/good/0", "validation/good/1",
                 "test/good/0", "test/logical_anomalies/0", "test/structural_anomalies/0"):  # fmt: skip
        path = folder / f"data/kit/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(next(shots)).save(path)
        if "anomalies" in name:
            mask = np.zeros((80, 80), np.uint8)
            mask[20:40, 20:40] = 255
            target = folder / f"data/kit/ground_truth/{name.removeprefix('test/')}/000.png"
            target.parent.mkdir(parents=True)
            Image.fromarray(mask).save(target)
    write_params(folder, units, **overrides)
    return folder


def write_params(folder: Path, units: tuple[str, ...] = (UNIT,), **overrides: object) -> None:
    content = {"profile": "paper-tiny", "units": {u: {"root": "data/kit", "layout": "mvtec_loco"} for u in units}}
    (folder / "params.yaml").write_text(yaml.safe_dump({**content, **overrides}))


def run(stage: str, params: Params, *names: str) -> None:
    importlib.import_module(f"tmuad.stages.{stage}").run(params, *names)


def run_all(params: Params) -> None:
    run("settings", params)
    for stage in STAGES:
        for unit in params.units:
            run(stage, params, unit)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = workspace(tmp_path_factory.mktemp("paper"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = load_params(Path("params.yaml"))
        run_all(params)
        run("report", params)
        run("warehouse", params)
    return folder


@pytest.fixture
def here(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(fitted)
    return load_params(Path("params.yaml"))


def test_every_stage_left_what_it_promises(here: Params) -> None:
    folder = Path(f"artifacts/{UNIT}")
    segments = read_parquet(folder / "segments.parquet").to_pandas()
    assert set(segments["source"]) == {"grounded", "open"}
    assert set(segments.loc[segments["source"] == "grounded", "label"]) == {"screw", "lens"}
    assert (segments["area"] > 0).all() and segments["score"].between(0, 1).all()
    assert json.loads((folder / "classes.json").read_text())["given"] == ["screw", "lens"]
    assert clip_classifier.is_clip_classifier(folder / "classifier.safetensors")
    curve = (folder / "finetune.csv").read_text().splitlines()
    assert curve[0] == "epoch,loss,held_out_loss,held_out_accuracy" and len(curve) >= 2
    described = read_parquet(folder / "descriptions.parquet").to_pandas()
    assert set(described["object_class"]) <= {"screw", "lens", ""} and described["image_id"].nunique() == 9
    placed = (folder / "positions.csv").read_text().splitlines()
    assert len(placed) == 1 + int((described["object_class"] != "").sum())
    answers = [json.loads(line) for line in Path(f"data/answers/{UNIT}.jsonl").read_text().splitlines()]
    assert {a["image_id"] for a in answers} == set(described.loc[described["object_class"] != "", "image_id"])
    scores = read_parquet(folder / "bank_scores.parquet").to_pandas()
    assert len(scores) == 5 and all((np.array(row) >= 0).all() for row in scores["patch_distance"])
    assert all(len(row) == 8 for row in scores["region_distance"])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"text", "objects", "patches"} <= set(metrics["banks"])


def test_settings_hold_what_is_in_force(here: Params) -> None:
    content = yaml.safe_load(Path("artifacts/params.yaml").read_text())
    assert content["fuse"]["method"] == "paper" and content["finetune"]["backend"] == "clip"
    assert content["objects"] == {UNIT: ["screw", "lens"]}
    assert content["weights"] == {
        "segment": {"random:0": "random:0", "random:3": "random:3"},
        "finetune": {"random:0": "random:0"}, "encode": {"random:0": "random:0"}, "vlm": {"random:0": "random:0"},
        "texts": {},  # as with any that are drawn, there is nothing to compare
    }  # fmt: skip
    assert "units" not in content and content["compute"] == {"precision": "float32"}
    models = Path("reports/results.md").read_text()
    assert "## Models of the profile paper-tiny" in models and models.count("random:0") >= 5
    page = Path("reports/index.html").read_text()
    assert "<h2>Models of the profile paper-tiny</h2>" in page and page.count("<td>random:0</td>") >= 5


def tracked() -> set[str]:
    """The keys of artifacts/params.yaml that the stages of dvc.yaml depend on."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    listed = [entry for stage in stages for entry in stage.get("do", stage).get("params", [])]
    return {key for entry in listed if isinstance(entry, dict) for key in entry["artifacts/params.yaml"]}


@pytest.mark.parametrize("profile", ["embedded", "paper-tiny"])
def test_dvc_finds_every_key_that_a_stage_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    write_params(tmp_path, profile=profile)
    run("settings", load_params(Path("params.yaml")))
    content = yaml.safe_load(Path("artifacts/params.yaml").read_text())
    assert {"segment", "weights.vlm", "finetune.backend"} <= tracked()
    for key in tracked():
        value = content
        for part in key.split("."):
            value = value[part]
    if profile == "embedded":
        assert content["objects"] == {} and not any(content["weights"].values())
        assert content["finetune"]["backend"] == "scratch"


def test_how_fast_things_run_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    run("settings", load_params(Path("params.yaml")))
    before = Path("artifacts/params.yaml").read_bytes()
    write_params(tmp_path, compute={"threads": 2, "weights": "elsewhere"}, data={"workers": 7, "cache": "other"})
    run("settings", load_params(Path("params.yaml")))
    assert Path("artifacts/params.yaml").read_bytes() == before


def test_without_its_cache_a_second_run_gives_the_same_bytes(here: Params) -> None:
    before = digests(Path("artifacts"))
    answers = digests(Path("data/answers"))
    shutil.rmtree(here.data.cache)
    free_models()
    run_all(here)
    assert digests(Path("artifacts")) == before
    assert digests(Path("data/answers")) == answers


def test_a_single_image_gets_the_verdict_that_the_stages_gave(here: Params) -> None:
    manifest = read_parquet(Path(f"artifacts/{UNIT}/manifest.parquet")).to_pylist()
    scores = {r["image_id"]: r["score"] for r in read_parquet(Path(f"artifacts/{UNIT}/scores.parquet")).to_pylist()}
    inspector = Inspector.load(UNIT, here)
    for row in [r for r in manifest if r["split"] == "test"]:
        verdict, description = inspector.inspect(load_image(Path("data/kit") / row["path"], here.data), row["image_id"])
        assert verdict.score == pytest.approx(scores[row["image_id"]], abs=1e-3)
        assert description.text


def test_score_and_doctor_on_the_command_line(here: Params) -> None:
    result = CliRunner().invoke(app, ["score", "data/kit/test", "--unit", UNIT, "--json"])
    assert result.exit_code == 0 and len(result.output.strip().splitlines()) == 3
    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert report["profile"] == "paper-tiny" and report["ready"] and report["seconds_per_image"]["total"] > 0


def test_no_object_in_an_image_and_more_than_can_be(here: Params, caplog: pytest.LogCaptureFixture) -> None:
    task = scene_task(here, UNIT)
    assert isinstance(task, ModelSceneTask)
    image = photos(1)[0]

    def with_(**update: object) -> ModelSceneTask:
        grounded = here.segment.grounded.model_copy(update=update)
        segment = here.segment.model_copy(update={"grounded": grounded})
        return ModelSceneTask(segment, task.names, task.crop_size, task.fill, task.compute)

    nothing = unpack_scene(with_(box_threshold=1.0)(image, {}))
    assert nothing.components == [] and nothing.crops.shape == (0, 32, 32, 3) and len(nothing.regions) == 8
    assert describe("x", []).text == "nothing"
    few = with_(box_threshold=0.0, nms=1.0, max_objects=5)(image, {})
    assert len(few["label"]) <= 5 and "1 images show more than 5 objects" in caplog.text
    assert len(with_(box_threshold=0.0, nms=1.0)(image, {})["label"]) == len(few["label"]) + 1  # max_objects is 6
    assert len(with_(box_threshold=0.0, min_area=0.9)(image, {})["label"]) == 0  # masks of next to nothing
    assert with_(nms=0.9).fingerprint != task.fingerprint


def test_a_batch_of_images_is_each_by_itself(here: Params) -> None:
    task = scene_task(here, UNIT)
    assert isinstance(task, ModelSceneTask)
    for image, record in zip(photos(3), task.many(photos(3), [{}] * 3), strict=True):
        alone = task(image, {})
        assert record.keys() == alone.keys()
        for name in ("label", "parent", "candidate_lengths", "region_lengths", "crops"):
            assert np.array_equal(record[name], alone[name]), name


# ---- the ablations of the paper profile


@pytest.fixture
def listed(fitted: Path, here: Params) -> dict[str, Variant]:
    """The project's own variants, those of the paper's models."""
    shutil.copy(ROOT / VARIANTS, VARIANTS)
    return selected(load_variants(), here)


def group_of(listed: dict[str, Variant], group: str) -> dict[str, Variant]:
    return {name: variant for name, variant in listed.items() if variant.group == group}


def test_every_row_of_tables_vi_viii_and_ix_has_a_number(here: Params, listed: dict[str, Variant]) -> None:
    for group, names in (
        ("text", {"whole-image-clip", "whole-image-t5", "segments-t5", "classes-t5", "class-level"}),
        ("objects", {"objects-clip-open", "objects-dinov2-open", "objects-clip-grounded", "objects-dinov2-grounded"}),
        ("patches", {"patches-dinov2", "patches-clip", "patches-clip-dinov2"}),
    ):
        run_group(here, UNIT, group)
        results = read_results(UNIT, group, Path("ablations/runs"))
        assert results is not None and names <= set(results.outcomes)
        for name in names:
            outcome = results.outcomes[name]
            assert 0 <= outcome.cells["image", "auroc"].value <= 1, name
            assert outcome.weights == {"random:0": "random:0", "random:3": "random:3"}


@pytest.mark.parametrize("name", ["objects-dinov2-grounded", "objects-clip-grounded", "patches-clip"])
def test_a_bank_of_a_variant_is_that_of_a_fit_from_the_start(
    here: Params, listed: dict[str, Variant], name: str, tmp_path: Path
) -> None:
    changed = params_of(name, listed[name], here)
    rescored = rescore(FittedUnit(UNIT, here), changed)
    with refitted(UNIT, changed) as again:
        results, by_class = again.results, again.by_class
        objects = load_object_bank(again.paths.object_bank)
    assert [r.image_id for r in rescored.results] == [r.image_id for r in results]
    for ours, theirs in zip(rescored.results, results, strict=True):
        np.testing.assert_allclose(ours.patch_distance, theirs.patch_distance, atol=1e-5)
        np.testing.assert_allclose(ours.region_distance, theirs.region_distance, atol=1e-5)
        assert [r.tolist() for r in ours.regions] == [r.tolist() for r in theirs.regions]
    assert objects.by_class == ("grounded" in name) and by_class
    assert rescored.by_class == (objects.by_class if "objects" in name else by_class)


@pytest.fixture
def spoken(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The unit where the model's answers are usable, and a person corrected one of them."""
    shutil.copytree(fitted, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    shutil.copy(ROOT / VARIANTS, VARIANTS)
    params = load_params(Path("params.yaml"))
    answers = Path(f"data/answers/{UNIT}.jsonl")
    told = [
        json.loads(line) | {"answer": '{"screw": "top right", "lens": ["left", "bottom"]}'} for line in answers.open()
    ]
    answers.write_text("".join(json.dumps(answer) + "\n" for answer in told))
    rows = read_parquet(Path(f"artifacts/{UNIT}/manifest.parquet")).to_pylist()
    path = next(
        row["path"] for row in rows if row["split"] == "test" and row["image_id"] in {a["image_id"] for a in told}
    )
    corrections = [{"image": path, "object": name, "position": ["centre"]} for name in ("screw", "lens")]
    Path("data/corrections").mkdir()
    Path(f"data/corrections/{UNIT}.yaml").write_text(yaml.safe_dump(corrections))
    for stage in ("describe", "text_bank", "score"):
        run(stage, params, UNIT)
    return params


def test_positions_by_the_grid_are_those_of_a_fit_without_a_language_model(spoken: Params) -> None:
    """Figure 13 in the paper profile: what the model said of positions is set aside, what a person said is kept."""
    variants = load_variants()
    changed = params_of("positions-by-grid", variants["positions-by-grid"], spoken)
    assert changed.describe.position == "nine_grid" and changed.text_score.position == "words"
    in_force = FittedUnit(UNIT, spoken)
    rescored = rescore(in_force, changed)
    _, described = texts_under(in_force, changed)
    with refitted(UNIT, changed) as again:
        assert {i: d.text for i, d in described.items()} == {i: d.text for i, d in again.descriptions.items()}
        expected = again.results
    assert any(c.said for d in described.values() for c in d.classes)  # the person's
    assert {d.text for d in described.values()} != {d.text for d in in_force.descriptions.values()}
    for ours, theirs in zip(rescored.results, expected, strict=True):
        assert ours.image_id == theirs.image_id and ours.nearest == theirs.nearest
        told = [[(f.object_class, f.attribute, f.expected, f.found) for f in r.findings] for r in (ours, theirs)]
        assert told[0] == told[1]
    moved = {n: len([k for k in run_one(spoken, UNIT, n).cells if k[:2] == ("good", "moved")])
             for n in ("positions-in-words", "positions-by-grid", "positions-as-places")}  # fmt: skip
    assert moved["positions-in-words"] <= 1 < moved["positions-as-places"]  # moved scenes were not shown to the model


def test_tables_say_which_weights_and_parameters_a_cell_is_of(here: Params, listed: dict[str, Variant]) -> None:
    for group in ("text", "objects"):
        run_group(here, UNIT, group)
    publish(here.units)
    run("tables", here)
    cells = {}
    for number in (6, 8):
        with Path(f"reports/tables/table_{number:02d}.csv").open(encoding="utf-8") as stream:
            cells |= {(number, row["row"]): row for row in csv.DictReader(stream) if row["scope"] == "kit"}
    paper = {(number, row) for number in (6, 8) for row in load_references(ROOT / FOLDER)[number].rows}
    assert paper <= cells.keys()
    for place in paper:
        row = cells[place]
        assert row["ours"] and row["units"] == UNIT and row["profile"] == "paper-tiny", place
        assert "random:0" in row["weights"] and re.fullmatch("[0-9a-f]{12}", row["parameters"])
    assert len({cells[8, row]["parameters"] for n, row in paper if n == 8}) == 4  # each of its own parameters
    run_group(here, UNIT, "patches")
    publish(here.units)
    judged = {c.claim.text: c for c in collect(here).claims}
    for words in ("matching class by class", "segmenting first", "regions of any kind", "two patch encoders"):
        claim = next(c for text, c in judged.items() if text.startswith(words))
        assert claim.verdict != "not run" and {claim.winner, claim.rival} <= listed.keys(), claim
    figures = json.loads(Path("reports/figures/figures.json").read_text())
    thirteen = [f for f in figures if f["number"] == 13 and f["scope"] == "kit"]
    assert [f["file"] for f in thirteen] == ["figure_13_kit.svg", "figure_13_moved_kit.svg"]
    assert "positions-by-grid" in thirteen[0]["note"]


def test_a_variant_looks_at_what_it_changes_alone(
    here: Params, listed: dict[str, Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single encoders are in the features there are, objects come without patches, and captions are asked for once."""
    fitted = FittedUnit(UNIT, here)
    own = feature_task(here, UNIT)
    for name, variant in group_of(listed, "patches").items():
        assert look_of(fitted, params_of(name, variant, here)) == own, name
    for name in ("objects-dinov2-open", "objects-clip-grounded"):
        look = look_of(fitted, params_of(name, listed[name], here))
        assert isinstance(look, ModelFeatureTask) and look.patches == () and look.objects == name.split("-")[1]
    run_group(here, UNIT, "text")
    for model in (Qwen, T5Text, ClipText):
        monkeypatch.setattr(
            model, "ask" if model is Qwen else "encode", lambda *_: pytest.fail("a model was asked again")
        )
    more = here.model_copy(update={"evaluate": here.evaluate.model_copy(update={"seed": 3})})  # not run before
    run_group(more, UNIT, "text")


# ---- slots can be mixed


@pytest.mark.parametrize(
    "slots",
    [
        {"segment": {"grounded": {"backend": "components", "min_area": 0.005}}, "describe": {"position": "nine_grid"}},
        {
            "segment": {"open": {"backend": "regions"}},
            "finetune": {"backend": "scratch", "epochs": 1},
            "object_bank": {"encoder": "filters", "distance": "whitened"},
            "patch_bank": {"encoders": ["filters", "dinov2"], "distance": "whitened"},
            "describe": {"position": "nine_grid"},
        },
    ],
)
def test_every_slot_can_have_another_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: dict[str, object]
) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    (tmp_path / "profiles/mixed.yaml").write_text(yaml.safe_dump({"extends": "paper-tiny", **slots}))
    write_params(tmp_path, profile="mixed")
    params = load_params(Path("params.yaml"))
    run_all(params)
    assert json.loads(Path(f"artifacts/{UNIT}/metrics.json").read_text())["banks"]


# ---- models that units share


@pytest.mark.parametrize(("scope", "groups"), [("unified", ["all"]), ("individual", ["kit", "tray"])])
def test_units_share_a_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, groups: list[str]
) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    units = ("kit.small", "kit.large", "tray.one")
    profile = {"extends": "paper-tiny", "finetune": {"backend": "clip", "scope": scope}}
    (tmp_path / "profiles/shared.yaml").write_text(yaml.safe_dump(profile))
    write_params(tmp_path, units, profile="shared")
    params = load_params(Path("params.yaml"))
    for unit in units:
        run("prepare", params, unit)
        run("segment", params, unit)
    with pytest.raises(ArtifactError, match="tmuad classifiers"):
        run("finetune", params, units[0])
    result = CliRunner().invoke(app, ["classifiers"])
    assert result.exit_code == 0 and all(group in result.output for group in groups)
    stages = yaml.safe_load(Path("models/dvc.yaml").read_text())["stages"]
    assert list(stages) == [f"classifier-{g}" for g in groups]
    deps = stages[f"classifier-{groups[0]}"]["deps"]
    assert "artifacts/kit.large/segments.parquet" in deps
    assert ("artifacts/tray.one/segments.parquet" in deps) == (scope == "unified")
    for group in groups:
        run("finetune_group", params, group)
    before = digests(Path("models/classifiers"))
    assert sorted(before) == [f"{g}.safetensors" for g in groups]
    for unit in units:
        run("finetune", params, unit)
        assert Path(f"artifacts/{unit}/classifier.safetensors").stat().st_size < 2000
        run("describe", params, unit)
    run("finetune_group", params, groups[0])
    assert digests(Path("models/classifiers")) == before  # reproducible
    for command in (["init", "--no-scm", "-q"], ["plots", "show", "-o", "drawn"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True, capture_output=True)
    page = Path("drawn/index.html").read_text()
    assert all(f"curves/{group}.csv" in page for group in groups)
    assert '"held_out_loss"' in page and '"held_out_accuracy"' in page
    with pytest.raises(ParameterError, match="no group 'none'"):
        run("finetune_group", params, "none")


# ---- bad input


def test_missing_weights_end_the_first_stage_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    monkeypatch.setenv("TMUAD_WEIGHTS", str(tmp_path / "none"))
    write_params(tmp_path, profile="paper")
    with pytest.raises(
        WeightsError, match=r"groundingdino_swint_ogc.pth: no such weight file \(694 MB\).*tmuad weights pull"
    ):
        run("settings", load_params(Path("params.yaml")))
    report = json.loads(CliRunner().invoke(app, ["doctor", "--profile", "paper", "--json"]).output)
    assert not report["ready"]
    assert {row["name"] for row in report["weights"]["missing"]} >= {
        "sam-vit-h",
        "clip-vit-l-14",
        "qwen2-vl-7b-instruct",
    }
    assert all(row["bytes"] > 0 and "pull" in row["command"] for row in report["weights"]["missing"])


def test_the_papers_models_sum_to_table_xi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    report = json.loads(CliRunner().invoke(app, ["doctor", "--profile", "paper", "--json"]).output)
    assert report["parameters"]["without_vlm"] / 1e6 == pytest.approx(3449, rel=0.005)
    assert report["parameters"]["total"] / 1e6 == pytest.approx(11741, rel=0.005)
    assert report["parameters"]["loaded_once"] < report["parameters"]["total"]
    assert report["memory"]["needed_gb"].keys() == {"segment", "finetune", "encode", "vlm"}
    card = CliRunner().invoke(app, ["doctor", "--profile", "edge"]).output
    assert "not ready" in card and "tmuad weights pull dinov2-small" in card
    assert "nothing to download" in CliRunner().invoke(app, ["doctor", "--profile", "embedded"]).output


def test_no_names_for_a_segmenter_that_needs_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path))
    profile = {"extends": "paper-tiny", "segment": {"grounded": {"backend": "grounded_sam", "objects": []}}}
    (tmp_path / "profiles/nameless.yaml").write_text(yaml.safe_dump(profile))
    write_params(tmp_path, profile="nameless")
    params = load_params(Path("params.yaml"))
    run("prepare", params, UNIT)
    with pytest.raises(ParameterError, match=r"no object names to look for.*--classes"):
        run("segment", params, UNIT)
    (tmp_path / "data/catalog").mkdir(parents=True)
    (tmp_path / "data/catalog/kit.yaml").write_text("categories: {small: {objects: [washer, nut]}}")
    run("segment", params, UNIT)
    assert json.loads(Path(f"artifacts/{UNIT}/classes.json").read_text())["given"] == ["washer", "nut"]
