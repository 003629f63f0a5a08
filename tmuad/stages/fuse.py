"""Calibrate the banks on the held-out normal images, fuse, decide, and give reasons in words."""

import itertools
import logging
from typing import Any

import pyarrow as pa

from tmuad.config import Params
from tmuad.describe.table import read_descriptions
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet, write_parquet
from tmuad.score.banks import BankResult
from tmuad.score.fuse import BANKS
from tmuad.score.judge import calibrate_each, judge, subset_score
from tmuad.score.sentences import load_names
from tmuad.score.table import read_results, score_row, verdict_row, worded_findings
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import FINDINGS_SCHEMA, SCORES_SCHEMA, VERDICTS_SCHEMA
from tmuad.workspace import NAMES, UnitPaths

Row = dict[str, Any]

log = logging.getLogger(__name__)


def run(params: Params, unit: str) -> None:
    paths, shape = UnitPaths(unit), shape_of(params)
    names = load_names(NAMES / f"{unit}.yaml")
    descriptions = {d.image_id: d for d in read_descriptions(read_parquet(paths.descriptions))}
    results = read_results(read_parquet(paths.bank_scores), read_parquet(paths.bank_findings))
    held_out = {ref.image_id for ref in unit_images(unit, params, ["validation"])}
    normals = [r for r in results if r.image_id in held_out]
    by_class = any(description.classes for description in descriptions.values())
    calibration, own = calibrate_each(normals, shape, params.fuse, params.decide.of(unit), by_class)
    judged_by = {result.image_id: others for result, others in zip(normals, own, strict=True)}
    calibration.save(paths.calibration)
    if calibration.warning:
        log.warning("%s: %s", unit, calibration.warning)

    def rows(result: BankResult) -> tuple[Row, Row, list[Row]]:
        by = judged_by.get(result.image_id, calibration)
        verdict = judge(result, descriptions[result.image_id], shape, by, params.fuse)
        pairs = {f"{a}+{b}": subset_score(verdict.terms, (a, b)) for a, b in itertools.combinations(BANKS, 2)}
        score = score_row(verdict, calibration.p_value(verdict.score), pairs)
        return score, verdict_row(verdict, result.nearest), worded_findings(verdict, names, shape)

    scores, verdicts, findings = (
        zip(*fork_map(rows, results, params.data.workers), strict=True) if results else [()] * 3
    )
    write_parquet(pa.Table.from_pylist(list(scores), schema=SCORES_SCHEMA), paths.scores, SCORES_SCHEMA)
    write_parquet(pa.Table.from_pylist(list(verdicts), schema=VERDICTS_SCHEMA), paths.verdicts, VERDICTS_SCHEMA)
    write_parquet(
        pa.Table.from_pylist(list(itertools.chain(*findings)), schema=FINDINGS_SCHEMA), paths.findings, FINDINGS_SCHEMA
    )
