"""Bad input through the stages and through `tmuad score`: each gets a clear error or a reported decision."""

import json
import shutil
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fits import SIZE, Bench, data_set, folder, kit, read_only, save
from typer.testing import CliRunner

from tmuad.cli import app
from tmuad.errors import ArtifactError, DataError, ImageError, ParameterError, TmuadError
from tmuad.stages.__main__ import GLOBAL, PER_UNIT

FOLDER = {"kit": {"root": "photos", "layout": "folder"}}
LOCO = {"kit": {"root": "set", "layout": "mvtec_loco"}}
SKIP = {"data": {"on_bad_image": "skip"}}


@cache
def huge_png() -> bytes:
    """20,000 x 20,000 pixels of one colour, in 60 kB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501) * 20_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def unusable(name: str, place: Path) -> Path:
    """A file that no image can be read from."""
    path = save(place / f"{name}.png", kit(900))
    whole = path.read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not an image", "huge": huge_png()}
    if name == "one-pixel":
        save(path, np.zeros((1, 1, 3), dtype=np.uint8))
    else:
        path.write_bytes(content[name])
    return path


UNUSABLE = {
    "truncated": "damaged or truncated",
    "empty": "the file is empty (0 bytes)",
    "text": "not a PNG, JPEG, BMP or TIFF image",
    "one-pixel": "at least 16 a side are needed",
    "huge": "400,000,000 pixels, more than data.max_pixels = 200,000,000",
}
BLANK = {"black": (0, 0, 0), "white": (255, 255, 255), "red": (200, 30, 20)}


def blank(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), colour, dtype=np.uint8)


def cli(bench: Bench, *arguments: str) -> tuple[int, list[dict], str]:  # type: ignore[type-arg]
    """(exit status, JSON objects printed, error) of the command line."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit | TmuadError):
        raise result.exception
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    error = str(result.exception) if isinstance(result.exception, TmuadError) else ""
    return 1 if error else result.exit_code, lines, error


# --- unreadable images


def test_unreadable_training_images_stop_the_run_and_each_is_named(bench: Bench) -> None:
    folder(bench.place / "photos")
    paths = [unusable(name, bench.place / "photos") for name in UNUSABLE]
    bench.params(FOLDER)
    status, _, err = bench.stage("prepare", "kit")
    assert status == 1
    for path, words in zip(paths, UNUSABLE.values(), strict=True):
        [line] = [line for line in err.splitlines() if path.name in line]
        assert words in line
    assert "data.on_bad_image: skip" in err
    assert not (bench.place / "artifacts").exists()


def test_skipped_images_are_listed_in_the_report_and_the_rest_is_fitted(bench: Bench) -> None:
    data_set(bench.place / "set")
    names = [
        unusable(n, bench.place / "set" / split / "good") for n, split in zip(UNUSABLE, 5 * ["train"], strict=True)
    ]
    names.append(unusable("truncated", bench.place / "set/test/good"))
    bench.params(LOCO, SKIP)
    said = bench.fit()
    report = bench.report()
    listed = (bench.place / "artifacts/kit/problems.csv").read_text()
    for path in names:
        relative = path.relative_to(bench.place / "set").as_posix()
        assert relative in said and f"| kit | {relative} |" in report and f"{relative}," in listed
    for words in UNUSABLE.values():
        assert words in report
    assert report.count("| skipped |") == 6
    assert len(pq.read_table(bench.place / "artifacts/kit/manifest.parquet")) == 8 + 4 + 4
    assert "skipped" in (bench.place / "reports/index.html").read_text()
    assert str(bench.place) not in report + listed


def test_images_of_a_single_colour_are_used_and_reported(bench: Bench) -> None:
    root = folder(bench.place / "photos")
    for name, colour in BLANK.items():
        save(root / f"{name}.png", blank(colour))
    bench.params(FOLDER)
    said = bench.fit()
    for name in BLANK:
        assert f"{name}.png: an image of a single colour; used; remove it if the camera failed" in said
    report = bench.report()
    assert report.count("an image of a single colour") == 3


def test_nothing_but_black_images_is_a_unit_without_objects(bench: Bench) -> None:
    for i in range(4):  # no two alike, or they would be one
        save(bench.place / f"photos/{i}.png", blank((i // 2, i % 2, 0)))
    bench.params(FOLDER)
    bench.fit()
    bench.report()
    status, [odd, same], _ = cli(
        bench, "score", "-u", "kit", "--json", str(save(Path("odd.png"), kit(5))), "photos/0.png"
    )
    assert status == 0
    assert odd["score"] > same["score"] and odd["verdict"] == "anomalous" and odd["reasons"]


# --- scoring


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unreadable_image_ends_the_scoring_or_is_skipped_as_asked(scoring: Bench, tmp_path: Path, name: str) -> None:
    save(tmp_path / "a.png", kit(50))
    bad = unusable(name, tmp_path)
    save(tmp_path / "z.png", kit(51))
    status, seen, error = cli(
        scoring, "score", str(tmp_path), "--unit", "kit", "--json", "--out", str(tmp_path / "out")
    )
    assert status == 1 and [Path(o["image"]).name for o in seen] == ["a.png"]
    assert error.startswith(f"{bad}: ") and UNUSABLE[name] in error
    asked = ("score", str(tmp_path), "-u", "kit", "--json", "--out", str(tmp_path / "out"), "--on-bad-image", "skip")
    status, seen, _ = cli(scoring, *asked)
    assert status == 1, "a skipped image must show in the exit status"
    assert [Path(o["image"]).name for o in seen if "verdict" in o] == ["a.png", "z.png"]
    [skipped] = [o for o in seen if "error" in o]
    assert skipped["image"] == str(bad) and UNUSABLE[name] in skipped["error"]


@pytest.mark.parametrize("name", BLANK)
def test_an_image_of_a_single_colour_is_anomalous_for_a_reason(scoring: Bench, tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "blank.png", blank(BLANK[name]))
    status, [outcome], _ = cli(scoring, "score", str(path), "-u", "kit", "--json", "--check", "--out", str(tmp_path))
    assert status == 3 and outcome["verdict"] == "anomalous"
    assert {r["attribute"] for r in outcome["reasons"]} & {"missing", "appearance"}


def test_folders_names_and_units_that_are_not_there(scoring: Bench, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for path, words in ((tmp_path / "gone", "no such file or folder"), (tmp_path / "none", "no image in this folder")):
        status, _, error = cli(scoring, "score", str(path), "-u", "kit")
        assert status == 1 and error.startswith(f"{path}: ") and words in error
    status, _, error = cli(scoring, "score", "photos", "-u", "kitt")
    assert status == 1 and "unknown unit 'kitt'" in error and "Did you mean 'kit'?" in error


def test_heat_maps_in_a_read_only_folder(scoring: Bench, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", kit(50))
    out = tmp_path / "out"
    out.mkdir()
    with read_only(out):
        for target in (out, out / "below"):
            with pytest.raises(ArtifactError, match=rf"{target}.*cannot be written.*--out"):
                list(_outcomes(path, target))


def _outcomes(path: Path, out: Path) -> list[dict]:  # type: ignore[type-arg]
    from tmuad.config import load_params
    from tmuad.scoring import score_files

    return list(score_files([path], "kit", load_params(Path("params.yaml")), out, "stop"))


def test_a_fitted_unit_in_a_read_only_folder_still_scores(scoring: Bench, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", kit(50))
    with read_only(scoring.place):
        [outcome] = _outcomes(path, tmp_path / "out")
    assert outcome["verdict"] in ("good", "anomalous")


def test_a_damaged_artifact_is_named_with_the_remedy(scoring: Bench, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", kit(50))
    for name in (
        "calibration.json", "classes.json", "classifier.safetensors", "text_entries.parquet", "object_bank.safetensors",
        "patch_bank.safetensors",
    ):  # fmt: skip
        artifact = scoring.place / "artifacts/kit" / name
        whole = artifact.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], None):
            artifact.unlink() if damaged is None else artifact.write_bytes(damaged)
            try:
                with pytest.raises(ArtifactError, match=name.replace(".", r"\.")) as caught:
                    _outcomes(path, tmp_path / "out")
                assert "stage" in str(caught.value) or "dvc repro" in str(caught.value)
            finally:
                artifact.write_bytes(whole)


# --- masks and splits


def test_a_mask_of_another_size_stops_the_run_or_its_image_is_skipped(bench: Bench) -> None:
    data_set(bench.place / "set")
    mask = save(
        bench.place / "set/ground_truth/logical_anomalies/00/000.png", np.full((SIZE, 2 * SIZE), 255, dtype=np.uint8)
    )
    bench.params(LOCO)
    status, _, err = bench.stage("prepare", "kit")
    assert status == 1
    assert str(mask.relative_to(bench.place)) in err and f"the mask has {2 * SIZE} x {SIZE} pixels" in err
    bench.params(LOCO, SKIP)
    bench.fit()
    assert f"the mask has {2 * SIZE} x {SIZE} pixels" in bench.report()
    metrics = json.loads((bench.place / "artifacts/kit/metrics.json").read_text())
    assert metrics["counts"] == {"good": 2, "logical": 0, "structural": 1}
    assert metrics["image"]["auroc_logical"] is None and metrics["image"]["auroc_structural"] is not None


def test_a_mask_without_an_image_and_an_image_without_a_mask(bench: Bench) -> None:
    root = data_set(bench.place / "set")
    orphan = save(root / "ground_truth/logical_anomalies/07/000.png", np.full((SIZE, SIZE), 255, dtype=np.uint8))
    save(root / "test/structural_anomalies/01.png", kit(400))
    bench.params(LOCO)
    bench.fit()
    report = bench.report()
    assert f"{orphan.relative_to(root).as_posix()} | a mask without an image" in report
    assert "test/structural_anomalies/01.png | an image of a defect without a mask" in report
    metrics = json.loads((bench.place / "artifacts/kit/metrics.json").read_text())
    assert metrics["counts"]["structural"] == 2
    assert any(r["metric"] == "pixel" and "01.png" in r["reason"] for r in metrics["reasons"])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_empty_split_is_reported_and_the_unit_fitted(bench: Bench, split: str) -> None:
    root = data_set(bench.place / "set")
    shutil.rmtree(root / split)
    (root / split / "good").mkdir(parents=True)
    bench.params(LOCO)
    bench.fit()
    assert f"| kit | {split} | an empty split |" in bench.report()
    metrics = json.loads((bench.place / "artifacts/kit/metrics.json").read_text())
    if split == "test":
        assert metrics["image"]["auroc"] is None and metrics["counts"] == {"good": 0, "logical": 0, "structural": 0}
        assert all(entry["reason"] for entry in metrics["reasons"])
    else:
        assert metrics["image"]["auroc"] is not None
        assert metrics["decision"]["normals"] >= 1


@pytest.mark.parametrize("layout", ["mvtec_loco", "folder"])
def test_an_empty_training_split_is_an_error(bench: Bench, layout: str) -> None:
    place = bench.place / "set"
    (place / "train/good").mkdir(parents=True)
    bench.params({"kit": {"root": "set", "layout": layout}})
    status, _, err = bench.stage("prepare", "kit")
    assert status == 1 and "no training image; put photographs of good parts there" in err


@pytest.mark.parametrize("images", [1, 2])
def test_one_or_two_training_images_are_enough_to_score_and_say_so(bench: Bench, images: int) -> None:
    folder(bench.place / "photos", images)
    bench.params(FOLDER)
    said = bench.fit()
    assert "one training image; used; whatever differs from it will look anomalous" in said
    report = bench.report()
    assert f"{'no' if images == 1 else 'only 1'} normal images to calibrate on" in report
    status, [good, bad], _ = cli(
        bench, "score", "-u", "kit", "--json", "photos/00.png", str(save(Path("bad.png"), kit(3, discs=0)))
    )
    assert status == 0
    assert (good["threshold"] is None) == (images == 1)
    assert bad["score"] > good["score"]


# --- parameters


def test_two_units_of_one_name(bench: Bench) -> None:
    folder(bench.place / "photos")
    bench.params(FOLDER)
    text = Path("params.yaml").read_text().replace("  kit:", "  kit:\n    root: a\n    layout: folder\n  kit:")
    Path("params.yaml").write_text(text)
    status, _, err = bench.stage("prepare", "kit")
    assert status == 1 and "the key 'kit' stands twice; rename or remove one of the two" in err
    bench.params(FOLDER)
    folder(bench.place / "others")
    status, _, error = cli(bench, "init", "others", "--name", "kit")
    assert status == 1 and "the unit 'kit' exists with the root photos; choose another name with --name" in error


def test_an_unknown_layout(bench: Bench) -> None:
    bench.params({"kit": {"root": "photos", "layout": "coco"}})
    status, _, err = bench.stage("prepare", "kit")
    assert status == 1 and "units.kit.layout" in err and "'mvtec_ad', 'mvtec_loco', 'visa', 'bmad' or 'folder'" in err
    bench.params({})
    (bench.place / "photos/test").mkdir(parents=True)
    save(bench.place / "photos/test/a.png", kit(0))
    status, _, error = cli(bench, "init", "photos")
    assert (
        status == 1 and "unknown layout. Looked for train/good" in error and "There is test but no train/good" in error
    )


@pytest.mark.parametrize("stage", [*PER_UNIT, *GLOBAL])
def test_a_misspelt_parameter_stops_every_stage(bench: Bench, stage: str) -> None:
    bench.params(FOLDER, {"patch_bank": {"cluster": 7}})
    status, _, err = bench.stage(stage, *(["kit"] if stage in PER_UNIT else []))
    assert status == 1
    assert "unknown parameter 'patch_bank.cluster'; did you mean 'clusters'?" in err
    assert "Traceback" not in err


# --- places


@pytest.mark.parametrize("stage", PER_UNIT)
def test_every_stage_names_a_folder_it_cannot_write(bench: Bench, scoring_copy: Path, stage: str) -> None:
    with read_only(scoring_copy / "artifacts/kit"):
        status, _, err = bench.stage(stage, "kit")
    assert status == 1 and "Traceback" not in err
    assert "artifacts/kit" in err and "cannot be written" in err and "make the folder writable" in err


@pytest.mark.parametrize("stage", ["report", "warehouse"])
def test_reports_in_a_folder_that_cannot_be_written(bench: Bench, scoring_copy: Path, stage: str) -> None:
    (scoring_copy / "reports").mkdir()
    with read_only(scoring_copy / "reports"):
        status, _, err = bench.stage(stage)
    assert status == 1 and "reports" in err and "cannot be written" in err


@pytest.fixture
def scoring_copy(bench: Bench, fitted: Path) -> Path:
    """The fitted unit, copied into the test's own folder."""
    shutil.copytree(fitted, bench.place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("reports"))
    return bench.place


def test_a_data_set_that_cannot_be_written_is_fitted_all_the_same(bench: Bench) -> None:
    root = data_set(bench.place / "set")
    bench.params(LOCO)
    with read_only(root):
        bench.fit(stages=("prepare", "segment"))


def test_a_cache_that_cannot_be_written_costs_time_alone(bench: Bench) -> None:
    folder(bench.place / "photos", 4)
    (bench.place / ".tmuad-cache").mkdir()
    bench.params(FOLDER)
    with read_only(bench.place / ".tmuad-cache"):
        bench.fit()
    one = {p.name: p.read_bytes() for p in (bench.place / "artifacts/kit").iterdir()}
    bench.fit()
    assert {p.name: p.read_bytes() for p in (bench.place / "artifacts/kit").iterdir()} == one


def test_a_path_with_spaces_and_non_ascii_letters_goes_all_the_way(bench: Bench) -> None:
    root = data_set(bench.place / "Fotos für Prüfung" / "schöne Teile 部品")
    for i, path in enumerate(sorted((root / "train/good").iterdir())):
        path.rename(path.with_name(f"Bild ä {i} ½.png"))
    bench.params({})
    status, _, error = cli(bench, "init", str(root.relative_to(bench.place)), "--name", "teile")
    assert status == 0, error
    bench.fit("teile")
    bench.report()
    new = save(bench.place / "neue Bilder" / "Schraube – 1.png", kit(3, discs=1))
    status, [outcome], _ = cli(bench, "score", str(new), "-u", "teile", "--json")
    assert status == 0 and outcome["image"] == str(new) and Path(outcome["heat_map"]).is_file()


@pytest.mark.parametrize("where", ["test/good/copy.png", "test/logical_anomalies/copy.png", "validation/good/copy.png"])
def test_an_image_found_in_two_places_is_an_error_that_names_both(bench: Bench, where: str) -> None:
    root = data_set(bench.place / "set")
    (root / where).write_bytes((root / "train/good/03.png").read_bytes())
    for change in ({}, SKIP):
        bench.params(LOCO, change)
        status, _, err = bench.stage("prepare", "kit")
        assert status == 1
        assert "the same image stands in two splits or under two labels; remove one of each pair" in err
        assert where in err and "train/good/03.png" in err


def test_an_image_that_vanishes_after_prepare_is_named(bench: Bench) -> None:
    root = folder(bench.place / "photos")
    bench.params(FOLDER)
    bench.fit(stages=("prepare",))
    (root / "03.png").unlink()
    status, _, err = bench.stage("segment", "kit")
    assert status == 1 and "03.png: no such file; was it moved after the manifest was written?" in err


def test_a_stage_without_what_it_needs_says_which_to_run(bench: Bench) -> None:
    folder(bench.place / "photos")
    bench.params(FOLDER)
    for stage in PER_UNIT[1:]:
        status, _, err = bench.stage(stage, "kit")
        assert status == 1 and ("dvc repro" in err or "run the stage" in err), f"{stage}: {err}"
    for stage in ("report", "warehouse"):
        status, _, err = bench.stage(stage)
        assert status == 1 and "run" in err


def test_errors_are_of_one_family() -> None:
    assert all(issubclass(e, TmuadError) for e in (ArtifactError, DataError, ImageError, ParameterError))
