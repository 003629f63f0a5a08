"""The readers on data sets as they should be, and on those that are not."""

import json
import os
from pathlib import Path

import pytest
import sample_datasets as datasets

from tmuad.data.layouts import Listing, detect, find_categories, read
from tmuad.data.layouts.mvtec_loco import saturation_config
from tmuad.errors import DataError


def found(listing: Listing) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    return [(entry.split, entry.kind, entry.defect, entry.path, entry.masks) for entry in listing.entries]


def problems(listing: Listing) -> dict[str, str]:
    return {problem.path: f"{problem.problem}; {problem.decision}" for problem in listing.problems}


# ---- data sets as they should be


def test_mvtec_ad(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path / "kit", train=2)
    listing = read(root, detect(root))
    assert detect(root) == "mvtec_ad"
    assert found(listing) == [
        ("test", "structural", "dent", "test/dent/000.png", ("ground_truth/dent/000_mask.png",)),
        ("test", "good", "", "test/good/000.png", ()),
        ("test", "structural", "scratch", "test/scratch/000.png", ("ground_truth/scratch/000_mask.png",)),
        ("train", "good", "", "train/good/000.png", ()),
        ("train", "good", "", "train/good/001.png", ()),
    ]
    assert not listing.problems


def test_mvtec_ad_with_validation_and_with_masks_named_like_their_images(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path, train=2)
    datasets.picture(root / "validation/good/000.jpg", 77)
    (root / "ground_truth/dent/000_mask.png").rename(root / "ground_truth/dent/000.png")
    listing = read(root, "mvtec_ad")
    assert ("validation", "good", "", "validation/good/000.jpg", ()) in found(listing)
    assert found(listing)[0][4] == ("ground_truth/dent/000.png",)
    assert not listing.problems


def test_mvtec_loco_with_several_masks_per_image(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path, train=1)
    assert detect(root) == "mvtec_loco"
    logical = tuple(f"ground_truth/logical_anomalies/000/{index}.png" for index in ("000", "001"))
    structural = ("ground_truth/structural_anomalies/000/000.png",)
    listing = read(root, "mvtec_loco")
    assert found(listing) == [
        ("test", "good", "", "test/good/000.png", ()),
        ("test", "logical", "logical_anomalies", "test/logical_anomalies/000.png", logical),
        ("test", "structural", "structural_anomalies", "test/structural_anomalies/000.png", structural),
        ("train", "good", "", "train/good/000.png", ()),
        ("validation", "good", "", "validation/good/000.png", ()),
    ]
    assert not listing.problems


def test_folder_with_sub_folders(tmp_path: Path) -> None:
    for name in ("b.png", "monday/a.JPG", "monday/early/c.tiff"):
        datasets.picture(tmp_path / name, len(name))
    assert detect(tmp_path) == "folder"
    listing = read(tmp_path, "folder")
    assert [(entry.split, entry.kind, entry.path) for entry in listing.entries] == [
        ("train", "good", "b.png"),
        ("train", "good", "monday/a.JPG"),
        ("train", "good", "monday/early/c.tiff"),
    ]
    assert not listing.problems


def test_folder_reports_sub_folders_that_hardly_hold_good_parts(tmp_path: Path) -> None:
    datasets.picture(tmp_path / "good/a.png", 1)
    datasets.picture(tmp_path / "Defective/a.png", 2)
    (problem,) = read(tmp_path, "folder").problems
    assert (problem.path, problem.problem) == ("Defective", "by its name it does not hold good parts")
    assert problem.decision == "its images are taken as good; move them out if they are not"


def test_path_with_spaces_and_non_ascii_letters(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path / "Prüfung Nr 1" / "部品 A", train=1)
    datasets.picture(root / "test/Riß am Rand/Bild 1.png", 5)
    datasets.mask(root / "ground_truth/Riß am Rand/Bild 1_mask.png")
    entry = next(entry for entry in read(root, detect(root)).entries if entry.defect == "Riß am Rand")
    assert (entry.path, entry.masks) == (
        "test/Riß am Rand/Bild 1.png",
        ("ground_truth/Riß am Rand/Bild 1_mask.png",),
    )


# ---- which folder is what


def test_a_category_is_one_unit_and_a_data_set_is_all_of_its_categories(tmp_path: Path) -> None:
    datasets.mvtec_loco(tmp_path / "set/box")
    datasets.mvtec_ad(tmp_path / "set/bag")
    (tmp_path / "set/papers").mkdir()
    datasets.picture(tmp_path / "set/cover.png", 3)
    (tmp_path / "set/licence.txt").touch()
    assert find_categories(tmp_path / "set/box")[0] == [("", tmp_path / "set/box", "mvtec_loco")]
    categories, remarks = find_categories(tmp_path / "set")
    assert categories == [("bag", tmp_path / "set/bag", "mvtec_ad"), ("box", tmp_path / "set/box", "mvtec_loco")]
    assert sorted(problem.path for problem in remarks) == ["cover.png", "papers"]


def test_unpacked_one_folder_too_deep(tmp_path: Path) -> None:
    datasets.mvtec_ad(tmp_path / "kit/kit")
    with pytest.raises(DataError, match=r"unpacked one folder too deep; name .*kit/kit or move its content up"):
        find_categories(tmp_path / "kit")
    with pytest.raises(DataError, match=r"Unpacked one folder too deep\? There is a category in .*kit/kit: name that"):
        read(tmp_path / "kit", "mvtec_ad")
    datasets.mvtec_ad(tmp_path / "set/inner/a")
    datasets.mvtec_ad(tmp_path / "set/inner/b")
    with pytest.raises(DataError, match=r"too deep\? There are categories in .*set/inner: name that folder"):
        find_categories(tmp_path / "set")
    with pytest.raises(DataError, match=r"holds the categories a, b: name one of them"):
        read(tmp_path / "set/inner", "mvtec_ad")


def test_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"unknown layout\. Looked for train/good .* images .*There is no image"):
        detect(tmp_path)
    datasets.picture(tmp_path / "test/crack/a.png", 1)
    datasets.picture(tmp_path / "train/a.png", 2)
    with pytest.raises(DataError, match=r"unknown layout\..*There is train and test but no train/good"):
        detect(tmp_path)
    with pytest.raises(DataError, match=r"not a category in the layout mvtec_loco: no folder train/good"):
        read(tmp_path, "mvtec_loco")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; check the path"):
        find_categories(tmp_path / "gone")
    (tmp_path / "set.zip").touch()
    with pytest.raises(DataError, match="not a folder; unpack an archive first"):
        read(tmp_path / "set.zip", "mvtec_ad")


# ---- bad input


def test_mask_without_an_image(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    datasets.mask(root / "ground_truth/dent/007_mask.png")
    datasets.mask(root / "ground_truth/good/000_mask.png")
    listing = read(root, "mvtec_ad")
    assert problems(listing)["ground_truth/dent/007_mask.png"] == (
        "a mask without an image: there is no test/dent/007 with the suffix of an image; ignored"
    )
    assert problems(listing)["ground_truth/good/000_mask.png"] == "a mask of a good image; ignored"
    assert len(listing.problems) == 2 and len(listing.entries) == 9


@pytest.mark.parametrize("layout", ["mvtec_ad", "mvtec_loco"])
def test_image_without_a_mask(tmp_path: Path, layout: str) -> None:
    root = datasets.mvtec_ad(tmp_path) if layout == "mvtec_ad" else datasets.mvtec_loco(tmp_path)
    folder = "dent" if layout == "mvtec_ad" else "logical_anomalies"
    datasets.picture(root / f"test/{folder}/001.png", 9)
    listing = read(root, detect(root))
    assert problems(listing) == {
        f"test/{folder}/001.png": "an image of a defect without a mask; "
        "used for the image-level figures, left out of the pixel-level ones"
    }
    assert any(entry.path == f"test/{folder}/001.png" and not entry.masks for entry in listing.entries)


def test_no_mask_at_all_is_one_problem(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    for path in (root / "ground_truth").rglob("*.png"):
        path.unlink()
    assert list(problems(read(root, "mvtec_ad"))) == ["ground_truth"]


def test_two_images_that_share_a_mask_by_their_name(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    datasets.picture(root / "test/dent/000.jpg", 9)
    with pytest.raises(DataError, match=r"000\.jpg and .*000\.png share one mask by their name; rename"):
        read(root, "mvtec_ad")


def test_empty_splits(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path)
    (root / "validation/good/000.png").unlink()
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    for path in (root / "ground_truth").rglob("*.png"):
        path.unlink()
    assert problems(read(root, "mvtec_loco")) == {
        "validation": "an empty split; part of train is held out in its place",
        "test": "an empty split; the unit is fitted; nothing can be evaluated",
    }


def test_no_good_or_no_bad_test_image(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    (root / "test/good/000.png").unlink()
    assert problems(read(root, "mvtec_ad")) == {
        "test": "no good image; scored; AUROC needs good and bad ones",
        "test/good": "no image in it that the layout knows; ignored",
    }


def test_no_training_image(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path, train=0)
    (root / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train/good: no training image; put photographs of good parts there"):
        read(root, "mvtec_ad")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no training image"):
        read(tmp_path / "empty", "folder")


def test_every_file_is_an_entry_a_mask_junk_or_a_problem(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path)
    for junk in (
        "train/good/Thumbs.db",
        ".DS_Store",
        "test/good/._000.png",
        "__MACOSX/x.png",
        "train/good/.gitkeep",
        "license.txt",
    ):
        (root / junk).parent.mkdir(exist_ok=True)
        (root / junk).touch()
    (root / "readme.md").touch()
    datasets.picture(root / "train/bad/000.png", 1)
    datasets.picture(root / "train/good/deeper/000.png", 2)
    datasets.picture(root / "ground_truth/logical_anomalies/000.png", 3)
    datasets.picture(root / ".hidden/000.png", 4)
    (root / "train/good/photo.webp").touch()
    for index in range(5):
        datasets.picture(root / f"test/fog/{index}.png", 10 + index)
    listing = read(root, "mvtec_loco")
    said = problems(listing)
    assert len(listing.entries) == 10
    assert said.keys() == {
        "readme.md",
        "train/bad/000.png",
        "train/good/deeper/000.png",
        "ground_truth/logical_anomalies/000.png",
        ".hidden",
        "train/good/photo.webp",
        "test/fog",
    }
    assert said["train/bad/000.png"] == "an image in a place that the layout mvtec_loco does not know; ignored"
    assert said["train/good/photo.webp"].startswith("a file of a kind that is not read (.webp; read are .bmp .jpeg")


def test_symbolic_links_out_of_the_data_set_are_refused(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path / "kit")
    outside = datasets.picture(tmp_path / "outside.png", 1)
    link = root / "train/good/link.png"
    link.symlink_to(outside)
    with pytest.raises(DataError, match=r"link\.png: a symbolic link out of the data set, to .*outside\.png;"):
        read(root, "mvtec_ad")
    link.unlink()
    link.symlink_to(root / "test", target_is_directory=True)
    with pytest.raises(DataError, match=r"link\.png: a symbolic link to a folder"):
        read(root, "mvtec_ad")
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(DataError, match=r"link\.png: a symbolic link that leads in a circle"):
        read(root, "mvtec_ad")
    link.unlink()
    link.symlink_to(Path("000.png"))
    assert len(read(root, "mvtec_ad").entries) == 10
    (tmp_path / "door").symlink_to(root, target_is_directory=True)  # the data set itself may be reached through a link
    assert len(read(tmp_path / "door", "mvtec_ad").entries) == 10


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    datasets.picture(tmp_path / "a.png", 1)
    try:
        (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"Gr\xfc\xdfe.png"))
    except OSError:
        pytest.skip("this file system takes valid names alone")
    with pytest.raises(DataError, match=r"not valid Unicode \(UTF-8\); rename the file"):
        read(tmp_path, "folder")


# ---- defects_config.json


def test_saturation_config(tmp_path: Path) -> None:
    missing, extra = saturation_config(datasets.mvtec_loco(tmp_path)) or []
    assert (missing.defect_name, missing.pixel_value, missing.saturation_threshold) == ("missing", 255, 400.0)
    assert extra.relative_saturation and not missing.relative_saturation


def test_missing_defects_config_is_a_problem_and_no_error(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path)
    (root / "defects_config.json").unlink()
    assert saturation_config(root) is None
    assert problems(read(root, "mvtec_loco")) == {
        "defects_config.json": "missing; a defect counts as found when all of its area is"
    }


GOOD = {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("{}", "Input should be a valid list"),
        (json.dumps([GOOD, GOOD | {"pixel_value": 0}]), r"entry 1\.pixel_value: .*greater than or equal to 1"),
        (json.dumps([GOOD | {"pixel_value": "255"}]), r"entry 0\.pixel_value: .*integer"),
        (json.dumps([GOOD | {"saturation_threshold": 0}]), r"entry 0\.saturation_threshold: .*greater than 0"),
        (json.dumps([GOOD | {"colour": 1}]), r"entry 0\.colour: "),
        (json.dumps([{"defect_name": "a"}]), r"entry 0\.pixel_value: Field required"),
        (json.dumps([GOOD, GOOD]), "the pixel value 255 stands for two defects"),
    ],
)
def test_defects_config_that_is_not_as_it_should_be(tmp_path: Path, content: str, message: str) -> None:
    root = datasets.mvtec_loco(tmp_path)
    (root / "defects_config.json").write_text(content)
    with pytest.raises(DataError, match=rf"defects_config\.json: {message}"):
        read(root, "mvtec_loco")
