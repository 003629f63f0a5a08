"""Parquet files of fixed schema: the same rows give the same bytes, and a reader sees a whole file or none."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tmuad.cache import write_atomic
from tmuad.errors import ArtifactError

if TYPE_CHECKING:  # it takes a third of a second to import, and half the stages have no use for it
    import pandas as pd

ROWS = 1024  # that are held as Python's objects at once

# Who writes what, to say how a missing file is made.
STAGES = {
    "manifest.parquet": "prepare",
    "segments.parquet": "segment",
    "descriptions.parquet": "describe",
    "text_bank.parquet": "text_bank",
    "text_entries.parquet": "text_bank",
    "bank_scores.parquet": "score",
    "bank_findings.parquet": "score",
    "scores.parquet": "fuse",
    "verdicts.parquet": "fuse",
    "findings.parquet": "fuse",
    "replicates.parquet": "evaluate",
    "context.parquet": "context",
}


def write_parquet(rows: "pd.DataFrame | pa.Table", path: Path, schema: pa.Schema) -> None:
    """Write `rows` in the columns, order and types of `schema`, and nothing besides: no index, no pandas metadata.

    Raises:
        ArtifactError: the folder cannot be written.
        ValueError: the columns are not those of the schema, or one that must not be null is.
    """
    names = rows.column_names if isinstance(rows, pa.Table) else list(rows.columns)
    if set(names) != set(schema.names):
        raise ValueError(f"{path}: columns {sorted(names)}, but the schema has {sorted(schema.names)}")
    if not isinstance(rows, pa.Table) and rows.empty:
        rows = schema.empty_table()  # a column of no lists has no type that could be converted
    elif not isinstance(rows, pa.Table):
        rows = pa.Table.from_pandas(rows, schema=schema, preserve_index=False, nthreads=1)
    # One chunk without metadata: neither how the table came about nor who made it reaches the file.
    table = rows.select(schema.names).cast(schema).replace_schema_metadata(None).combine_chunks()
    content = BytesIO()
    # Without dictionaries, which take twice the time and a third more room for our masks and maps.
    pq.write_table(table, content, compression="zstd", use_dictionary=False, store_schema=False)
    write_artifact(path, content.getvalue())


def write_artifact(path: Path, content: bytes) -> None:
    """Write any file of a stage, whole or not at all; its folder is made. Raises ArtifactError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror}); make the folder writable or free some space"
        ) from None


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as dictionaries, few at a time: as Python's numbers, masks take many times what they take in the table."""
    for batch in table.to_batches(max_chunksize=ROWS):
        yield from batch.to_pylist()


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in `path`, or the named columns of it in their order.

    Raises:
        ArtifactError: the file is missing, truncated, or of a version that has other columns.
    """
    stage = STAGES.get(path.name)
    remedy = f"run: dvc repro {stage}@{path.parent.name}" if stage else "run: dvc repro"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; {remedy}")
    try:
        with pq.ParquetFile(path) as file:  # not `read_table`, which imports all of pyarrow's data sets
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise ArtifactError(f"{path}: no column {', '.join(missing)}: written by another version; {remedy}")
            table = file.read(columns=None if columns is None else list(columns))
        return table if columns is None else table.select(list(columns))
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: damaged or no Parquet file ({error}); remove it and {remedy}") from None
