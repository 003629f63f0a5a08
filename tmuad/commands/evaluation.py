"""`tmuad compare` and `tmuad export-maps`: what one does with an evaluation."""

from pathlib import Path
from typing import Annotated

import typer

PARAMS = Path("params.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(compare)


def compare(
    before: Annotated[Path, typer.Argument(help="Artifacts of a run: a copy of the folder artifacts.")],
    after: Annotated[Path, typer.Argument(help="Artifacts of another run.")] = Path("artifacts"),
    unit: Annotated[list[str] | None, typer.Option("--unit", "-u", help="By default all units of both runs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All figures, not only the main ones.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file, not to the screen.")] = None,
) -> None:
    """Say which figures of two runs differ by more than noise: a paired test on the same test images.

    Example: cp -r artifacts /tmp/before; edit params.yaml; dvc repro; tmuad compare /tmp/before
    """
    from tmuad.parquet import write_artifact
    from tmuad.report.comparison import compare_runs, comparison_markdown

    text = comparison_markdown(compare_runs(before, after, unit or (), everything))
    if out:
        write_artifact(out, text.encode())
    else:
        typer.echo(text)
