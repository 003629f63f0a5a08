"""`tmuad sql`, `rules`, `checks`, `explain`, `threshold`, `audit`: questions about what was learnt and decided."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tmuad.config import load_params
from tmuad.errors import DataError, ParameterError
from tmuad.formats import Format
from tmuad.workspace import QUERIES, REPORTS, WAREHOUSE

PARAMS = Path("params.yaml")

OneUnit = Annotated[str, typer.Option("--unit", "-u", help="A key of `units` in params.yaml.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (sql, explain, rules, checks, threshold, audit, gallery):
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
    from tmuad.warehouse.export import encode

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


def rules(
    unit: OneUnit,
    accept: Annotated[str, typer.Option(help="Save these: numbers such as 1,3 or 2-5, or 'all'.")] = "",
    folder: Annotated[Path, typer.Option(help="Where saved questions lie.")] = QUERIES,
) -> None:
    """Propose rules that hold in all normal images, with their support; accepted ones become saved questions.

    From then on `dvc repro` and the gate of a re-fit check them, and a failure names the images. Rules that few images
    contradict are shown with these images, to look at.
    """
    from tmuad.checks.rules import propose, save_rule
    from tmuad.describe.table import read_descriptions
    from tmuad.parquet import read_parquet
    from tmuad.score.sentences import load_names
    from tmuad.warehouse.export import printable
    from tmuad.workspace import NAMES, UnitPaths

    load_params(PARAMS).unit(unit)
    paths = UnitPaths(unit)
    manifest = read_parquet(paths.manifest, ["image_id", "path", "split", "kind"]).to_pandas()
    normal = manifest[(manifest["kind"] == "good") & (manifest["split"] != "test")].set_index("image_id")["path"]
    entries = [e for e in read_descriptions(read_parquet(paths.descriptions)) if e.image_id in normal.index]
    found, nearly = propose(entries, load_names(NAMES / f"{unit}.yaml"))
    chosen = _numbers(accept, len(found))
    typer.echo(f"Rules that hold in all {len(entries)} normal images of {unit}:" if found else "No rule holds in all.")
    for number, rule in enumerate(found, start=1):
        typer.echo(f"{number:4}. {printable(rule.title)}  [{rule.support} of {rule.of}]")
    if nearly:
        typer.echo(
            "\nNearly rules. Look at the images that contradict them: a bad normal image, or a slip of the segmenter?"
        )
    for rule in nearly:
        against = ", ".join(printable(normal[image_id]) for image_id in rule.against)
        typer.echo(f"      {printable(rule.title)}  [{rule.support} of {rule.of}; not {against}]")
    for number in chosen:
        typer.echo(f"saved {save_rule(found[number - 1], unit, folder)}")
    if found and not chosen:
        typer.echo(f"\nSave some with: tmuad rules --unit {unit} --accept 1,2   (they go to {folder})")


def checks(
    unit: Annotated[str | None, typer.Option("--unit", "-u", help="Of this unit alone.")] = None,
    folder: Annotated[Path, typer.Option(help="Where saved questions lie.")] = QUERIES,
    warehouse: Annotated[Path, typer.Option(help="The data base to ask.")] = WAREHOUSE,
) -> None:
    """Ask the saved questions; exit with 3 if an answer is not as expected."""
    from tmuad.checks import failures, load_checks, run_checks

    outcomes = run_checks(warehouse, load_checks(folder), unit)
    for outcome in outcomes:
        typer.echo(str(outcome))
    if not outcomes:
        typer.echo(f"no saved question in {folder}; `tmuad rules --unit U` proposes some")
    if failures(outcomes):
        raise typer.Exit(3)


def threshold(
    unit: OneUnit,
    false_alarms: Annotated[
        str, typer.Option("--false-alarms", help="Rate on normal images, such as 1% or 0.01.")
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Make it the unit's rate in params.yaml.")] = False,
) -> None:
    """What the held-out normal images can promise at a false-alarm rate, and what the test images show.

    Writes reports/<unit>/threshold.md, and p_values.csv with the conformal p-value of every scored image.
    """
    from tmuad.data.params_edit import set_rate
    from tmuad.evaluate.threshold import markdown, parse_rate, thresholds
    from tmuad.parquet import write_artifact
    from tmuad.report.thresholds import threshold_text

    params = load_params(PARAMS)
    params.unit(unit)
    rate = parse_rate(false_alarms) if false_alarms else params.decide.of(unit).false_alarm_rate
    found = thresholds(unit, rate)
    report, listing = REPORTS / unit / "threshold.md", REPORTS / unit / "p_values.csv"
    write_artifact(report, markdown([found]).encode())
    write_artifact(listing, found.p_values.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    typer.echo(threshold_text(found))
    typer.echo(f"report: {report}; p-value of every scored image: {listing}")
    if apply:
        set_rate(params, PARAMS, unit, rate)
        typer.echo(f"{PARAMS}: decide.unit_rates holds {unit}: {rate:g}; `dvc repro` decides by it")


def audit(unit: OneUnit) -> None:
    """Look at the normal images before they are fitted: copies, odd ones, classes and size ranges of a single image.

    Needs the descriptions (`dvc repro describe@UNIT`), no banks. Writes reports/<unit>/audit.html, with pictures.
    """
    from tmuad.audit.report import audit_page, audit_text, audit_unit
    from tmuad.parquet import write_artifact

    params = load_params(PARAMS)
    found = audit_unit(unit, params)
    page = REPORTS / unit / "audit.html"
    write_artifact(page, audit_page(found, Path(params.unit(unit).root), params).encode())
    typer.echo(audit_text(found))
    typer.echo(f"pictures: {page}")


def gallery() -> None:
    """Build reports/gallery/index.html anew: every verdict with its pictures, to filter, sort and compare offline."""
    from tmuad.stages.gallery import run

    run(load_params(PARAMS))
    typer.echo(f"open {REPORTS / 'gallery' / 'index.html'} in a browser")


def _numbers(text: str, last: int) -> list[int]:
    """'1,3-5' or 'all' as numbers up to `last`."""
    if text.strip() == "all":
        return list(range(1, last + 1))
    numbers: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        low, _, high = part.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal() or not 1 <= int(low) <= int(high or low) <= last:
            raise ParameterError(f"--accept {text}: '{part}' is no number of a proposed rule; there are {last}")
        numbers += range(int(low), int(high or low) + 1)
    return sorted(set(numbers))


def _write(content: bytes, out: Path | None, binary: bool) -> None:
    from tmuad.parquet import write_artifact

    if out is not None:
        write_artifact(out, content)
    elif binary and sys.stdout.isatty():
        raise ParameterError("Parquet is no text for a terminal; give --out FILE, or redirect the output")
    else:
        typer.echo(content if binary else content.decode(), nl=False)


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
