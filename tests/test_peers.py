"""benchmarks/peers.py: what its table says, and the whole contest at toy size with the real anomalib."""

import importlib.util
import re
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from fits import data_set
from sklearn.metrics import roc_auc_score

FILE = Path(__file__).parent.parent / "benchmarks/peers.py"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = ["good"] * 10 + ["logical"] * 8 + ["structural"] * 6
TEST = [{"image_id": f"{i:02}", "path": f"{i}.png", "split": "test", "kind": kind} for i, kind in enumerate(KINDS)]
SCORES = dict(zip((image["path"] for image in TEST), np.random.default_rng(0).random(24).tolist(), strict=True))


def result(peak: float) -> dict[str, object]:
    return {"fit": 10.0, "scores": SCORES, "seconds": [9.0] + [0.25] * 23, "peak_mb": peak}


def test_figures_are_the_aurocs_with_intervals(peers: ModuleType) -> None:
    for cell, kinds in zip(
        peers.figures(TEST, SCORES), ({"logical", "structural"}, {"logical"}, {"structural"}), strict=True
    ):
        chosen = [image for image in TEST if image["kind"] in {"good", *kinds}]
        exact = roc_auc_score(
            [image["kind"] != "good" for image in chosen], [SCORES[image["path"]] for image in chosen]
        )
        value, low, high = (float(part.strip("[],")) for part in cell.split())
        assert value == pytest.approx(100 * exact, abs=0.051) and low < value < high
    only_good = [image for image in TEST if image["kind"] == "good"]
    assert list(peers.figures(only_good, SCORES)) == ["–", "–", "–"]


def test_the_table_has_each_detector_with_and_without_the_text_bank(peers: ModuleType) -> None:
    options = Namespace(backbone_weights=None, backbone="resnet18", size=224, threads=1)
    results = {"ours": result(500.0), "patchcore": result(900.0)}
    joined = {"patchcore": {"scores": SCORES, "seconds": [1.0] + [0.5] * 23, "peak_mb": 700.0}}
    table = peers.written(Path("/data/kit"), TEST, results, joined, options)
    rows = [line for line in table.splitlines() if line.startswith(("| tmuad", "| anomalib"))]
    assert [row.split("|")[1].strip() for row in rows] == [
        "tmuad, embedded", "anomalib PatchCore", "anomalib PatchCore + M_T",
    ]  # fmt: skip
    assert rows[1].endswith("| 10 | 0.250 [0.250, 0.250] | 900 |")  # the first image warms up
    assert rows[2].endswith("| 20 | 0.750 [0.750, 0.750] | 900 |")  # both fits, both times, the larger process
    assert "random weights" in table and "10 good, 8 logical, 6 structural" in table and "/data" not in table


def test_the_contenders_fit_without_the_test_images(peers: ModuleType, tmp_path: Path) -> None:
    import yaml

    from tmuad.parquet import read_parquet
    from tmuad.workspace import UnitPaths

    root = data_set(tmp_path / "kit")
    work = tmp_path / "work"
    work.mkdir()
    units = {"unit": {"root": str(root), "layout": "mvtec_loco"}}
    (work / "params.yaml").write_text(yaml.safe_dump({"units": units, "data": {"workers": 1}}))
    images = peers.prepare(work, root)
    assert sum(image["split"] == "test" for image in images) == 4
    kept = read_parquet(work / UnitPaths("unit").manifest, ["split"])["split"].to_pylist()
    assert sorted(set(kept)) == ["train", "validation"] and len(kept) == len(images) - 4
    with pytest.raises(SystemExit, match=r"nowhere: no such folder; name one with --root"):
        peers.chosen(Namespace(root=tmp_path / "nowhere", layout=None))
    assert peers.chosen(Namespace(root=root, layout=None)) == (root, "mvtec_loco")


# ---- the contest itself


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's weights as they are published, drawn from a seed of their own."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(11)
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(timm.create_model("resnet18", pretrained=False).state_dict(), file)
    return file


def test_all_contenders_meet_on_the_same_images(
    peers: ModuleType, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, work = data_set(tmp_path / "kit"), tmp_path / "work"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    where = ["--root", str(root), "--keep", str(work), "--out", str(tmp_path / "out/table.md")]
    how = ["--models", "patchcore", "--backbone-weights", str(backbone), "--coreset", "0.1"]
    monkeypatch.setattr(sys, "argv", ["peers.py", *where, *how, "--size", "64", "--our-size", "96"])
    monkeypatch.chdir(tmp_path)
    peers.main()
    table = (tmp_path / "out/table.md").read_text()
    assert "kit: 8 training images; test images: 2 good, 1 logical, 1 structural" in table
    assert "anomalib's resnet18, 64 px, given weights" in table
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| ")}
    names = ["tmuad, embedded", "anomalib PatchCore", "anomalib PatchCore + M_T"]
    assert [name for name in rows if name in names] == names
    for name in names:
        assert all(0 <= float(cell.split()[0]) <= 100 for cell in rows[name][:3])
        seconds, low, high = map(float, re.findall(r"[0-9.]+", rows[name][4]))
        assert 0 < low <= seconds <= high and float(rows[name][5]) > 100
    assert float(rows["anomalib PatchCore + M_T"][1].split()[0]) == 100  # a disc too few: the text bank sees it
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before  # read where it lies
    assert maps_of(work, "patchcore") == {f"{image}.npy" for image in judged(root)}


def judged(root: Path) -> set[str]:
    """The images that a detector is asked about, below `root`."""
    return {p.relative_to(root).as_posix() for split in ("validation", "test") for p in (root / split).rglob("*.png")}


def maps_of(work: Path, model: str) -> set[str]:
    home = work / "maps" / model
    return {p.relative_to(home).as_posix() for p in home.rglob("*.npy")}


def test_padim_with_given_weights(peers: ModuleType, backbone: Path, tmp_path: Path) -> None:
    root = data_set(tmp_path / "kit")
    splits = [
        (p, p.relative_to(root).as_posix()) for p in sorted(root.rglob("good/*.png")) + sorted(root.glob("test/*_*/*"))
    ]
    images = [{"path": path, "split": path.split("/")[0]} for _, path in splits]
    given = {
        "name": "padim",
        "root": str(root),
        "work": str(tmp_path),
        "size": 64,
        "backbone": "resnet18",
        "coreset": 0.1,
    }
    found = [peers.anomalib_model({**given, "images": images, "weights": w}) for w in (str(backbone), None)]
    tested = {image["path"] for image in images if image["split"] == "test"}
    for result in found:
        assert set(result["scores"]) == tested and len(result["seconds"]) == len(tested) and result["fit"] > 0
        assert np.isfinite(list(result["scores"].values())).all()
    assert found[0]["scores"] != found[1]["scores"]  # the weights make the difference
    assert maps_of(tmp_path, "padim") == {f"{image}.npy" for image in judged(root)}


def test_given_weights_are_those_of_the_backbone(peers: ModuleType, backbone: Path, tmp_path: Path) -> None:
    from anomalib.models import Padim, Patchcore
    from safetensors.torch import load_file, save_file

    given = load_file(backbone)
    pickled = tmp_path / "resnet18.pth"
    torch.save(given, pickled)
    plain = {"post_processor": False, "evaluator": False, "visualizer": False, "pre_trained": False}
    for kind, file in ((Patchcore, backbone), (Padim, pickled)):
        model = kind("resnet18", **plain)
        peers.load_backbone(model, file)
        state = model.model.feature_extractor.feature_extractor.state_dict()
        assert len(state) > 50 and all(torch.equal(state[name], given[name]) for name in state)
    save_file(
        {name: tensor for name, tensor in given.items() if name != "layer2.0.conv1.weight"},
        tmp_path / "few.safetensors",
    )
    with pytest.raises(
        SystemExit, match=r"few\.safetensors: not the weights of this backbone, layer2\.0\.conv1\.weight is missing"
    ):
        peers.load_backbone(Patchcore("resnet18", **plain), tmp_path / "few.safetensors")
    save_file({**given, "conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(SystemExit, match=r"other\.safetensors: not the weights of this backbone.*conv1\.weight"):
        peers.load_backbone(Patchcore("resnet18", **plain), tmp_path / "other.safetensors")
    (tmp_path / "none.pth").write_bytes(b"no weights")
    with pytest.raises(SystemExit, match=r"none\.pth: not readable as weights"):
        peers.load_backbone(Patchcore("resnet18", **plain), tmp_path / "none.pth")
