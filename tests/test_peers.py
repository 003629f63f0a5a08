"""benchmarks/peers.py: what its table says, without the runs behind it."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
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
