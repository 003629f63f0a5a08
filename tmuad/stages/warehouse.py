"""The DuckDB product, rebuilt from the units' Parquet."""

import json

from tmuad.cache import write_atomic
from tmuad.config import Params
from tmuad.warehouse import TABLES, build, query
from tmuad.workspace import ARTIFACTS, REPORTS


def run(params: Params) -> None:
    path = REPORTS / "tmuad.duckdb"
    REPORTS.mkdir(exist_ok=True)
    build(path, ARTIFACTS, list(params.units))
    rows = {table: int(query(path, f'SELECT count(*) AS n FROM "{table}"')["n"][0]) for table in ("units", *TABLES)}
    write_atomic(REPORTS / "warehouse.json", (json.dumps(rows, indent=1) + "\n").encode())
