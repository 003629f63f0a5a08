"""The text bank with another detector: fusion, figures, files, the command, and what is refused."""

import json
import re
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from plugging import GRID, Maps, Pbas, detector_maps, files_below, image_paths, save_maps
from typer.testing import CliRunner

from tmuad import plug
from tmuad.banks.text import TextBank as TextMemory
from tmuad.cli import app
from tmuad.config import load_params
from tmuad.errors import ArtifactError, DataError, ParameterError, TmuadError
from tmuad.evaluate.image_metrics import auroc
from tmuad.plug.report import comparison_markdown, file_name, write_comparison
from tmuad.score.text import text_map, weigh

DOCS = Path(__file__).parent.parent / "docs/plug.md"
LOGICAL, STRUCTURAL = "test/logical_anomalies/00.png", "test/structural_anomalies/00.png"
GOOD = ["test/good/00.png", "test/good/01.png"]


@pytest.fixture(scope="module")
def place(tested_unit: Path) -> Path:
    return tested_unit


@pytest.fixture(scope="module")
def bank(place: Path) -> plug.TextBank:
    with chdir(place):
        bank = plug.TextBank.load("kit")
        bank.held_out()  # reads the artifacts while they can be reached
        bank.image(LOGICAL), bank.memory.classes
    return bank


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def maps(place: Path) -> Maps:
    return detector_maps(place, "validation", "test")


@pytest.fixture(scope="module")
def normals(place: Path, maps: Maps) -> Maps:
    return {path: maps[path] for path in image_paths(place, "validation")}


@pytest.fixture(scope="module")
def tested(place: Path, maps: Maps) -> Maps:
    return {path: maps[path] for path in image_paths(place, "test")}


def run(*arguments: str) -> tuple[int, str]:
    """Exit status, and what was said; a user's mistake is 1 with its message."""
    result = CliRunner().invoke(app, ["plug", "--unit", "kit", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, TmuadError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.output


# ---- fusion


def test_a_detector_that_sees_no_logic_learns_it(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    result = bank.calibrate(normals)(tested)
    alone = {path: image.alone for path, image in result.images.items()}
    both = {path: image.score for path, image in result.images.items()}
    assert alone[LOGICAL] < 1.5 < alone[STRUCTURAL]
    assert both[LOGICAL] > max(both[path] for path in GOOD) and both[STRUCTURAL] > max(both[path] for path in GOOD)
    missing = result.images[LOGICAL]
    assert missing.anomalous and not any(result.images[path].anomalous for path in GOOD)
    assert missing.shares["text"] > 0.5 > missing.shares["detector"]
    assert any(re.search(r"Expected 2 class-\d objects, found 1: 1 is missing", reason) for reason in missing.reasons)
    scratch = result.images[STRUCTURAL]
    assert scratch.shares["detector"] > 0.5 and scratch.anomalous
    assert any(reason.startswith("Unusual appearance") for reason in scratch.reasons)
    rows, columns = np.unravel_index(result.map_of(LOGICAL).argmax(), bank.shape)
    assert 10 < rows < 45 and 60 < columns < 90  # the disc at the upper right is the one that is gone


def softplus(value: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.log1p(np.exp(-np.abs(value))) + np.maximum(value, 0.0)


def test_the_fused_map_is_the_sum_of_both_excesses(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    fusion = bank.calibrate(normals, weight=1.5)
    prepared = {path: bank.map_of(bank.image(path), values).astype(np.float64) for path, values in normals.items()}
    low = min(values.min() for values in prepared.values())
    peaks = np.array([values.max() for values in prepared.values()])
    spread = max(peaks.std(ddof=1), 0.05 * (peaks.mean() - low))
    assert fusion.scale.low == pytest.approx(low) and fusion.scale.spread == pytest.approx(spread)
    image, fused = fusion.one(LOGICAL, tested[LOGICAL])
    detector = bank.map_of(bank.image(LOGICAL), tested[LOGICAL]).astype(np.float64)
    slow = softplus((detector - peaks.mean()) / spread) - softplus((low - peaks.mean()) / spread)
    said = fusion.calibration
    text = text_map(weigh(list(bank.image(LOGICAL).findings), said.reliability), bank.shape).astype(np.float64)
    centre, width = said.centre["text"], said.scale["text"]
    slow += 1.5 * (softplus((text - centre) / width) - softplus(-centre / width))
    assert np.allclose(fused, slow, rtol=1e-4, atol=1e-4)
    assert image.score == pytest.approx(slow.max(), rel=1e-4)


@settings(max_examples=10)
@given(factor=st.floats(1e-3, 1e3), offset=st.floats(-50, 50))
def test_the_units_of_a_detector_do_not_matter(
    bank: plug.TextBank, normals: Maps, tested: Maps, factor: float, offset: float
) -> None:
    plain, other = (
        bank.calibrate(normals),
        bank.calibrate({p: v.astype(float) * factor + offset for p, v in normals.items()}),
    )
    for path, values in tested.items():
        one, fused = plain.one(path, values)
        two, same = other.one(path, values.astype(float) * factor + offset)
        # float32 has 7 digits, and the offset takes some of them
        slack = 1e-3 + 1e-5 * abs(offset) / factor
        assert np.allclose(fused, same, atol=slack, rtol=slack) and one.score == pytest.approx(
            two.score, abs=slack, rel=slack
        )


def test_without_weight_or_findings_nothing_changes_places(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    fusion = bank.calibrate(normals, weight=0)
    flat = np.concatenate([bank.map_of(bank.image(path), values).ravel() for path, values in tested.items()])
    fused = np.concatenate([fusion.one(path, values)[1].ravel() for path, values in tested.items()])
    order = np.argsort(flat, kind="stable")
    assert (np.diff(fused[order]) >= -1e-6).all()
    labels = np.random.default_rng(0).random(flat.size) < 0.1
    assert auroc(fused, labels) == pytest.approx(auroc(flat, labels), abs=1e-4)  # no ties where there were none
    silent, _ = bank.calibrate(normals).one(GOOD[0], tested[GOOD[0]])
    assert silent.findings == () and silent.score == pytest.approx(
        fusion.one(GOOD[0], tested[GOOD[0]])[0].score, abs=1e-5
    )


def test_a_higher_weight_moves_what_the_text_bank_found_and_nothing_else(
    bank: plug.TextBank, normals: Maps, tested: Maps
) -> None:
    scores = [bank.calibrate(normals, weight=w).one(LOGICAL, tested[LOGICAL])[0].score for w in (0.5, 1, 2, 8)]
    assert scores == sorted(scores) and scores[-1] > 2 * scores[0]


def test_scores_of_its_own_join_without_a_map(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    own = {path: float(values.mean()) for path, values in (normals | tested).items()}
    fusion = bank.calibrate(normals, own)
    result = fusion(tested, {path: own[path] for path in tested})
    image = result.images[LOGICAL]
    assert image.alone == own[LOGICAL] and image.anomalous
    spread = fusion.score_scale
    assert spread is not None and spread.low == min(own[path] for path in normals)
    # one more step of the detector's score is a step of the joined one, whatever the map says
    higher, _ = fusion.one(LOGICAL, tested[LOGICAL], own[LOGICAL] + 3 * spread.spread)
    assert higher.score > image.score
    assert (
        result.images[GOOD[0]].p_value == (1 + sum(n >= result.images[GOOD[0]].score for n in fusion.normal_scores)) / 7
    )


def test_negative_maps_such_as_log_likelihoods(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    shifted = bank.calibrate({path: values - 100 for path, values in normals.items()})
    image, fused = shifted.one(GOOD[0], tested[GOOD[0]] - 100)
    assert np.isfinite(fused).all() and abs(image.score) < 5
    assert shifted.one(LOGICAL, tested[LOGICAL] - 100)[0].anomalous


# ---- images by other names


def test_an_image_may_be_named_by_stem_full_path_or_content(
    bank: plug.TextBank, place: Path, tmp_path: Path, normals: Maps, tested: Maps
) -> None:
    fusion = bank.calibrate(normals)
    expected = fusion.one(LOGICAL, tested[LOGICAL])[0]
    copy = tmp_path / "copy.png"
    copy.write_bytes((place / "photos" / LOGICAL).read_bytes())
    for name in ("test/logical_anomalies/00", str(place / "photos" / LOGICAL), f"photos/{LOGICAL}", str(copy)):
        assert fusion.one(name, tested[LOGICAL])[0] == expected


def test_an_image_that_the_unit_does_not_list_is_looked_at(
    bank: plug.TextBank, place: Path, tmp_path: Path, normals: Maps, tested: Maps
) -> None:
    fusion = bank.calibrate(normals)
    new = tmp_path / "new.png"
    new.write_bytes((place / "photos" / LOGICAL).read_bytes() + b"\0")  # other bytes, the same picture
    found, listed = bank.image(str(new)), bank.image(LOGICAL)
    assert (found.split, found.kind) == ("new", "unknown") and found.description.text == listed.description.text
    assert [vars(f) | {"region": None} for f in found.findings] == [vars(f) | {"region": None} for f in listed.findings]
    image, _ = fusion.one(str(new), tested[LOGICAL])
    assert image.score == pytest.approx(fusion.one(LOGICAL, tested[LOGICAL])[0].score)
    with pytest.raises(DataError, match=r"no/such\.png: neither an image of kit nor a file"):
        bank.image("no/such.png")


# ---- calibration


def test_where_the_scale_is_from_is_said(bank: plug.TextBank, place: Path, normals: Maps, tested: Maps) -> None:
    assert bank.calibrate(normals).splits == {"validation": 6}
    assert bank.calibrate(normals).remarks == (
        "6 held-out normal images cannot promise a false-alarm rate of 5.0%, only 14.3%; it takes 19",
    )
    trained = bank.calibrate(detector_maps(place, "train"))
    assert trained.splits == {"train": 8} and "detectors score those lower than new ones" in trained.remarks[0]
    two = bank.calibrate({path: tested[path] for path in GOOD})
    assert "figures on the same images flatter" in two.remarks[0] and "from 2 images alone" in two.remarks[1]
    blind = bank.calibrate(tested, unlabelled=True)
    assert "without a look at their labels" in blind.remarks[0] and blind.threshold == np.inf
    image, _ = blind.one(LOGICAL, tested[LOGICAL])
    assert not image.anomalous and image.p_value is None
    scores = [image.score for image in blind(tested).images.values()]
    assert blind(tested).images[LOGICAL].score > np.median(scores)


def test_unlabelled_images_may_be_anomalous_to_the_half(bank: plug.TextBank, tested: Maps) -> None:
    spoilt = {path: values + (1000 if "anomalies" in path else 0) for path, values in tested.items()}
    fusion, clean = bank.calibrate(spoilt, unlabelled=True), bank.calibrate(tested, unlabelled=True)
    assert fusion.scale.centre < 2 and fusion.scale.spread < 1 and clean.scale.centre < 2


def test_a_unit_without_object_classes_is_told_so(
    bank: plug.TextBank, normals: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(bank), "memory", TextMemory([], bank.shape))
    assert "kit has no object classes, so the text bank has nothing to say" in bank.calibrate(normals).remarks[0]


def test_what_no_scale_can_be_set_on(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    with pytest.raises(
        DataError, match=r"no map of a good image to calibrate a scale on; run the detector on the images"
    ):
        bank.calibrate({})
    with pytest.raises(
        DataError, match=r"logical_anomalies/00\.png: shows an anomaly, and a scale is set on good images"
    ):
        bank.calibrate(normals | {LOGICAL: tested[LOGICAL]})
    constant = {path: np.full((GRID, GRID), 0.5) for path in normals}
    with pytest.raises(DataError, match=r"the maps of the 6 good images all hold 0\.5: nothing tells how much is much"):
        bank.calibrate(constant)
    with pytest.raises(DataError, match="the scores of the 6 good images all hold 3"):
        bank.calibrate(normals, dict.fromkeys(normals, 3.0))
    with pytest.raises(DataError, match=r"00\.png: no score of this good image \(6 in all\)"):
        bank.calibrate(normals, {})
    with pytest.raises(DataError, match="a score of a good image is not finite"):
        bank.calibrate(normals, dict.fromkeys(normals, np.nan))
    for weight in (-1.0, np.nan, np.inf):
        with pytest.raises(ParameterError, match="weight: must be a number from 0 on"):
            bank.calibrate(normals, weight=weight)
    one = bank.calibrate(
        normals | {next(iter(normals)): constant[next(iter(normals))]}
    )  # a detector may be silent once
    assert one.scale.spread > 0


def test_scores_go_to_both_calls_or_to_none(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    own = dict.fromkeys(tested, 0.5)
    plain = bank.calibrate(normals)
    scored = bank.calibrate(normals, {path: float(values.mean()) for path, values in normals.items()})
    with pytest.raises(DataError, match="calibrated without scores; give scores to both calls or to none"):
        plain(tested, own)
    with pytest.raises(DataError, match="calibrated with scores, so each map needs its score"):
        scored(tested)
    with pytest.raises(DataError, match=r"a map without a score \(1 in all\)"):
        scored(tested, {path: 1.0 for path in tested if path != LOGICAL})
    with pytest.raises(DataError, match=r"x\.png: a score without a map \(1 in all\)"):
        scored(tested, own | {"x.png": 1.0})
    with pytest.raises(DataError, match="its score is nan"):
        scored(tested, own | {LOGICAL: np.nan})
    with pytest.raises(DataError, match="a second map of the image"):
        plain(tested | {"test/good/00": tested[GOOD[0]]})


# ---- figures and files


def test_the_figures_are_those_of_the_images(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    result = bank.calibrate(normals)(tested)
    comparison = result.compare("Noise")
    paths = sorted(tested)
    anomalous = np.array(["anomalies" in path for path in paths])
    for name, values in (("without", "alone"), ("with_text", "score")):
        scores = np.array([getattr(result.images[path], values) for path in paths])
        assert getattr(comparison.figure("image", "all"), name).value == pytest.approx(auroc(scores, anomalous))
    assert comparison.figure("image", "logical").with_text.value == 1.0
    pixel = comparison.figure("pixel", "logical")
    assert pixel.with_text.value > 0.9 and pixel.without.value < 0.7
    structural = comparison.figure("pixel", "structural")
    assert structural.with_text.value > structural.without.value - 0.02
    assert comparison.figure("pixel", "all").text_alone.value < comparison.figure("pixel", "all").with_text.value
    assert comparison.metrics["decision"]["detection_rate_logical"] == 1.0


def test_the_files_are_the_same_every_time(bank: plug.TextBank, tmp_path: Path, normals: Maps, tested: Maps) -> None:
    for name in ("a", "b"):
        comparison = bank.calibrate(normals)(dict(reversed(tested.items())) if name == "b" else tested).compare("Noise")
        write_comparison(comparison, tmp_path / name)
    assert list(files_below(tmp_path / "a")) == ["noise.csv", "noise.json", "noise.md"]
    for file in files_below(tmp_path / "a"):
        content = (tmp_path / "a" / file).read_bytes()
        assert content == (tmp_path / "b" / file).read_bytes() and str(tmp_path).encode() not in content
    data = json.loads((tmp_path / "a/noise.json").read_text())
    assert (
        data["method"] == "Noise" and data["weight"] == 2.0 and data["unit"] == "kit" and data["profile"] == "embedded"
    )
    assert data["images"] == {"good": 2, "logical": 1, "structural": 1}
    logical = data["figures"]["image"]["logical"]
    assert logical["with"]["auroc"] == 1.0 and set(logical) == {"without", "with", "text_alone", "difference"}
    assert logical["with"]["interval"] is None  # one image of a kind tells nothing of others
    assert (
        data["figures"]["image"]["all"]["difference"]["interval"][0]
        <= data["figures"]["image"]["all"]["difference"]["value"]
    )
    assert data["calibration"]["images"] == {"validation": 6}
    lines = (tmp_path / "a/noise.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[3].startswith(f"{LOGICAL},logical,") and "is missing" in lines[3]
    text = (tmp_path / "a/noise.md").read_text()
    assert "# Noise with and without the text bank, on kit" in text and "is missing" in text


def test_a_comparison_is_of_all_test_images(bank: plug.TextBank, normals: Maps, tested: Maps) -> None:
    some = {path: tested[path] for path in tested if path != LOGICAL}
    result = bank.calibrate(normals)(some)
    assert set(result.images) == set(some)  # new scores are had for whatever was asked
    with pytest.raises(DataError, match=r"1 test images have no map: test/logical_anomalies/00\.png"):
        result.compare("Noise")


def test_names_of_methods_become_names_of_files() -> None:
    assert file_name("PatchCore (ResNet-18)") == "patchcore-resnet-18" and file_name("UniVAD") == "univad"
    for name in ("", "../x", "/etc/x", "a/b", "a\\b", ".hidden", "a..b", "x\0", "é"):
        with pytest.raises(ParameterError, match="is no name of a method"):
            file_name(name)


# ---- the command


@pytest.fixture
def folder(tmp_path: Path, maps: Maps) -> Path:
    return save_maps(tmp_path / "noise", maps)


def test_the_command_does_what_the_calls_do(
    folder: Path, tmp_path: Path, bank: plug.TextBank, normals: Maps, tested: Maps
) -> None:
    status, said = run("--maps", str(folder), "--out", str(tmp_path / "out"), "--name", "Noise")
    assert status == 0 and "| image | logical |" in said and "note: 6 held-out normal images" in said
    write_comparison(bank.calibrate(normals)(tested).compare("Noise"), tmp_path / "calls")
    for file in ("noise.json", "noise.md", "noise.csv"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "calls" / file).read_bytes()


def test_scores_weight_and_scale_from_the_command_line(folder: Path, tmp_path: Path, maps: Maps) -> None:
    lines = [f"{path},{float(values.mean())}" for path, values in maps.items()]
    (tmp_path / "s.csv").write_text("\n".join(["path,score", *lines]))
    out = tmp_path / "out"
    assert run("--maps", str(folder), "--scores", str(tmp_path / "s.csv"), "-w", "3", "-o", str(out))[0] == 0
    data = json.loads((out / "noise.json").read_text())
    assert data["weight"] == 3.0 and data["method"] == "noise"
    status, said = run("--maps", str(folder), "--calibrate-on", "test", "-o", str(out), "-n", "Blind")
    assert status == 0 and "without a look at their labels" in said
    data = json.loads((out / "blind.json").read_text())
    assert data["decision"] == {} and data["calibration"]["images"] == {"test": 4}
    assert "no threshold was set" in (out / "blind.md").read_text()


def test_pictures_of_pbas_do_what_its_numbers_do(place: Path, tmp_path: Path, tested: Maps) -> None:
    said = {path: np.asarray(Image.fromarray(values).resize((96, 96)), np.float32) for path, values in tested.items()}
    pictures = Pbas().evaluate(tmp_path / "results/eval/mvtec_kit", place / "photos", said)
    floats = save_maps(tmp_path / "floats", said)
    found = {}
    for name, maps, source in (("PBAS", pictures, "pbas"), ("Floats", floats, "folder")):
        out = tmp_path / "out"
        status, words = run(
            "--maps", str(maps), "--from", source, "--calibrate-on", "test", "-o", str(out), "-n", name
        )  # fmt: skip
        assert status == 0, words
        found[name] = json.loads((out / f"{name.lower()}.json").read_text())
    assert any("256 levels" in remark for remark in found["PBAS"]["calibration"]["remarks"])
    for kind in ("all", "logical", "structural"):
        for side in ("without", "with"):
            one, other = (found[name]["figures"]["image"][kind][side]["auroc"] for name in found)
            assert one == pytest.approx(other), (kind, side)
    pixel = [found[name]["figures"]["pixel"]["structural"]["without"]["auroc"] for name in found]
    assert pixel[0] == pytest.approx(pixel[1], abs=0.03)


def test_a_run_of_univad_is_plugged_with_its_scores(tmp_path: Path, tested: Maps) -> None:
    home = tmp_path / "run/photos/anomaly_maps"
    home.mkdir(parents=True)
    table = ["class_name,subfolder,filename,anomaly_score,gt_label"]
    for path, values in tested.items():
        _, defect, name = path.split("/")
        np.save(home / f"{defect}_{Path(name).stem}.npy", values[None, None])
        table.append(f"photos,{defect},{name},{float(values.max())},0")
    (tmp_path / "run/detailed_results.csv").write_text("\n".join(table))
    where = ["--maps", str(tmp_path / "run"), "--from", "univad", "-o", str(tmp_path / "out"), "-n", "UniVAD"]
    status, words = run(*where, "--calibrate-on", "test")
    assert status == 0, words
    logical = json.loads((tmp_path / "out/univad.json").read_text())["figures"]["image"]["logical"]
    assert logical["with"]["auroc"] == 1 and logical["with"]["auroc"] >= logical["without"]["auroc"]
    status, words = run(*where)  # it keeps test images alone
    assert status == 1 and "no maps of validation or training images" in words


def test_results_lie_in_reports_by_default(folder: Path, place: Path) -> None:
    assert run("--maps", str(folder))[0] == 0
    assert list(files_below(place / "reports/plug/kit")) == ["noise.csv", "noise.json", "noise.md"]


def test_bad_input_is_named_and_nothing_is_written(folder: Path, tmp_path: Path, maps: Maps) -> None:
    out = tmp_path / "out"

    def refused(words: str, *arguments: str) -> None:
        status, said = run("--maps", str(folder), "--out", str(out), *arguments)
        assert status == 1 and re.search(words, said), said
        assert not out.exists()

    def spoilt(words: str, path: str, array: NDArray[np.generic]) -> None:
        file = (folder / path).with_suffix(".npy")
        before = file.read_bytes()
        np.save(file, array, allow_pickle=True)
        refused(words, "--name", "x")
        file.write_bytes(before)

    spoilt(r"nan at row 1, column 2", LOGICAL, np.where(np.arange(16).reshape(4, 4) == 6, np.nan, 0))
    spoilt("3 x 8 x 8, but a map has", LOGICAL, np.zeros((3, 8, 8)))
    spoilt("20 x 8, but its image is 96 x 96", LOGICAL, np.zeros((8, 20)))
    spoilt("pickled objects", LOGICAL, np.array([{}], dtype=object))
    spoilt("nan at row 0", "validation/good/00.png", np.full((4, 4), np.nan))
    status, said = run("--scores", "scores.csv")
    assert status == 2 and "--maps" in said  # scores without maps
    refused("is no name of a method", "--name", "../../etc/passwd")
    refused("weight: must be", "--weight", "-2")
    refused("no maps of train images", "--calibrate-on", "train")
    (tmp_path / "s.csv").write_text("path,score\ntest/good/00.png,1\n")
    refused("maps without scores: test/good/01.png", "--scores", str(tmp_path / "s.csv"))
    every = "\n".join(["path,score", *(f"{path},1.{i}" for i, path in enumerate(maps)), "train/good/00.png,1"])
    (tmp_path / "s.csv").write_text(every)
    refused("scores without maps: train/good/00.png", "--scores", str(tmp_path / "s.csv"))
    (folder / "test/good/99.npy").write_bytes((folder / "test/good/00.npy").read_bytes())
    refused(r"1 maps belong to no image of kit: test/good/99\.npy")
    (folder / "test/good/99.npy").unlink()
    (folder / "test/good/01.npy").unlink()
    refused(r"1 of 4 test images of kit have no map: test/good/01\.png")
    save_maps(folder, maps)
    for file in (folder / "validation/good").iterdir():
        file.unlink()
    refused(r"no maps of validation or training images.*--calibrate-on test")
    constant = {path: np.full((4, 4), 0.25, np.float32) for path in maps}
    save_maps(folder, constant)
    refused("all hold 0.25: nothing tells how much is much")


def test_a_unit_without_a_text_bank(folder: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="unknown unit 'kitt'"):
        plug.TextBank.load("kitt")
    (tmp_path / "params.yaml").write_bytes((place / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    status, said = run("--maps", str(folder), "--out", "out")
    assert status == 1 and "kit: no text bank yet" in said and "run: dvc repro score@kit" in said
    assert not (tmp_path / "out").exists()


def test_another_size_than_the_bank_was_fitted_with(bank: plug.TextBank) -> None:
    params = load_params(Path("params.yaml"))
    other = params.model_copy(update={"data": params.data.model_copy(update={"size": 128})})
    with pytest.raises(ArtifactError, match=r"fitted with another data\.size"):
        plug.TextBank.load("kit", other)


# ---- the documentation


def test_the_example_of_the_documentation_runs(tmp_path: Path, maps: Maps) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    example = next(block for block in blocks if "TextBank.load" in block and "anomalib" not in block)
    scope: dict[str, object] = {"my_detector": lambda path: maps[path.relative_to("photos").as_posix()]}
    exec(compile(example, str(DOCS), "exec"), scope)
    assert scope["result"].images[LOGICAL].anomalous  # type: ignore[attr-defined]
    assert replace(scope["fusion"], weight=0).weight == 0  # type: ignore[type-var]
    assert "| image | logical |" in comparison_markdown(scope["comparison"])  # type: ignore[arg-type]
