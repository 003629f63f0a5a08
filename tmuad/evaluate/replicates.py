"""Every figure of a unit in every bootstrap resample, as an artifact: what two runs are compared by."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from tmuad.evaluate.cells import Cell, Cells
from tmuad.parquet import read_parquet, write_parquet
from tmuad.tables import REPLICATES_SCHEMA

_DIGITS = 5  # sums of float32 differ in the last bits from one processor to another


def write_replicates(cells: Cells, path: Path) -> None:
    """Write the cells that have replicates, sorted by metric. Raises ArtifactError where the folder cannot be written."""
    rows = [
        {"metric": list(key), "value": cell.value, "replicates": np.round(cell.replicates, _DIGITS).tolist()}
        for key, cell in sorted(cells.items())
        if len(cell.replicates) > 1 and np.isfinite(cell.value)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=REPLICATES_SCHEMA), path, REPLICATES_SCHEMA)


def read_replicates(path: Path) -> Cells:
    """The cells behind `write_replicates`. Raises ArtifactError where the file is missing or damaged."""
    table = read_parquet(path, REPLICATES_SCHEMA.names)
    columns = (table[name] for name in REPLICATES_SCHEMA.names)
    return {
        tuple(metric.as_py()): Cell(value.as_py(), replicates.values.to_numpy().astype(np.float64))
        for metric, value, replicates in zip(*columns, strict=True)
    }
