"""`tmuad sql`, `rules`, `checks`, `explain`, `threshold`, `audit`: questions about what was learnt and decided."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tmuad.config import load_params
from tmuad.errors import DataError, ParameterError
from tmuad.warehouse.export import Format, encode
from tmuad.workspace import REPORTS, WAREHOUSE

PARAMS = Path("params.yaml")

OneUnit = Annotated[str, typer.Option("--unit", "-u", help="A key of `units` in params.yaml.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (sql, explain):
        app.command()(command)


def sql(
    query: Annotated[str | None, typer.Argument(help="DuckDB SQL; without it, an interactive prompt.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the query from this file.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How the rows are written.")] = Format.table,
    unit: Annotated[str | None, typer.Option("--unit", "-u", help="Let tables and views show this unit alone.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file, not to the screen.")] = None,
    memory: Annotated[str, typer.Option(help="Memory the query may use.")] = "1GB",
    seconds: Annotated[float, typer.Option(help="Time the query may take.")] = 60.0,
    warehouse: Annotated[Path, typer.Option(help="The data base to ask.")] = WAREHOUSE,
) -> None:
    """Ask the data base of descriptions, scores and reasons; read-only.

    Example: tmuad sql "FROM normal_ranges" --unit demo.hardware_kit

    docs/sql.md shows the tables and twenty questions. Without a query and with a terminal, a prompt opens.
    """
    from tmuad.warehouse.access import Limits, Reader, connect

    if query is not None and file is not None:
        raise ParameterError("a query and --file were given; give one of the two")
    text = query if file is None else _read(file)
    limits = Limits(memory, seconds)
    with connect(warehouse, unit, limits) as connection:
        reader = Reader(connection, warehouse, limits)
        if text is None and sys.stdin.isatty():
            from tmuad.warehouse.prompt import run_prompt

            run_prompt(reader, lambda words: typer.echo(words, nl=False), _history())
            return
        content = encode(reader.ask(sys.stdin.read() if text is None else text), form)
    _write(content, out, binary=form is Format.parquet)


def explain(
    image: Annotated[str, typer.Argument(help="A file, a path within the unit, or the beginning of an image id.")],
    unit: OneUnit,
    out: Annotated[Path | None, typer.Option(help="Folder of the card; by default reports/cards/<unit>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """The verdict card of one image: score, shares, nearest normal images, differences, reasons; as HTML and JSON too."""
    import json

    from tmuad.cards.explain import Explainer, write_card
    from tmuad.cards.terminal import card_text

    card, pictures = Explainer.load(unit, load_params(PARAMS)).explain(image)
    html, data = write_card(card, pictures, out or REPORTS / "cards" / unit)
    if as_json:
        typer.echo(json.dumps(card.as_json(), indent=1, ensure_ascii=False))
        return
    typer.echo(card_text(card, colour=sys.stdout.isatty()))
    typer.echo(f"card: {html}, {data}")


def _write(content: bytes, out: Path | None, binary: bool) -> None:
    from tmuad.parquet import write_artifact

    if out is not None:
        write_artifact(out, content)
    elif binary and sys.stdout.isatty():
        raise ParameterError("Parquet is no text for a terminal; give --out FILE, or redirect the output")
    else:
        typer.echo(content, nl=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file with a query") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save the query as UTF-8") from None


def _history() -> Path:
    """Where queries are kept between sessions, as the XDG rules say."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state else Path.home() / ".local/state") / "tmuad/sql_history"
