"""The held-out and test images against the three banks."""

from typing import Any

import pyarrow as pa

from tmuad.banks import slots
from tmuad.banks.remembered import Remembered
from tmuad.banks.slots import load_object_bank, load_patch_bank
from tmuad.banks.text import TextBank
from tmuad.config import Params
from tmuad.describe.table import read_descriptions
from tmuad.encode.features import patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, records_of
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet, write_parquet
from tmuad.score.banks import BankResult
from tmuad.score.score import score_image
from tmuad.score.table import finding_rows, open_regions, result_row
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import BANK_FINDINGS_SCHEMA, BANK_SCORES_SCHEMA
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths = UnitPaths(unit)
    text_bank = TextBank(read_descriptions(read_parquet(paths.text_entries)), shape_of(params))
    object_bank, patch_bank = load_object_bank(paths.object_bank), load_patch_bank(paths.patch_bank)
    descriptions = {d.image_id: d for d in read_descriptions(read_parquet(paths.descriptions))}
    regions = {} if object_bank.by_class else open_regions(read_parquet(paths.segments, ["image_id", "source", "runs"]))
    images, task = unit_images(unit, params, ["validation", "test"]), feature_task(params, unit)
    patch_map = slots.patch_map(patch_bank, Remembered(task, params.data))
    read = records_of(task, images, params.data)

    def score(ref: ImageRef) -> BankResult:
        record = read(ref)
        mine, open_segments = descriptions[ref.image_id], regions.get(ref.image_id, [])
        patches = patch_map(ref, patch_image(record, mine, params.data.size))
        return score_image(mine, open_segments, record, text_bank, object_bank, patches, params)

    scores: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    for result in fork_map(score, images, read.workers):
        scores.append(result_row(result))
        findings += finding_rows(result)
    write_parquet(pa.Table.from_pylist(scores, schema=BANK_SCORES_SCHEMA), paths.bank_scores, BANK_SCORES_SCHEMA)
    write_parquet(
        pa.Table.from_pylist(findings, schema=BANK_FINDINGS_SCHEMA), paths.bank_findings, BANK_FINDINGS_SCHEMA
    )
