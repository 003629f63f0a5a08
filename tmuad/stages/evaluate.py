"""Metrics of one unit against its ground truth, and the ROC curves for `dvc plots`."""

import pandas as pd

from tmuad.config import Params
from tmuad.evaluate.bootstrap import Bootstrap
from tmuad.evaluate.evaluate import Decision, evaluate_unit, metrics_json
from tmuad.evaluate.replicates import write_replicates
from tmuad.parquet import read_parquet, write_artifact
from tmuad.score.fuse import load_calibration
from tmuad.stages.maps import bank_maps, truths
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths = UnitPaths(unit)
    calibration = load_calibration(paths.calibration)
    decision = Decision(calibration.threshold, calibration.false_alarm_rate, calibration.normals)
    evaluation = evaluate_unit(
        read_parquet(paths.manifest).to_pandas(),
        read_parquet(paths.scores).to_pandas(),
        bank_maps(params, unit, calibration),
        truths(params, unit),
        decision,
        Bootstrap(params.evaluate.resamples, params.evaluate.seed),
        params.data.workers,
    )
    write_artifact(paths.metrics, metrics_json(evaluation.metrics).encode())
    write_replicates(evaluation.cells, paths.replicates)
    curves = [curve.assign(level=level) for level, curve in evaluation.curves.items()]
    write_artifact(paths.curves, pd.concat(curves).to_csv(index=False, lineterminator="\n").encode())
