"""The text bank with the real anomalib: its PatchCore is trained, asked, and joined, in files and as a callback."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugging import image_paths
from typer.testing import CliRunner

from tmuad.errors import DataError

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore", module="lightning|torch|timm")
anomalib = pytest.importorskip("anomalib", reason="the optional extra anomalib is not installed")
from anomalib.data import PredictDataset  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Patchcore  # noqa: E402
from torch.utils.data import ConcatDataset, DataLoader  # noqa: E402

from tmuad.cli import app  # noqa: E402
from tmuad.plug import TextBank  # noqa: E402
from tmuad.plug.adapters.anomalib import from_predictions, save_predictions  # noqa: E402
from tmuad.plug.adapters.anomalib_callback import TextBankCallback  # noqa: E402

SIZE = (64, 64)
LOGICAL = "test/logical_anomalies/00.png"


def loader(root: Path, paths: list[str]) -> Any:
    parts = [PredictDataset(root / path, image_size=SIZE) for path in paths]
    return DataLoader(ConcatDataset(parts), batch_size=3, collate_fn=parts[0].collate_fn)


def engine(folder: Path, *callbacks: Any) -> Any:
    return Engine(callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", logger=False)


@pytest.fixture(scope="module")
def model(tested_unit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PatchCore with a randomly initialised backbone: nothing is downloaded."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Patchcore(
        "resnet18",
        layers=("layer1",),
        pre_trained=False,
        coreset_sampling_ratio=0.05,
        pre_processor=Patchcore.configure_pre_processor(SIZE),
        evaluator=False,
        visualizer=False,
    )
    model.post_processor.enable_normalization = False
    train = loader(tested_unit / "photos", image_paths(tested_unit, "train"))
    engine(tmp_path_factory.mktemp("engine")).fit(model, train_dataloaders=train)
    yield model
    torch.set_num_threads(before)


def test_patchcore_learns_logic_in_files_and_as_a_callback(
    model: Any, tested_unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tested_unit)
    root = tested_unit / "photos"
    tests = image_paths(tested_unit, "test")
    good = engine(tmp_path / "a").predict(model, data_path=root / "validation")
    plain = engine(tmp_path / "b").predict(model, dataloaders=loader(root, tests))
    maps, scores = from_predictions(plain)
    assert sorted(maps) == sorted(str(root / path) for path in tests)
    assert all(array.shape == SIZE for array in maps.values())

    fusion = TextBank.load("kit").calibrate(*from_predictions(good))
    callback = TextBankCallback(fusion)
    fused = engine(tmp_path / "c", callback).predict(model, dataloaders=loader(root, tests))
    for before, after in zip(plain, fused, strict=True):
        assert after.anomaly_map.shape == before.anomaly_map.shape and after.pred_mask.shape == before.pred_mask.shape
        assert after.pred_label.dtype == torch.bool and after.pred_mask.dtype == torch.bool
        for i, path in enumerate(after.image_path):
            expected, _ = fusion.one(path, maps[path], scores[path])
            assert float(after.pred_score[i]) == pytest.approx(expected.score, rel=1e-5)
            assert bool(after.pred_label[i]) == expected.anomalous and callback.images[path] == expected
    logical = callback.images[str(root / LOGICAL)]
    assert logical.anomalous and any("1 is missing" in reason for reason in logical.reasons)

    # the same through files and the command
    save_predictions([*good, *plain], root, tmp_path / "maps")
    arguments = ["plug", "--unit", "kit", "--from", "anomalib", "--maps", str(tmp_path / "maps")]
    result = CliRunner().invoke(app, [*arguments, "--name", "PatchCore", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    row = next(line for line in (tmp_path / "out/patchcore.csv").read_text().splitlines() if line.startswith(LOGICAL))
    assert float(row.split(",")[4]) == pytest.approx(logical.score, rel=1e-4)
    assert not list(tested_unit.glob("results")) and not list(Path.cwd().glob("lightning_logs"))


def test_normalisation_by_anomalib_is_refused(
    model: Any, tested_unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tested_unit)
    normals = {path: torch.rand(*SIZE) for path in image_paths(tested_unit, "validation")}
    callback = TextBankCallback(TextBank.load("kit").calibrate(normals))
    monkeypatch.setattr(model.post_processor, "enable_normalization", True)
    with pytest.raises(DataError, match="would normalise the fused scores"):
        engine(tmp_path, callback).predict(model, dataloaders=loader(tested_unit / "photos", [LOGICAL]))
