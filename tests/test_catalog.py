"""The catalogue of public data sets, and the comparison of a copy with it."""

from pathlib import Path

import pytest
import sample_datasets as datasets
import yaml
from typer.testing import CliRunner

import tmuad.data.check as check_module
from tmuad.cli import app
from tmuad.data.catalog import CATALOG, DatasetEntry, dataset_names, load_dataset
from tmuad.data.check import check_dataset, check_report
from tmuad.errors import DataError, ParameterError

NAMES = ["brainmri", "liverct", "mpdd", "mvtec_ad", "mvtec_loco", "resc", "visa"]


# ---- the catalogue


def test_all_seven_are_there_and_complete() -> None:
    assert dataset_names() == NAMES
    for name in NAMES:
        entry = load_dataset(name)
        assert entry.homepage.startswith("https://") and entry.licence and entry.citation
        assert all(category.objects for category in entry.categories.values())


@pytest.mark.parametrize(
    ("name", "categories", "train", "good", "anomalous"),
    [
        ("mvtec_loco", 5, 1772, 575, 993),
        ("mvtec_ad", 15, 3629, 467, 1258),
        ("mpdd", 6, 888, 176, 282),
        ("visa", 12, 8659, 962, 1200),
        ("brainmri", 1, 7500, 640, 3075),
        ("liverct", 1, 1542, 833, 660),
        ("resc", 1, 4297, 1041, 764),
    ],
)
def test_counts_add_up_to_what_is_published(name: str, categories: int, train: int, good: int, anomalous: int) -> None:
    entry = load_dataset(name)
    assert len(entry.categories) == categories
    assert (entry.total("train"), entry.total("test_good")) == (train, good)
    assert entry.total("test_logical") + entry.total("test_structural") == anomalous


def test_where_the_paper_counts_otherwise_it_is_said() -> None:
    for name in NAMES:
        entry = load_dataset(name)
        anomalous = entry.total("test_logical") + entry.total("test_structural")
        published = (entry.total("train"), entry.total("test_good"), anomalous)
        paper = (entry.paper.train, entry.paper.test_good, entry.paper.test_anomalous)
        assert ("counts are those of the paper" in entry.notes) == (published == paper), name
    assert load_dataset("visa").total("train") + load_dataset("visa").total("test_good") == 9621
    assert (load_dataset("mvtec_loco").total("test_logical"), load_dataset("mvtec_loco").total("validation")) == (
        561,
        304,
    )


def test_unknown_data_set_and_damaged_entry(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"unknown data set 'mvtec'; the catalogue has: .*Did you mean 'mvtec_ad'"):
        load_dataset("mvtec")
    raw = yaml.safe_load((CATALOG / "mpdd.yaml").read_text())
    raw["categories"]["tubes"]["images"]["test_bad"] = 1
    (tmp_path / "mpdd.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ParameterError, match=r"categories\.tubes\.images: unknown test_bad; known: train"):
        load_dataset("mpdd", tmp_path)
    raw["licence"] = ""
    (tmp_path / "mpdd.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ParameterError, match=r"mpdd\.yaml: licence: "):
        load_dataset("mpdd", tmp_path)


# ---- a copy


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue with the counts of the tiny data sets."""

    def load(name: str) -> DatasetEntry:
        entry = load_dataset(name)
        sample = {"train": 6, "test_good": 1, "test_structural": 2}
        if name == "mvtec_loco":
            sample |= {"validation": 1, "test_logical": 1, "test_structural": 1}
        categories = {k: c.model_copy(update={"images": sample}) for k, c in list(entry.categories.items())[:2]}
        return entry.model_copy(update={"categories": categories})

    monkeypatch.setattr(check_module, "load_dataset", load)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("mvtec_ad", lambda root: [datasets.mvtec_ad(root / c) for c in ("bottle", "cable")]),
        ("mvtec_loco", lambda root: [datasets.mvtec_loco(root / c) for c in ("breakfast_box", "juice_bottle")]),
        ("visa", lambda root: datasets.visa(root, ("candle", "capsules"))),
        ("visa", lambda root: [datasets.visa_one_class(root / c) for c in ("candle", "capsules")]),
        ("mpdd", lambda root: [datasets.mpdd(root / c) for c in ("bracket_black", "bracket_brown")]),
        ("brainmri", lambda root: datasets.bmad(root / "Brain")),
        ("liverct", lambda root: datasets.bmad(root / "Liver", masks="anomaly_mask")),
        ("resc", lambda root: datasets.bmad(root / "Retina_RESC")),
    ],
)
def test_a_whole_copy_has_no_difference_and_is_recognised(tmp_path: Path, name: str, make) -> None:
    make(tmp_path / "set")
    result = check_dataset(tmp_path / "set")
    assert result.dataset == name
    assert result.all_differences == []
    assert "No difference" in check_report(result) and load_dataset(name).licence in check_report(result)


@pytest.mark.usefixtures("small")
def test_every_difference_is_named(tmp_path: Path) -> None:
    root = datasets.mvtec_ad(tmp_path / "set/bottle")
    datasets.mvtec_ad(tmp_path / "set/kettle")
    (root / "train/good/000.png").unlink()
    (root / "train/good/001.png").write_bytes((root / "train/good/001.png").read_bytes()[:-300])
    (root / "train/good/003.png").write_bytes((root / "train/good/002.png").read_bytes())
    (root / "test/good/000.png").write_bytes((root / "train/good/004.png").read_bytes())
    (root / "ground_truth/dent/000_mask.png").unlink()
    datasets.mask(root / "ground_truth/scratch/000_mask.png", value=9)
    datasets.mask(root / "ground_truth/scratch/007_mask.png")
    found = check_dataset(tmp_path / "set").all_differences
    assert sorted(line.replace(str(root), "ROOT") for line in found) == sorted(
        [
            "kettle: a category that MVTec AD does not have",
            "cable: missing",
            "bottle: train: 6 images expected, 5 found",
            "bottle: test/dent/000.png: an image of a defect without a mask",
            "bottle: ground_truth/scratch/007_mask.png: a mask without an image: there is no test/scratch/007 with the "
            "suffix of an image",
            next(line for line in found if "truncated" in line).replace(str(root), "ROOT"),
            "bottle: test/good/000.png = train/good/004.png: the same image in two splits or under two labels",
            "bottle: train/good/002.png = train/good/003.png: the same image twice",
            "bottle: ground_truth/scratch/000_mask.png: values other than 0 and 255: 9",
        ]
    )


@pytest.mark.usefixtures("small")
def test_one_category_alone_and_a_wrong_layout(tmp_path: Path) -> None:
    datasets.mpdd(tmp_path / "bottle")
    result = check_dataset(tmp_path / "bottle")
    assert (result.dataset, result.all_differences) == ("mvtec_ad", [])
    datasets.mvtec_loco(tmp_path / "cable")
    assert check_dataset(tmp_path / "cable").all_differences == [
        "cable: has the layout mvtec_loco, published is mvtec_ad"
    ]
    datasets.bmad(tmp_path / "scans")  # a data set of one category may be called anything
    assert check_dataset(tmp_path / "scans", "brainmri").all_differences == []
    with pytest.raises(DataError, match="no data set with the categories scans; give --dataset with one of brainmri"):
        check_dataset(tmp_path / "scans")


@pytest.mark.usefixtures("small")
def test_a_broken_saturation_config_is_a_difference(tmp_path: Path) -> None:
    root = datasets.mvtec_loco(tmp_path / "breakfast_box")
    (root / "defects_config.json").write_text("[]")
    assert any("no entry in defects_config.json" in line for line in check_dataset(root).all_differences)
    (root / "defects_config.json").write_text("{")
    assert "not readable as JSON" in check_dataset(root).all_differences[0]
    (root / "defects_config.json").unlink()
    assert check_dataset(root).all_differences == ["breakfast_box: defects_config.json: missing"]


def test_the_command_prints_and_exits_with_1_at_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.mpdd(tmp_path / "tubes")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "tubes")])
    assert result.exit_code == 1
    assert "| tubes | 6 of 122 | 1 of 32 | 2 of 69 |" in result.output
    assert "- tubes: train: 122 images expected, 6 found" in result.output
