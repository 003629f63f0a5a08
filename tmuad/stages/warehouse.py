"""The DuckDB product, rebuilt from the units' Parquet."""

import json

from tmuad.config import Params
from tmuad.parquet import write_artifact
from tmuad.warehouse import TABLES, build, query
from tmuad.workspace import ARTIFACTS, REPORTS


def run(params: Params) -> None:
    path = REPORTS / "tmuad.duckdb"
    build(path, ARTIFACTS, list(params.units))
    rows = {table: int(query(path, f'SELECT count(*) AS n FROM "{table}"')["n"][0]) for table in ("units", *TABLES)}
    write_artifact(REPORTS / "warehouse.json", (json.dumps(rows, indent=1) + "\n").encode())
