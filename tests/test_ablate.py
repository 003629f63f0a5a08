"""Variants on a small fitted unit: each is what a fit from the start would give, and pays for what it changes alone."""

import json
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from fits import Bench, data_set
from hypothesis import given
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing
from typer.testing import CliRunner

from tmuad import engine
from tmuad.ablate import run as ablation
from tmuad.ablate.captions import NAMES, image_words, segment_words
from tmuad.ablate.encoded import novelty
from tmuad.ablate.moved import STEPS, moved_cells, moved_key
from tmuad.ablate.publish import publish
from tmuad.ablate.rescore import FittedUnit, rescore
from tmuad.ablate.run import run_group, run_one, run_variants
from tmuad.ablate.store import Results, inputs_of, is_current, parameters_digest, read_results, write_results
from tmuad.ablate.variants import VARIANTS, load_variants, params_of
from tmuad.banks.slots import load_object_bank, load_patch_bank
from tmuad.banks.text import TextBank
from tmuad.cli import app
from tmuad.color import rgb_to_lab
from tmuad.config import TextScoreParams, load_params
from tmuad.describe.description import describe
from tmuad.describe.placing import place
from tmuad.describe.table import read_descriptions
from tmuad.encode.filters import object_channels
from tmuad.errors import ArtifactError, ClusterError, ParameterError, WeightsError
from tmuad.evaluate.bootstrap import Bootstrap, image_weights
from tmuad.parquet import read_parquet
from tmuad.score.table import read_results as read_bank_results
from tmuad.score.text import find_differences
from tmuad.stages.__main__ import PER_UNIT, main
from tmuad.workspace import UnitPaths

PROJECT = Path(__file__).parent.parent
UNIT = "demo.kit"
LIST = """
banks:
  one: {about: x, banks: [text]}
  two: {about: x, banks: [objects, patches]}
  all: {about: x}
  eq: {about: x, change: {fuse: {method: paper}}}
text:
  words: {about: x, banks: [text], encoded: {of: image, by: words}}
  segments: {about: x, banks: [text], encoded: {of: segments, by: phrases}}
  classes: {about: x, banks: [text], encoded: {of: classes, by: phrases}}
  match: {about: x, banks: [text]}
  said: {about: x, figure: 13, banks: [text], change: {text_score: {position: words}}}
  placed: {about: x, figure: 13, banks: [text], change: {text_score: {position: places}}}
objects:
  open: {about: x, banks: [objects], change: {object_bank: {segments: open}}}
  colour: {about: x, banks: [objects], change: {object_bank: {channels: colour}}}
patches:
  fine: {about: x, banks: [patches], change: {patch_bank: {layers: [detail], detector: false}}}
clusters:
  k5: {about: x, change: {patch_bank: {clusters: 5}}}
  k10: {about: x, change: {patch_bank: {clusters: 10}}}
shots:
  strict: {about: x, seeds: [0, 1], change: {data: {shots: 4}, text_score: {matching: strict}}}
  relaxed: {about: x, seeds: [0, 1], change: {data: {shots: 4}, text_score: {matching: relaxed}}}
cost:
  cost: {about: x}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted and evaluated unit with both kinds of anomalies, and a list of variants; no test may change it."""
    place = tmp_path_factory.mktemp("ablated")
    data_set(place / "photos", train=8, validation=4)
    (place / VARIANTS).write_text(LIST)
    Bench(place, None).params({UNIT: {"root": "photos", "layout": "mvtec_loco"}}, {"evaluate": {"resamples": 20}})
    with chdir(place), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        for stage, *unit in (("settings",), *((stage, UNIT) for stage in PER_UNIT)):
            assert main([stage, *unit]) == 0, said.getvalue()
    return place


def change(place: Path, section: str, **values: object) -> None:
    content = yaml.safe_load((place / "params.yaml").read_text())
    content[section] = content.get(section, {}) | values
    (place / "params.yaml").write_text(yaml.safe_dump(content))


def cells_of(name: str):
    return run_one(load_params(Path("params.yaml")), UNIT, name).cells


def metric(*keys: str) -> float:
    value = json.loads(UnitPaths(UNIT).metrics.read_text())
    for key in keys:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("name", "place"), [("one", ("banks", "text")), ("two", ("banks", "objects+patches")), ("all", ())]
)
def test_subsets_of_banks_score_as_the_units_own_evaluation_does(here: Path, name: str, place: tuple[str, ...]) -> None:
    cells = cells_of(name)
    for figure in ("auroc", "auroc_logical", "auroc_structural", "average"):
        assert cells["image", figure].value == pytest.approx(metric(*place, "image", figure))
        if name != "two":  # pairs have no pixel figures of their own there
            assert cells["pixel", figure].value == pytest.approx(metric(*place, "pixel", figure), abs=1e-5)
    assert len(cells["image", "auroc"].replicates) == 21


def test_positions_under_a_moved_camera_are_counted(here: Path) -> None:
    """Against a slow count on descriptions of moved masks' centres; without a move it is what the stages found."""
    assert moved_key(0) not in cells_of("match")  # the same parameters, and no part of figure 13
    fitted = FittedUnit(UNIT, load_params(Path("params.yaml")))
    good = fitted.manifest.query("split == 'test' and kind == 'good'")["image_id"].tolist()
    bank = TextBank(read_descriptions(read_parquet(fitted.paths.text_entries)), (fitted.params.data.size,) * 2)
    for name, way in (("said", "words"), ("placed", "places")):
        cells = cells_of(name)
        params = fitted.params.text_score.model_copy(update={"position": way})
        rescored = rescore(fitted, params_of(name, load_variants()[name], fitted.params))
        still = [not any(f.attribute == "position" for f in r.findings) for r in rescored.results if r.image_id in good]
        assert cells[moved_key(0)].value == pytest.approx(np.mean(still)) and len(cells[moved_key(0)].replicates) == 21
        for step in STEPS[1:]:
            right = []
            for image_id in good:
                for side in ((step, 0), (-step, 0), (0, step), (0, -step)):
                    objects = [
                        replace(
                            o, x=float(np.clip(o.x + side[0] / 100, 0, 1)), y=float(np.clip(o.y + side[1] / 100, 0, 1))
                        )
                        for o in fitted.descriptions[image_id].objects
                    ]
                    findings, _ = find_differences(describe(image_id, objects), bank, params)
                    right.append(not any(f.attribute == "position" for f in findings))
            assert cells[moved_key(step)].value == pytest.approx(np.mean(right))


def test_the_share_of_good_images_follows_the_draws_and_far_moves_are_wrong() -> None:
    normal = [scene(i, thing("screw", 0.2, 0.5), thing("lens", 0.8, 0.5)) for i in range(6)]
    asked = {"a": scene(7, thing("screw", 0.2, 0.5), thing("lens", 0.8, 0.5)), "b": scene(8, thing("screw", 0.32, 0.5))}
    bank, bootstrap = TextBank(normal, SHAPE), Bootstrap(50, 0)
    words = moved_cells(["a", "b"], asked, bank, TextScoreParams(position="words"), bootstrap)
    places = moved_cells(["a", "b"], asked, bank, TextScoreParams(position="places"), bootstrap)
    assert words[moved_key(0)].value == 1 and places[moved_key(0)].value == 0.5  # 0.32 is left, but no normal place
    assert words[moved_key(2)].value == 1 - 0.25 / 2  # of b's four moves the one to the right leaves its cell
    assert places[moved_key(6)].value < words[moved_key(6)].value
    weights = image_weights(["a", "b"], bootstrap)
    for draw, (a, b) in zip(words[moved_key(2)].replicates, weights.T, strict=True):
        assert draw == pytest.approx((a + 0.75 * b) / (a + b)) if a + b else np.isnan(draw)
    assert moved_cells([], asked, bank, TextScoreParams(), bootstrap) == {}
    said, _ = place([asked["a"]], {("image-7", "screw"): ["left"]}, {})
    told = {"a": said[0]}
    assert list(moved_cells(["a"], told, bank, TextScoreParams(position="words"), bootstrap)) == [moved_key(0)]
    assert len(moved_cells(["a"], told, bank, TextScoreParams(position="places"), bootstrap)) == len(STEPS)


def test_another_fusion_is_what_the_stages_give_under_it(own: Path) -> None:
    found = cells_of("eq")["image", "auroc"].value
    change(own, "fuse", method="paper")
    for stage in ("fuse", "evaluate"):
        assert main([stage, UNIT]) == 0
    assert found == pytest.approx(metric("image", "auroc"))


@pytest.mark.parametrize(
    ("name", "section", "values"),
    [
        ("k5", "patch_bank", {"clusters": 5}),
        ("fine", "patch_bank", {"layers": ["detail"], "detector": False}),
        ("open", "object_bank", {"segments": "open"}),
        ("colour", "object_bank", {"channels": "colour"}),
    ],
)
def test_a_bank_of_a_variant_is_the_one_of_a_fit_from_the_start(
    own: Path, name: str, section: str, values: dict
) -> None:
    params = load_params(Path("params.yaml"))
    variant = load_variants()[name]
    rescored = rescore(FittedUnit(UNIT, params), params_of(name, variant, params))
    change(own, section, **values)
    for stage in ("feature_banks", "score"):
        assert main([stage, UNIT]) == 0
    paths = UnitPaths(UNIT)
    fitted = read_bank_results(read_parquet(paths.bank_scores), read_parquet(paths.bank_findings))
    assert [r.image_id for r in rescored.results] == [r.image_id for r in fitted]
    for ours, theirs in zip(rescored.results, fitted, strict=True):
        np.testing.assert_allclose(ours.patch_distance, theirs.patch_distance, atol=1e-4)
        np.testing.assert_allclose(ours.region_distance, theirs.region_distance, atol=1e-4)
        assert len(ours.regions) == len(theirs.regions)
        assert [vars(f).keys() for f in ours.findings] == [vars(f).keys() for f in theirs.findings]


def test_a_variant_encodes_and_segments_nothing_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image of the unit is in the cache: no variant of a bank looks at a pixel."""
    monkeypatch.setattr(engine, "load_image", lambda *_: pytest.fail("an image was read"))
    params, listed = load_params(Path("params.yaml")), load_variants()
    for group in ("objects", "patches", "clusters"):
        chosen = {name: variant for name, variant in listed.items() if variant.group == group}
        assert len(run_variants(params, UNIT, chosen, inputs_of(UNIT, group))) == len(chosen)


def test_a_bank_of_some_channels_is_blind_to_the_others(own: Path) -> None:
    change(own, "object_bank", channels="colour")
    assert main(["feature_banks", UNIT]) == 0
    bank = load_object_bank(UnitPaths(UNIT).object_bank)
    kept = object_channels("colour")
    assert 0 < kept.sum() < kept.size
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, kept.size)).astype(np.float32)
    other = np.where(kept, features, rng.normal(size=features.shape)).astype(np.float32)
    for name, group in bank.groups.items():
        np.testing.assert_array_equal(bank.distances([name] * 5, features), bank.distances([name] * 5, other))
        seen = features + np.where(kept, np.float32(3) / group.scale, 0)
        assert not np.allclose(group.distances(features), group.distances(seen.astype(np.float32)))


def test_an_unknown_layer_names_those_there_are(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(own, "patch_bank", layers=["detial"])
    assert main(["feature_banks", UNIT]) == 1
    assert "patch_bank.layers: no layer detial; the encoders have: detail, surface" in capsys.readouterr().err


def test_few_shot_variants_are_real_fits_and_share_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    real = ablation.refitted
    monkeypatch.setattr(ablation, "refitted", lambda unit, params: fits.append(params) or real(unit, params))
    params, listed = load_params(Path("params.yaml")), load_variants()
    params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"seed": 5})})  # not run before
    chosen = {name: listed[name] for name in ("strict", "relaxed")}
    before = sorted(p.name for p in here.rglob("*.parquet"))
    outcomes = run_variants(params, UNIT, chosen, inputs_of(UNIT, "shots"))
    assert [(fit.data.shots, fit.data.shots_seed) for fit in fits] == [(4, 0), (4, 1)]  # strict and relaxed alike
    for outcome in outcomes.values():
        assert outcome.measured["runs"] == 2
        assert outcome.measured["lowest"] <= outcome.cells["image", "auroc"].value <= outcome.measured["highest"]
    assert Path.cwd() == here and sorted(p.name for p in here.rglob("*.parquet")) == before


def test_what_did_not_change_is_not_run_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(Path("params.yaml"))
    run_group(params, UNIT, "clusters")
    ran: list[str] = []
    real = ablation._alone
    monkeypatch.setattr(ablation, "_alone", lambda f, name, v: ran.append(name) or real(f, name, v))
    first = read_results(UNIT, "clusters", Path("ablations/runs"))
    path = own / VARIANTS
    path.write_text(path.read_text().replace("clusters: 10", "clusters: 11"))
    run_group(params, UNIT, "clusters")
    assert ran == ["k10"]
    again = read_results(UNIT, "clusters", Path("ablations/runs"))
    assert first and again and again.outcomes["k5"].measured == first.outcomes["k5"].measured
    for key, cell in first.outcomes["k5"].cells.items():
        np.testing.assert_array_equal(cell.replicates, again.outcomes["k5"].cells[key].replicates)


def test_cost_names_every_stage_and_some_memory(here: Path) -> None:
    measured = run_one(load_params(Path("params.yaml")), UNIT, "cost").measured
    assert all(measured[f"seconds {stage}"] > 0 for stage in ("read", "segment", "encode", "patch bank", "fuse"))
    assert measured["megabytes"] > 50
    paths = UnitPaths(UNIT)
    bank = load_patch_bank(paths.patch_bank)
    assert measured["numbers"] > sum(layer.centroids.size for layer in bank.model.layers.values())


# --- what is written


@pytest.mark.parametrize("group", ["clusters", "banks"])
def test_a_list_that_asks_for_missing_weights_writes_nothing(
    own: Path, group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMUAD_WEIGHTS", str(own / "none"))
    text = LIST.replace(
        "patches:\n", "patches:\n  dino: {about: x, banks: [patches], change: {patch_bank: {encoders: [dinov2]}}}\n"
    )
    (own / VARIANTS).write_text(text)
    with pytest.raises(WeightsError, match="variant 'dino' asks for a model that is not there"):
        run_group(load_params(Path("params.yaml")), UNIT, group)
    assert not (own / "ablations").exists()


def test_results_come_back_as_they_were_and_know_what_they_are_of(own: Path) -> None:
    params = load_params(Path("params.yaml"))
    run_group(params, UNIT, "text")
    results = read_results(UNIT, "text", Path("ablations/runs"))
    assert results is not None and list(results.outcomes) == sorted(
        ["words", "segments", "classes", "match", "said", "placed"]
    )
    assert is_current(results, inputs_of(UNIT, "text"))
    written = {p.name: p.read_bytes() for p in Path("ablations/runs", UNIT).iterdir()}
    write_results(results, Path("again"))
    assert {p.name: p.read_bytes() for p in Path("again", UNIT).iterdir()} == written
    assert read_results(UNIT, "text", Path("elsewhere")) is None
    change(own, "text_score", undercount="paper")
    assert main(["settings"]) == 0
    assert not is_current(results, inputs_of(UNIT, "text"))
    assert is_current(Results(UNIT, "banks", "", inputs_of(UNIT, "banks"), {}), inputs_of(UNIT, "banks"))
    Path("ablations/runs", UNIT, "text.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"text\.json: not readable.*make tables"):
        read_results(UNIT, "text", Path("ablations/runs"))


def test_publishing_hands_over_what_is_there_and_takes_back_the_rest(tmp_path: Path) -> None:
    runs, results, index = (tmp_path / name for name in ("runs", "results", "index.csv"))
    write_results(Results("a.b", "text", "embedded", {}, {}), runs)
    write_results(Results("a.c", "text", "embedded", {}, {}), runs)
    (results / "README.md").parent.mkdir()
    (results / "README.md").write_text("kept")
    publish(["a.c", "a.b"], runs, results, index)
    assert sorted(p.relative_to(results).as_posix() for p in results.rglob("*.json")) == [
        "a.b/text.json",
        "a.c/text.json",
    ]
    assert index.read_text().count("\n") == 3
    publish(["a.b"], runs, results, index)
    assert not (results / "a.c").exists() and (results / "README.md").exists() and (results / "a.b/text.json").exists()


def test_the_commands_list_and_run_a_variant(here: Path) -> None:
    listed = CliRunner().invoke(app, ["variants"])
    assert listed.exit_code == 0 and "k5" in listed.output
    ran = CliRunner().invoke(app, ["ablate", "match", "--unit", UNIT])
    assert ran.exit_code == 0 and "image auroc_logical" in ran.output
    wrong = CliRunner().invoke(app, ["ablate", "matsch", "--unit", UNIT])
    assert isinstance(wrong.exception, ParameterError) and "did you mean 'match'" in str(wrong.exception)


def test_a_variant_is_computed_by_the_executor_that_is_set(own: Path) -> None:
    """A cluster that nobody can reach is asked for what the cache lacks, and for nothing that it has."""
    params = load_params(Path("params.yaml"))
    cluster = {"executor": "ray", "ray": {"address": "127.0.0.1:1", "timeout": 3}}
    (own / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load((own / "params.yaml").read_text()) | cluster))
    there = load_params(Path("params.yaml"))
    assert parameters_digest(there) == parameters_digest(params)  # who computes changes no result
    run_one(there, UNIT, "match")
    change(own, "data", cache="empty")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
        run_one(load_params(Path("params.yaml")), UNIT, "colour")


# --- texts as vectors


WORDS = st.lists(st.sampled_from(["1", "2", "class-1", "class-2", "left", "right"]), min_size=1, max_size=6).map(
    " ".join
)


@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["words", "phrases"]))
def test_a_text_of_the_bank_is_no_news_and_a_strange_one_is(texts: list[str], by: str) -> None:
    scores = novelty(texts, [*texts, "quite another thing"], by)
    assert np.allclose(scores[:-1], 0, atol=1e-9) and scores[-1] == 1


def test_phrases_know_which_number_belongs_to_which_class_and_words_do_not() -> None:
    normal, swapped = ["2 class-1 at left; 3 class-2 at right"], ["3 class-1 at left; 2 class-2 at right"]
    assert novelty(normal, swapped, "words")[0] == pytest.approx(0)
    assert novelty(normal, swapped, "phrases")[0] > 0.1


def test_a_bank_without_words_finds_every_word_new() -> None:
    assert novelty(["", ""], ["", "a bolt"], "words").tolist() == [0.0, 1.0]


def test_captions_name_colours_sizes_and_forms() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    image[10:14, 8:56] = (200, 20, 20)
    lab = rgb_to_lab(image)
    assert image_words(lab).startswith("mostly grey, a little red")
    mask = np.zeros((64, 64), bool)
    mask[10:14, 8:56] = True
    assert segment_words(lab, mask) == "large red lying solid"
    assert segment_words(lab, np.zeros_like(mask)) == ""
    assert len(set(NAMES)) == len(NAMES)
