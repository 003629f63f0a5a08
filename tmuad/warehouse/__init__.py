"""The DuckDB product: all units' artifacts as tables with keys and comments, and views for what people ask.

`build` writes the file, `access` reads it and nothing else, `export` puts results into words and files.
"""

from tmuad.warehouse.access import DEFAULT_LIMITS, Limits, QueryError, Reader, connect, open_warehouse, query
from tmuad.warehouse.build import build
from tmuad.warehouse.schema import TABLES, VERSION
from tmuad.warehouse.views import VIEWS

__all__ = [
    "DEFAULT_LIMITS", "TABLES", "VERSION", "VIEWS",
    "Limits", "QueryError", "Reader", "build", "connect", "open_warehouse", "query",
]  # fmt: skip
