"""The DuckDB product, rebuilt from the units' Parquet."""

import json

from tmuad.config import Params
from tmuad.parquet import write_artifact
from tmuad.warehouse import TABLES, build, query
from tmuad.workspace import ARTIFACTS, REPORTS, WAREHOUSE


def run(params: Params) -> None:
    build(WAREHOUSE, ARTIFACTS, list(params.units))
    rows = {table: int(query(WAREHOUSE, f'SELECT count(*) AS n FROM "{table}"')["n"][0]) for table in TABLES}
    write_artifact(REPORTS / "warehouse.json", (json.dumps(rows, indent=1) + "\n").encode())
