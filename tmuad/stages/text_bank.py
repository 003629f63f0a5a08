"""The text memory bank: descriptions of the training split, without those that all others contradict."""

import logging

import pyarrow as pa

from tmuad.banks.text import TextBank, outvoted
from tmuad.config import Params
from tmuad.describe.table import descriptions_table, read_descriptions
from tmuad.parquet import read_parquet, write_parquet
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import DESCRIPTIONS_SCHEMA, TEXT_BANK_SCHEMA
from tmuad.workspace import UnitPaths

log = logging.getLogger(__name__)


def run(params: Params, unit: str) -> None:
    paths, shape = UnitPaths(unit), shape_of(params)
    train = {ref.image_id: ref.path for ref in unit_images(unit, params, ["train"])}
    entries = [d for d in read_descriptions(read_parquet(paths.descriptions)) if d.image_id in train]
    wrong = set(outvoted(entries))
    for i in sorted(wrong):
        log.warning(
            "%s: left out of the text bank, all others disagree: %s", train[entries[i].image_id], entries[i].text
        )
    bank = TextBank([entry for i, entry in enumerate(entries) if i not in wrong], shape)
    table = descriptions_table(bank.entries, shape, params.describe.fuzz)
    write_parquet(table, paths.text_entries, DESCRIPTIONS_SCHEMA)
    write_parquet(pa.Table.from_pylist(bank.rows(), schema=TEXT_BANK_SCHEMA), paths.text_bank, TEXT_BANK_SCHEMA)
