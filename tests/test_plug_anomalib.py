"""The text bank with the real anomalib: its PatchCore is trained, asked, and joined, in files and as a callback."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugging import image_paths
from typer.testing import CliRunner

from tmuad.cli import app
from tmuad.errors import DataError
from tmuad.plug import TextBank
from tmuad.plug.adapters.anomalib import from_predictions, save_predictions

# anomalib takes seconds to import: that is left to the tests, so that whoever only collects them need not wait.
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("anomalib") is None, reason="the optional extra anomalib is missing"),
    pytest.mark.filterwarnings("ignore"),
]
SIZE = (64, 64)
LOGICAL = "test/logical_anomalies/00.png"


def loader(root: Path, paths: list[str]) -> Any:
    from anomalib.data import PredictDataset
    from torch.utils.data import ConcatDataset, DataLoader

    parts = [PredictDataset(root / path, image_size=SIZE) for path in paths]
    return DataLoader(ConcatDataset(parts), batch_size=3, collate_fn=parts[0].collate_fn)


def engine(folder: Path, *callbacks: Any) -> Any:
    from anomalib.engine import Engine

    return Engine(callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", logger=False)


@pytest.fixture(scope="module")
def model(tested_unit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PatchCore with a randomly initialised backbone: nothing is downloaded."""
    from anomalib.models import Patchcore

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
    from tmuad.plug.adapters.anomalib_callback import TextBankCallback

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
    from tmuad.plug.adapters.anomalib_callback import TextBankCallback

    monkeypatch.chdir(tested_unit)
    normals = {path: torch.rand(*SIZE) for path in image_paths(tested_unit, "validation")}
    callback = TextBankCallback(TextBank.load("kit").calibrate(normals))
    monkeypatch.setattr(model.post_processor, "enable_normalization", True)
    with pytest.raises(DataError, match="would normalise the fused scores"):
        engine(tmp_path, callback).predict(model, dataloaders=loader(tested_unit / "photos", [LOGICAL]))
