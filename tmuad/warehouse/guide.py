"""docs/sql.md: the tables as a diagram and in words, and twenty questions with their SQL and real answers.

`python -m tmuad.warehouse.guide docs/sql.md` writes it anew from reports/tmuad.duckdb.
"""

import sys
from pathlib import Path

import pyarrow as pa

from tmuad.cache import write_atomic
from tmuad.tables import comment_of
from tmuad.warehouse.access import DEFAULT_LIMITS, Reader, connect
from tmuad.warehouse.export import as_text
from tmuad.warehouse.questions import QUESTIONS
from tmuad.warehouse.schema import TABLES
from tmuad.warehouse.views import VIEWS
from tmuad.workspace import WAREHOUSE

HEAD = """\
# Asking questions in SQL

`dvc repro` writes everything that was learnt and decided to `reports/tmuad.duckdb`. Three ways to ask it:

```console
$ tmuad sql "FROM normal_ranges"                       # --format table|csv|json|parquet, --file, --unit, --out
$ tmuad sql                                            # a prompt with history and completion; .help explains
$ python -c "import tmuad; print(tmuad.open_warehouse().sql('FROM verdicts').df())"
```

A query can read the data base and nothing else: it cannot write, attach, load extensions, or see files. It may use 1 GB of
memory and a minute (`--memory`, `--seconds`). With `--unit U` all tables and views show that unit alone.
`tmuad.open_warehouse()` gives the same read-only connection, for pandas (`.df()`) and Arrow (`.to_arrow_table()`);
[warehouse.ipynb](warehouse.ipynb) shows how.

The file is a copy, rebuilt each time; the Parquet files in `artifacts/` are what counts. A file that another version wrote is
refused, with the command that rebuilds it. Written by `python -m tmuad.warehouse.guide docs/sql.md`.

Questions worth asking again belong into [data/queries](../data/queries/README.md): `dvc repro checks` asks them every time.
"""


def write_guide(path: Path, warehouse: Path = WAREHOUSE) -> None:
    """Write the guide with the answers of `warehouse`. Raises ArtifactError without one, QueryError if a question fails."""
    with connect(warehouse) as connection:
        reader = Reader(connection, warehouse, DEFAULT_LIMITS)
        answers = [as_text(reader.ask(sql), max_rows=20, max_cell=46) for _, sql in QUESTIONS]
    parts = [HEAD, "## Tables\n", _diagram(), _tables(), "## Views\n", _views(), f"## {len(QUESTIONS)} questions\n"]
    for number, ((question, sql), answer) in enumerate(zip(QUESTIONS, answers, strict=True), start=1):
        parts.append(f"### {number}. {question}\n\n```sql\n{sql.strip()}\n```\n\n```text\n{answer}```\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "\n".join(parts).encode())


def _diagram() -> str:
    """Mermaid: keys, and the columns whose names it can spell."""
    lines = ["```mermaid", "erDiagram"]
    for name, table in TABLES.items():
        if table.parent:
            several = "o|" if table.key == TABLES[table.parent].key else "o{"
            lines.append(f"    {table.parent} ||--{several} {name} : has")
    for name, table in TABLES.items():
        lines.append(f"    {name} {{")
        foreign = TABLES[table.parent].key if table.parent else ()
        for field in table.schema:
            if field.name.isidentifier():
                marks = [mark for mark, columns in (("PK", table.key), ("FK", foreign)) if field.name in columns]
                lines.append(f"        {_type(field.type)} {field.name} {','.join(marks)}".rstrip())
        lines.append("    }")
    return "\n".join([*lines, "```", ""])


def _tables() -> str:
    parts = []
    for name, table in TABLES.items():
        rows = [f"| `{f.name}` | {_type(f.type)} | {_cell(comment_of(f))} |" for f in table.schema]
        key = ", ".join(f"`{column}`" for column in table.key)
        parts.append(
            f"### {name}\n\n{table.comment.capitalize()}. Key: {key}.\n\n| column | type | meaning |\n|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)


def _views() -> str:
    rows = [f"| `{name}` | {_cell(comment)} |" for name, (_, comment) in VIEWS.items()]
    return "| view | what a row is |\n|---|---|\n" + "\n".join(rows) + "\n"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    return str(kind).replace("timestamp[s]", "timestamp").replace("double", "float64")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    write_guide(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/sql.md"))
