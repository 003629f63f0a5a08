"""Reading the warehouse and nothing else: no other file, no extension, no change, and never all of the machine."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from tmuad.errors import ArtifactError, ParameterError, TmuadError
from tmuad.warehouse.schema import TABLES, VERSION
from tmuad.warehouse.views import VIEWS
from tmuad.workspace import WAREHOUSE


class QueryError(TmuadError):
    """A query that DuckDB refuses, or that would take too much; the message says where, or how much."""


@dataclass(frozen=True)
class Limits:
    """What one query may use."""

    memory: str = "1GB"  # with a unit; a query that needs more is an error, and nothing is spilt to disk
    seconds: float = 60.0
    threads: int = 2

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-9]\d*(\.\d+)? ?(KB|MB|GB|TB|KiB|MiB|GiB|TiB)", self.memory, re.IGNORECASE):
            raise ParameterError(f"memory limit '{self.memory}': expected a size such as 500MB or 2GB")
        if not 0 < self.seconds <= threading.TIMEOUT_MAX:
            raise ParameterError(f"time limit {self.seconds:g}: expected seconds above 0")


DEFAULT_LIMITS = Limits()


class Reader:
    """An open warehouse that answers one query at a time within `limits`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path, limits: Limits) -> None:
        self.connection, self.path, self.limits = connection, path, limits

    def ask(self, sql: str) -> pa.Table:
        """The rows of the last statement of `sql`.

        Raises:
            QueryError: DuckDB refuses it, there is none, or it exceeds a limit.
        """
        if any("\ud800" <= character <= "\udfff" for character in sql):
            raise QueryError("the query holds a character that is no valid Unicode; type it anew")
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.connection.interrupt()

        timer = threading.Timer(self.limits.seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            result = self.connection.execute(sql)
            if result is None or result.description is None:
                raise QueryError('the query is empty; try "FROM units" or "SHOW TABLES"')
            with warnings.catch_warnings():  # it prefers another call, which takes one statement of one kind only
                warnings.simplefilter("ignore", UserWarning)
                rows: pa.Table = result.to_arrow_table()
            return rows
        except duckdb.InterruptException:
            if not late.is_set():
                raise KeyboardInterrupt from None
            raise QueryError(
                f"stopped after {self.limits.seconds:g} s; join on unit and image_id, narrow it with WHERE, or allow more "
                "time (--seconds)"
            ) from None
        except duckdb.OutOfMemoryException as error:
            raise QueryError(
                f"the query needs more than {self.limits.memory} of memory ({_first_line(error)}); narrow it, aggregate, or "
                "allow more (--memory)"
            ) from None
        except duckdb.Error as error:
            raise QueryError(_pointed(str(error), self.path)) from None
        finally:
            timer.cancel()


@contextmanager
def connect(
    path: Path, unit: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `open_warehouse`, closed at the end."""
    with open_warehouse(path, unit, limits) as connection:
        yield connection


def open_warehouse(
    path: Path = WAREHOUSE, unit: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that can read the warehouse `path` and nothing else; close it, or use it in a `with`.

    `connection.sql("FROM verdicts").df()` gives pandas, `.to_arrow_table()` Arrow. With `unit`, every table and view shows
    the rows of that unit alone. The limit on time holds for `Reader` and `query`, not for the bare connection.

    Raises:
        ArtifactError: the file is missing, or not a warehouse that this version reads.
        ParameterError: there is no such unit in it.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such warehouse; `dvc repro` builds it")
    config: dict[str, Any] = {
        "enable_external_access": False,
        "python_enable_replacements": False,  # a query must not see variables of the program around it
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": limits.memory,
        "threads": limits.threads,
        "temp_directory": "",  # spilling would turn a limit on memory into gigabytes on disk
        "lock_configuration": True,
    }
    try:
        connection = duckdb.connect(str(path), read_only=True, config=config)
    except duckdb.Error as error:
        raise ArtifactError(f"{path}: not readable as a warehouse ({error}); `dvc repro` rebuilds it") from None
    try:
        _check_version(connection, path)
        if unit is not None:
            _narrow(connection, path, unit)
    except BaseException:
        connection.close()
        raise
    return connection


def query(path: Path, sql: str, unit: str | None = None, limits: Limits = DEFAULT_LIMITS) -> pd.DataFrame:
    """The rows that `sql` selects from the warehouse `path`.

    Raises:
        ArtifactError, ParameterError: as `open_warehouse`.
        QueryError: as `Reader.ask`.
    """
    with connect(path, unit, limits) as connection:
        frame: pd.DataFrame = Reader(connection, path, limits).ask(sql).to_pandas()
        return frame


def _check_version(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        rows = connection.execute("SELECT version FROM versions WHERE part = 'schema'").fetchall()
    except duckdb.Error:
        rows = []
    if rows != [(str(VERSION),)]:
        found = f"of version {rows[0][0]}" if rows else "without a version: another program's, or an early one"
        raise ArtifactError(
            f"{path}: a warehouse {found}, but this tmuad reads version {VERSION}; `dvc repro --force warehouse` rebuilds it"
        )


def _narrow(connection: duckdb.DuckDBPyConnection, path: Path, unit: str) -> None:
    """Temporary views of the same names, which stand before those of the file."""
    known = [name for (name,) in connection.execute("SELECT unit FROM units ORDER BY unit").fetchall()]
    if unit not in known:
        raise ParameterError(f"{path}: no unit '{unit}' in it; it has: {', '.join(known) or 'none'}")
    [(catalog,)] = connection.execute("SELECT current_catalog()").fetchall()
    here = catalog.replace('"', '""')
    literal = unit.replace("'", "''")
    for name in (*TABLES, *VIEWS):
        connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM \"{here}\".main.{name} WHERE unit = '{literal}'")


def _pointed(message: str, path: Path) -> str:
    """DuckDB's message, which points at the mistake with a caret; with what to do where it alone does not tell."""
    message = message.strip()
    if re.search(r"read-only|disabled (by|through) configuration|configuration has been locked", message):
        message += (
            f"\nThe warehouse is a copy to read: nothing can be changed, and no file but {path} is open to a query."
        )
    elif "does not exist" in message and message.startswith("Catalog Error: Table"):
        message += f"\nTables: {', '.join(TABLES)}.\nViews: {', '.join(VIEWS)}."
    return message


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
