"""The stage evaluate and `tmuad export-maps` on a data set on disk, from scored artifacts on."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sample_datasets as datasets
import tifffile
import yaml
from typer.testing import CliRunner

from tmuad import masks
from tmuad.cli import app
from tmuad.config import Params, load_params
from tmuad.evaluate.replicates import read_replicates
from tmuad.parquet import read_parquet, write_parquet
from tmuad.score.banks import BankResult
from tmuad.score.fuse import Calibration
from tmuad.score.table import finding_rows, result_row
from tmuad.score.text import Finding
from tmuad.stages import evaluate, prepare
from tmuad.stages.maps import truth_masks, truths
from tmuad.tables import BANK_FINDINGS_SCHEMA, BANK_SCORES_SCHEMA, SCORES_SCHEMA
from tmuad.workspace import UnitPaths

SIZE = 64
CALIBRATION = Calibration(
    centre=dict.fromkeys(("text", "objects", "patches"), 0.1),
    scale=dict.fromkeys(("text", "objects", "patches"), 0.1),
    reliability={},
    threshold=3.0,
    false_alarm_rate=0.05,
    normal_scores=tuple(np.linspace(0, 3, 20)),
)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A unit in the layout of MVTec LOCO, prepared, and scored by a text bank that finds every defect's upper left."""
    monkeypatch.chdir(tmp_path)
    root = datasets.mvtec_loco(tmp_path / "kit")
    for kind, seed in (("good", 2000), ("logical_anomalies", 2001), ("structural_anomalies", 2002)):
        datasets.picture(root / f"test/{kind}/001.png", seed)
        if kind != "good":
            datasets.mask(root / f"ground_truth/{kind}/001/000.png")
    Path("params.yaml").write_text(
        yaml.safe_dump({"units": {"kit": {"root": "kit", "layout": "mvtec_loco"}}, "data": {"size": SIZE}})
    )
    params, paths = load_params(Path("params.yaml")), UnitPaths("kit")
    prepare.run(params, "kit")
    manifest = read_parquet(paths.manifest).to_pandas()
    found = np.zeros((SIZE, SIZE), bool)
    found[8:17, 8:17] = True
    scores, findings, rows = [], [], []
    for number, (image_id, kind) in enumerate(zip(manifest["image_id"], manifest["kind"], strict=True)):
        finding = Finding("class-1", "missing", "1", "0", 1.0, masks.encode(found), 1, "top left")
        noise = np.random.default_rng(number).random((4, 4)).astype(np.float32) / 5
        nothing = np.zeros(0, np.float32)
        result = BankResult(image_id, [] if kind == "good" else [finding], "", [], nothing, noise)
        scores.append(result_row(result))
        findings += finding_rows(result)
        maxima = {name: float(values.max()) for name, values in result.maps((SIZE, SIZE), {}).items()}
        rows.append(
            {"image_id": image_id, "score": sum(maxima.values()), "p_value": 0.5}
            | {f"s_{name}": value for name, value in maxima.items()}
            | dict.fromkeys(("s_text+objects", "s_text+patches", "s_objects+patches"))
        )
    for table, path, schema in (
        (scores, paths.bank_scores, BANK_SCORES_SCHEMA),
        (findings, paths.bank_findings, BANK_FINDINGS_SCHEMA),
        (rows, paths.scores, SCORES_SCHEMA),
    ):
        write_parquet(pa.Table.from_pylist(table, schema=schema), path, schema)
    CALIBRATION.save(paths.calibration)
    return params


def test_the_defects_of_an_image_come_from_its_files_and_the_config(params: Params) -> None:
    truth = truths(params, "kit")("test/logical_anomalies/000.png")
    assert [defect.name for defect in truth.defects] == ["missing", "extra"]
    np.testing.assert_array_equal(truth.mask, truth_masks(params, "kit")("test/logical_anomalies/000.png"))
    (Path("kit") / "defects_config.json").unlink()
    assert truths(params, "kit")("test/logical_anomalies/000.png").defects == ()


def test_evaluate_writes_figures_intervals_and_replicates(params: Params) -> None:
    paths = UnitPaths("kit")
    evaluate.run(params, "kit")
    written = [path.read_bytes() for path in (paths.metrics, paths.replicates, paths.curves)]
    metrics = json.loads(written[0])
    assert metrics["image"]["auroc"] == 1.0 and metrics["decision"]["threshold"] == 3.0
    assert set(metrics["defects"]) == {"missing", "extra"}
    # The finding covers most of each defect, and nothing else scores higher than it.
    assert 0.5 < metrics["pixel"]["spro_5"] <= 1 and metrics["pixel"]["aupro"] > 0.5
    assert set(metrics["intervals"]["pixel"]) == set(metrics["pixel"])
    assert read_replicates(paths.replicates)["pixel", "aupro"].value == pytest.approx(
        metrics["pixel"]["aupro"], abs=1e-6
    )
    evaluate.run(params, "kit")
    assert [path.read_bytes() for path in (paths.metrics, paths.replicates, paths.curves)] == written


@pytest.mark.usefixtures("params")
def test_maps_are_exported_in_the_size_of_the_images() -> None:
    result = CliRunner().invoke(app, ["export-maps", "--unit", "kit", "--format", "tiff", "--out", "maps"])
    assert result.exit_code == 0 and "kit: 6 maps in maps/kit (tiff)" in result.output
    good, bad = (tifffile.imread(f"maps/kit/test/{name}/001.tiff") for name in ("good", "structural_anomalies"))
    assert good.shape == bad.shape == (32, 32) and bad.dtype == np.float32
    assert bad[4:7, 4:7].min() > good.max()
    again = CliRunner().invoke(app, ["export-maps", "--out", "maps"])
    assert again.exit_code == 1 and "holds 6 maps" in str(again.exception)
