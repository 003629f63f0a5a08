"""The manifest: one row per image, whatever is wrong with the data set."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sample_datasets as datasets
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tmuad.cache import Cache
from tmuad.config import DataParams
from tmuad.data import verify as verify_module
from tmuad.data.layouts import Problem
from tmuad.data.manifest import SCHEMA, build_manifest, few_shots, held_out, survey, write_problems
from tmuad.errors import ArtifactError, DataError, ImageError
from tmuad.parquet import read_parquet, write_parquet


def build(root: Path, layout: Any = "mvtec_ad", **changes: Any) -> tuple[pd.DataFrame, dict[str, str]]:
    """The manifest, and problem and decision by path ("." left out: small sets have remarks of their own)."""
    options = {"on_bad_image": "stop", "max_pixels": 1_000_000, "holdout": 0.2} | changes
    manifest, problems = build_manifest(root, layout, **options)
    said = {problem.path: f"{problem.problem}; {problem.decision}" for problem in problems if problem.path != "."}
    return manifest.to_pandas(), said


def whole_set(problems: list[Problem]) -> list[str]:
    return [f"{problem.problem}; {problem.decision}" for problem in problems if problem.path == "."]


# ---- what stands in it


def test_one_row_per_image_sorted_by_split_and_path(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path, train=3)
    manifest, problems = build(root, "mvtec_loco")
    assert list(manifest.columns) == SCHEMA.names
    assert list(zip(manifest["split"], manifest["path"], manifest["kind"], strict=True)) == [
        ("test", "test/good/000.png", "good"),
        ("test", "test/logical_anomalies/000.png", "logical"),
        ("test", "test/structural_anomalies/000.png", "structural"),
        ("train", "train/good/000.png", "good"),
        ("train", "train/good/001.png", "good"),
        ("train", "train/good/002.png", "good"),
        ("validation", "validation/good/000.png", "good"),
    ]
    assert list(manifest["masks"][1]) == [f"ground_truth/logical_anomalies/000/{index}.png" for index in ("000", "001")]
    for path, image_id in zip(manifest["path"], manifest["image_id"], strict=True):
        assert image_id == hashlib.sha256((root / path).read_bytes()).hexdigest()
    assert not problems


def test_the_written_file_has_the_same_bytes_wherever_and_however_it_was_made(tmp_path: Path) -> None:
    one, other = datasets.mvtec_ad(tmp_path / "a"), datasets.mvtec_ad(tmp_path / "some where else")
    (one / "train/good/000.png").write_bytes(b"")
    (other / "train/good/000.png").write_bytes(b"")
    cache = Cache(tmp_path / "cache")
    contents = []
    ways: list[dict[str, Any]] = [{"workers": 1}, {"workers": 4}, {"cache": cache}, {"cache": cache}]
    for number, options in enumerate(ways):
        root = (one, other)[number % 2]
        manifest, problems = build_manifest(
            root, "mvtec_ad", on_bad_image="skip", max_pixels=10**6, holdout=0.2, **options
        )
        write_parquet(manifest, tmp_path / f"{number}/manifest.parquet", SCHEMA)
        write_problems(problems, tmp_path / f"{number}/problems.csv")
        contents.append([(tmp_path / f"{number}/{name}").read_bytes() for name in ("manifest.parquet", "problems.csv")])
    assert all(content == contents[0] for content in contents)
    assert b"tmp" not in contents[0][1] and b"train/good/000.png,the file is empty" in contents[0][1]


def test_the_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    manifest, _ = build(datasets.mvtec_loco(tmp_path / "Kasten Ö"), "mvtec_loco")
    write_parquet(manifest, tmp_path / "manifest.parquet", SCHEMA)
    back = read_parquet(tmp_path / "manifest.parquet").to_pandas()
    assert [list(masks) for masks in back.pop("masks")] == [list(masks) for masks in manifest.pop("masks")]
    pd.testing.assert_frame_equal(back, manifest, check_dtype=False)


# ---- held-out images


IDS = st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=60, unique=True).map(
    lambda seeds: [hashlib.sha256(seed).hexdigest() for seed in seeds]
)


@settings(max_examples=200, deadline=None)
@given(IDS, st.floats(0.01, 0.99))
def test_held_out_never_empties_train_and_does_not_depend_on_the_order(image_ids: list[str], share: float) -> None:
    chosen = held_out(image_ids, share)
    assert chosen < set(image_ids)
    assert bool(chosen) == (len(image_ids) > 1)
    assert held_out(sorted(image_ids), share) == chosen


@settings(max_examples=200, deadline=None)
@given(IDS, st.floats(0.1, 0.5))
def test_a_new_image_moves_no_other_one(image_ids: list[str], share: float) -> None:
    *before, new = image_ids
    by_hash = {image_id for image_id in before if int(image_id[:8], 16) / 2**32 < share}
    if 0 < len(by_hash) < len(before):  # not so small that one side would be empty
        assert held_out(image_ids, share) - {new} == held_out(before, share)


def test_the_share_that_is_held_out() -> None:
    image_ids = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(4000)]
    assert abs(len(held_out(image_ids, 0.2)) / 4000 - 0.2) < 0.02


def test_a_validation_split_of_the_data_set_is_left_alone(tmp_path: Path) -> None:
    manifest, _ = build(datasets.mvtec_loco(tmp_path, train=12), "mvtec_loco")
    assert list(manifest[manifest["split"] == "validation"]["path"]) == ["validation/good/000.png"]


def test_held_out_images_come_from_train(tmp_path: Path) -> None:
    manifest, _ = build(datasets.mvtec_ad(tmp_path, train=12))
    validation = manifest[manifest["split"] == "validation"]
    assert 0 < len(validation) < 12
    assert validation["path"].str.startswith("train/good/").all()


# ---- bad input


def test_unreadable_images_stop_the_run_and_all_of_them_are_named(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    (root / "train/good/000.png").write_bytes(b"")
    (root / "train/good/001.png").write_bytes((root / "train/good/001.png").read_bytes()[:-400])
    (root / "test/good/000.png").write_text("no image")
    with pytest.raises(ImageError, match="3 of 9 images cannot be used") as caught:
        build(root)
    for path in ("train/good/000.png", "train/good/001.png", "test/good/000.png"):
        assert str(root / path) in str(caught.value)
    assert "data.on_bad_image: skip" in str(caught.value)


def test_unreadable_images_are_skipped_and_listed(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    (root / "train/good/000.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(root / "train/good/001.png")
    Image.new("RGB", (1200, 1200)).save(root / "train/good/002.png")
    manifest, problems = build(root, on_bad_image="skip")
    assert len(manifest) == 6
    assert problems == {
        "train/good/000.png": "the file is empty (0 bytes); copy it again or remove it; skipped",
        "train/good/001.png": "1 x 1 pixels, at least 16 a side are needed; remove the file; skipped",
        "train/good/002.png": "1200 x 1200 = 1,440,000 pixels, more than data.max_pixels = 1,000,000; "
        "shrink the image or raise the parameter; skipped",
    }


def test_all_training_images_skipped(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path, train=1)
    (root / "train/good/000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no training image is left; .*\n.*000\.png: the file is empty"):
        build(root, on_bad_image="skip")


def test_a_truncated_jpeg_is_found_although_it_is_decoded_at_a_reduced_size(tmp_path: Path) -> None:
    datasets.picture(tmp_path / "a.png", 1)
    path = datasets.picture(tmp_path / "large.jpg", 2, side=800)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.97)])
    with pytest.raises(ImageError, match=r"large\.jpg: damaged or truncated"):
        build(tmp_path, "folder")


def test_mask_of_another_size(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    datasets.mask(root / "ground_truth/dent/000_mask.png", side=40)
    message = "ground_truth/dent/000_mask.png: the mask has 40 x 40 pixels, its image 32 x 32"
    with pytest.raises(ImageError, match=message):
        build(root)
    manifest, problems = build(root, on_bad_image="skip")
    assert problems["test/dent/000.png"].startswith(message) and problems["test/dent/000.png"].endswith("; skipped")
    assert "test/dent/000.png" not in set(manifest["path"])


def test_mask_that_marks_nothing(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path)
    datasets.mask(root / "ground_truth/logical_anomalies/000/001.png", value=0)
    datasets.mask(root / "ground_truth/structural_anomalies/000/000.png", value=0)
    manifest, problems = build(root, "mvtec_loco")
    assert problems == {
        "ground_truth/logical_anomalies/000/001.png": "a mask that marks nothing; ignored",
        "ground_truth/structural_anomalies/000/000.png": "a mask that marks nothing; ignored; its image is "
        "used for the image-level figures, left out of the pixel-level ones",
    }
    assert list(manifest["masks"][1]) == ["ground_truth/logical_anomalies/000/000.png"]
    assert list(manifest["masks"][2]) == []


def test_single_colour_and_fully_black_images_are_used_and_reported(tmp_path: Path) -> None:
    for index in range(3):
        datasets.picture(tmp_path / f"{index}.png", index)
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    Image.new("RGB", (64, 64), (90, 20, 70)).save(tmp_path / "plain.jpg")
    manifest, problems = build(tmp_path, "folder")
    assert len(manifest) == 5
    assert problems == dict.fromkeys(
        ("black.png", "plain.jpg"), "an image of a single colour; used; remove it if the camera failed"
    )


@pytest.mark.parametrize("where", ["train/good", "test/dent"])
def test_an_image_found_in_two_splits_or_under_two_labels(tmp_path: Path, where: str) -> None:
    root = datasets.mvtec_ad(tmp_path)
    (root / "test/good/zzz.png").write_bytes((root / where / "000.png").read_bytes())
    with pytest.raises(DataError, match="two splits or under two labels; remove one of each pair") as caught:
        build(root, on_bad_image="skip")
    assert str(root / "test/good/zzz.png") in str(caught.value) and str(root / where / "000.png") in str(caught.value)


def test_an_image_found_twice_in_a_split_is_used_once(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    (root / "train/good/copy.png").write_bytes((root / "train/good/003.png").read_bytes())
    manifest, problems = build(root)
    assert problems == {"train/good/copy.png": "the same image as train/good/003.png; left out; the other one is used"}
    assert len(manifest) == 9 and manifest["image_id"].is_unique


def test_one_training_image_stays_in_train(tmp_path: Path) -> None:
    datasets.picture(tmp_path / "a.png", 1)
    manifest, problems = build_manifest(tmp_path, "folder", on_bad_image="stop", max_pixels=10**6, holdout=0.99)
    assert manifest["split"].to_pylist() == ["train"]
    assert whole_set(problems) == [
        "no normal images to calibrate on; used; the threshold is rough until there are more photographs of good parts",
        "one training image; used; whatever differs from it will look anomalous",
    ]


@pytest.mark.parametrize(("bits", "said"), [(16, "set data.bits: 12"), (12, ""), (10, "above data.bits: 10 becomes")])
def test_12_bits_in_16_are_reported(tmp_path: Path, bits: int, said: str) -> None:
    for index in range(3):
        values = np.random.default_rng(index).integers(0, 4096, (32, 32)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{index}.tif", values)
    _, problems = build_manifest(tmp_path, "folder", on_bad_image="stop", max_pixels=10**6, holdout=0.2, bits=bits)
    remarks = [remark for remark in whole_set(problems) if "16 bits" in remark]
    assert len(remarks) == bool(said) and all(said in remark for remark in remarks)


# ---- a second look


def test_files_that_are_known_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = datasets.mvtec_ad(tmp_path / "kit"), Cache(tmp_path / "cache")
    first = build(root, cache=cache)
    decoded: list[str] = []
    for name in ("read_picture", "read_labels"):
        real = getattr(verify_module, name)

        def spy(path: Path, *args: Any, real: Any = real, **options: Any) -> Any:
            decoded.append(path.relative_to(root).as_posix())
            return real(path, *args, **options)

        monkeypatch.setattr(verify_module, name, spy)
    second = build(root, cache=cache)
    assert decoded == []
    pd.testing.assert_frame_equal(first[0], second[0])
    assert first[1] == second[1]
    datasets.picture(root / "train/good/new.png", 99)
    build(root, cache=cache)
    assert decoded == ["train/good/new.png"]
    with pytest.raises(ImageError, match="10 of 10 images"):
        build(root, cache=cache, max_pixels=1000)  # a limit lowered since


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    for index, side in enumerate((32, 1500, 1500)):
        datasets.picture(tmp_path / f"kit/{index}.jpg", index, side=side)
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        assert survey(tmp_path / "kit", "folder", DataParams(), cache).sizes == {(1500, 1500): 2, (32, 32): 1}


def test_problems_csv_in_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"problems\.csv: cannot be written .*; make the folder writable"):
        write_problems([], tmp_path / "file" / "problems.csv")


# ---- few-shot


@settings(max_examples=100, deadline=None)
@given(IDS, st.integers(1, 60), st.integers(0, 5))
def test_shots_are_chosen_by_content_and_seed_and_grow_one_by_one(image_ids: list[str], shots: int, seed: int) -> None:
    chosen = few_shots(image_ids, shots, seed)
    assert len(chosen) == min(shots, len(image_ids)) and chosen <= set(image_ids)
    assert few_shots(sorted(image_ids), shots, seed) == chosen
    assert chosen <= few_shots(image_ids, shots + 1, seed)


def test_shots_leave_all_other_normal_images_out(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path, train=12)
    manifest, problems = build_manifest(
        root, "mvtec_loco", on_bad_image="stop", max_pixels=10**6, holdout=0.2, shots=4, shots_seed=3
    )
    assert dict(Counter(manifest["split"].to_pylist())) == {"train": 3, "test": 3, "validation": 1}
    assert "data.shots: 4; 9 of 13 normal images are not used" in whole_set(problems)
    others, _ = build_manifest(
        root, "mvtec_loco", on_bad_image="stop", max_pixels=10**6, holdout=0.2, shots=4, shots_seed=4
    )
    assert set(others["path"].to_pylist()) != set(manifest["path"].to_pylist())
    with pytest.raises(DataError, match=r"data\.shots is 13, but there are 12 training images; lower it"):
        build_manifest(root, "mvtec_loco", on_bad_image="stop", max_pixels=10**6, holdout=0.2, shots=13)
