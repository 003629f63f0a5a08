"""In which formats rows are written. On its own, because the command line needs the names long before the writers."""

from enum import StrEnum


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
