"""VisA, MPDD and BMAD in the layouts that their authors publish."""

from collections import Counter
from pathlib import Path

import pytest
import sample_datasets as datasets

from tmuad.data.layouts import Listing, detect, find_categories, read
from tmuad.data.manifest import build_manifest
from tmuad.errors import DataError


def counts(listing: Listing) -> Counter[tuple[str, str]]:
    return Counter((entry.split, entry.kind) for entry in listing.entries)


def said(listing: Listing) -> dict[str, str]:
    return {problem.path: f"{problem.problem}; {problem.decision}" for problem in listing.problems}


# ---- VisA


def test_visa_as_published(tmp_path: Path) -> None:
    root = datasets.visa(tmp_path / "VisA") / "candle"
    assert detect(root) == "visa"
    listing = read(root, "visa")
    assert counts(listing) == {("train", "good"): 6, ("test", "good"): 1, ("test", "structural"): 2}
    bad = [entry for entry in listing.entries if entry.kind == "structural"]
    assert [(entry.path, entry.defect, entry.masks) for entry in bad] == [
        ("Data/Images/Anomaly/000.JPG", "chunk of wax missing", ("Data/Masks/Anomaly/000.png",)),
        ("Data/Images/Anomaly/001.JPG", "foreign particals,other", ("Data/Masks/Anomaly/001.png",)),
    ]
    assert not listing.problems
    manifest, problems = build_manifest(root, "visa", on_bad_image="stop", max_pixels=10**6, holdout=0.2)
    assert len(manifest) == 9 and [p.path for p in problems] == ["."]  # small numbers in masks are no problem here


def test_visa_without_annotations_and_with_the_csv_inside_the_category(tmp_path: Path) -> None:
    root = datasets.visa(tmp_path / "VisA") / "candle"
    (root / "image_anno.csv").unlink()
    (tmp_path / "VisA/split_csv").rename(root / "split_csv")
    assert {entry.defect for entry in read(root, "visa").entries} == {"", "anomaly"}


def test_visa_is_a_data_set_of_categories(tmp_path: Path) -> None:
    root = datasets.visa(tmp_path / "VisA", ("candle", "pcb1"))
    categories, problems = find_categories(root)
    assert categories == [("candle", root / "candle", "visa"), ("pcb1", root / "pcb1", "visa")]
    assert not problems
    assert all(entry.path.startswith("Data/") for entry in read(root / "pcb1", "visa").entries)


def test_visa_images_and_rows_that_do_not_match(tmp_path: Path) -> None:
    root = datasets.visa(tmp_path / "VisA") / "candle"
    (root / "Data/Images/Normal/0000.JPG").unlink()
    (root / "Data/Masks/Anomaly/001.png").unlink()
    datasets.picture(root / "Data/Images/Normal/9999.JPG", 77)
    datasets.picture(root / "more/0.JPG", 78)
    problems = said(read(root, "visa"))
    assert problems == {
        "Data/Images/Normal/0000.JPG": "listed in 1cls.csv, line 2, but not there; left out",
        "Data/Images/Anomaly/001.JPG": "an image of a defect without a mask; used for the image-level figures, left out "
        "of the pixel-level ones",
        "Data/Images/Normal": "1 images that 1cls.csv does not list, such as Data/Images/Normal/9999.JPG; ignored",
        "more/0.JPG": "an image in a place that the layout visa does not know; ignored",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "thing,split", "no column object; copy"),
        (
            "candle,train,normal",
            "candle,training,normal",
            r"line 2: split 'training' and label 'normal'; expected train",
        ),
        ("candle,", "wax,", "no training image: .* lists none of the object 'candle'"),
    ],
)
def test_visa_split_csv_that_is_not_as_it_should_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    root = datasets.visa(tmp_path / "VisA")
    path = root / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read(root / "candle", "visa")


def test_visa_without_its_split_csv(tmp_path: Path) -> None:
    root = datasets.visa(tmp_path / "VisA")
    (root / "split_csv/1cls.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"1cls\.csv: not readable as CSV"):
        read(root / "candle", "visa")
    (root / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: missing; .*copy split_csv from the data set"):
        read(root / "candle", "visa")


def test_visa_one_class(tmp_path: Path) -> None:
    root = datasets.visa_one_class(tmp_path / "candle")
    assert detect(root) == "mvtec_ad"
    listing = read(root, "mvtec_ad")
    assert counts(listing) == {("train", "good"): 6, ("test", "good"): 1, ("test", "structural"): 2}
    assert all(entry.masks for entry in listing.entries if entry.defect == "bad") and not listing.problems


# ---- MPDD


def test_mpdd(tmp_path: Path) -> None:
    root = datasets.mpdd(tmp_path / "tubes")
    assert detect(root) == "mvtec_ad"
    listing = read(root, "mvtec_ad")
    assert {entry.defect for entry in listing.entries} == {"", "hole", "scratches"} and not listing.problems


# ---- BMAD


@pytest.mark.parametrize(("masks", "inner"), [("label", "img"), ("anomaly_mask", ""), ("anomaly_mask", "img")])
def test_bmad(tmp_path: Path, masks: str, inner: str) -> None:
    root = datasets.bmad(tmp_path / "Brain", masks=masks, inner=inner)
    assert detect(root) == "bmad"
    listing = read(root, "bmad")
    assert counts(listing) == {
        ("train", "good"): 6, ("validation", "good"): 1, ("test", "good"): 1, ("test", "structural"): 2,
    }  # fmt: skip
    bad = [entry for entry in listing.entries if entry.kind == "structural"]
    assert [entry.masks for entry in bad] == [(f"test/Ungood/{masks}/0000{index}_60.png",) for index in range(2)]
    assert said(listing) == {
        f"test/good/{masks}": "1 masks of good images; ignored: only normal images are learnt from and calibrated on",
        "valid/Ungood": "4 images of defects, or their masks, outside of test; ignored: only normal images are learnt "
        "from and calibrated on",
    }


def test_bmad_masks_and_images_that_do_not_match(tmp_path: Path) -> None:
    root = datasets.bmad(tmp_path / "Brain")
    (root / "test/Ungood/label/00000_60.png").unlink()
    datasets.mask(root / "test/Ungood/label/7.png")
    datasets.picture(root / "test/Ungood/deeper/img/1.png", 5)
    problems = said(read(root, "bmad"))
    assert problems["test/Ungood/img/00000_60.png"].startswith("an image of a defect without a mask")
    assert problems["test/Ungood/label/7.png"].startswith("a mask without an image")
    assert problems["test/Ungood/deeper/img/1.png"].startswith("an image in a place that the layout bmad does not know")


def test_bmad_without_training_images(tmp_path: Path) -> None:
    root = datasets.bmad(tmp_path / "Brain", train=0)
    (root / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="no training image"):
        read(root, "bmad")


# ---- what holds for all


@pytest.mark.parametrize("make", [datasets.visa_one_class, datasets.mpdd, datasets.bmad])
def test_unpacked_one_folder_too_deep(tmp_path: Path, make) -> None:
    make(tmp_path / "set/set")
    with pytest.raises(DataError, match="unpacked one folder too deep"):
        find_categories(tmp_path / "set")


def test_visa_unpacked_one_folder_too_deep(tmp_path: Path) -> None:
    datasets.visa(tmp_path / "VisA/VisA", ("candle", "pcb1"))
    with pytest.raises(DataError, match=r"Unpacked one folder too deep\? There are categories in .*VisA/VisA"):
        find_categories(tmp_path / "VisA")
    with pytest.raises(DataError, match="not a category in the layout visa: no folder Data/Images/Normal"):
        read(tmp_path / "VisA/VisA", "visa")


@pytest.mark.parametrize(
    ("make", "layout", "train", "test"),
    [
        (
            lambda root: datasets.visa(root) / "candle",
            "visa",
            "Data/Images/Normal/0000.JPG",
            "Data/Images/Anomaly/000.JPG",
        ),
        (datasets.bmad, "bmad", "train/good/img/00000_60.png", "test/good/img/00000_96.png"),
        (datasets.mpdd, "mvtec_ad", "train/good/000.png", "test/good/000.png"),
        (datasets.mvtec_loco, "mvtec_loco", "train/good/000.png", "test/logical_anomalies/000.png"),
    ],
)
def test_an_image_in_train_and_in_test_is_found_by_its_content(tmp_path: Path, make, layout, train, test) -> None:
    root = make(tmp_path / "set")
    (root / test).write_bytes((root / train).read_bytes())
    with pytest.raises(DataError, match="the same image stands in two splits or under two labels") as caught:
        build_manifest(root, layout, on_bad_image="skip", max_pixels=10**6, holdout=0.2)
    assert train in str(caught.value) and test in str(caught.value)


@pytest.mark.parametrize(
    ("make", "layout", "mask"),
    [
        (datasets.mvtec_ad, "mvtec_ad", "ground_truth/dent/000_mask.png"),
        (datasets.bmad, "bmad", "test/Ungood/label/00000_60.png"),
    ],
)
def test_masks_with_values_other_than_0_and_255(tmp_path: Path, make, layout, mask) -> None:
    root = make(tmp_path / "set")
    datasets.mask(root / mask, value=37)
    _, problems = build_manifest(root, layout, on_bad_image="stop", max_pixels=10**6, holdout=0.2)
    found = {p.path: f"{p.problem}; {p.decision}" for p in problems}
    assert found[mask] == "values other than 0 and 255: 37; every value above 0 counts as marked"


def test_many_odd_masks_of_a_folder_are_one_problem(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path)
    for index in range(1, 6):
        datasets.picture(root / f"test/dent/{index:03}.png", 5000 + index)
        datasets.mask(root / f"ground_truth/dent/{index:03}_mask.png", value=10 * index)
    _, problems = build_manifest(root, "mvtec_ad", on_bad_image="stop", max_pixels=10**6, holdout=0.2)
    (odd,) = [p for p in problems if "values other" in p.problem]
    assert (odd.path, odd.problem) == ("ground_truth/dent", "5 masks: values other than 0 and 255: 10, 20, 30, 40, 50")


def test_a_pixel_value_without_a_saturation_is_named(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path)
    datasets.mask(root / "ground_truth/logical_anomalies/000/001.png", value=37)
    _, problems = build_manifest(root, "mvtec_loco", on_bad_image="stop", max_pixels=10**6, holdout=0.2)
    (odd,) = [p for p in problems if p.path.endswith("001.png")]
    assert (odd.problem, odd.decision) == (
        "no entry in defects_config.json for the pixel values 37",
        "marked; sPRO is not computed",
    )
