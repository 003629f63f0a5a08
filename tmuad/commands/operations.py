"""`tmuad refit | quarantine | forget | history | rollback`: what a person who runs a line decides about its units.

What changes versions needs DVC and git, which the library does not import: those commands run `python -m flows.command`.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from tmuad.config import Params, load_params
from tmuad.errors import TmuadError

Unit = Annotated[str, typer.Option("--unit", "-u", help="A key of `units` in params.yaml.")]
Image = Annotated[str, typer.Argument(help="Image id, its first digits, or the file's name.")]

quarantine = typer.Typer(no_args_is_help=True, help="Images that looked anomalous on arrival, and wait for a person.")


def register(app: typer.Typer) -> None:
    app.command()(refit)
    app.command()(forget)
    app.command()(history)
    app.command()(rollback)
    app.add_typer(quarantine, name="quarantine")


def refit(
    unit: Unit, wait: Annotated[float | None, typer.Option(help="Seconds to wait for another run.")] = None
) -> None:
    """Bring in the new normal images in data/incoming/UNIT/ now: inspect, guard, admit, re-fit, gate, promote.

    Exit status: 0 promoted or nothing to do, 1 an error (rolled back), 2 rolled back by the gate.
    """
    _flow("refit", unit, *([] if wait is None else ["--wait", str(wait)]))


def forget(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE_ID", help="Image id, its first digits, or its path in the unit.")
    ],
    unit: Unit,
) -> None:
    """Take a normal image out of a unit: the banks come out as if it had never been there. It goes to quarantine."""
    _flow("forget", unit, image)


def history(unit: Unit) -> None:
    """List a unit's versions: images added and removed, metrics, who promoted."""
    from tmuad.arrivals.history import path_of, table

    _known(unit)
    if not path_of(unit).exists():
        typer.echo(f"{unit}: no version yet; the first re-fit makes v0 (what is there now) and v1")
        return
    typer.echo(table(unit))


def rollback(
    version: Annotated[str, typer.Argument(help="As in `tmuad history`, for instance v3.")], unit: Unit
) -> None:
    """Bring back the data set and the banks of an earlier version, as a new version."""
    _flow("rollback", unit, version)


@quarantine.command("list")
def list_cases(unit: Unit) -> None:
    """Show what waits, each with its verdict card."""
    from tmuad.arrivals.quarantine import DIGITS, cases

    waiting = cases(unit, _known(unit))
    for case in waiting:
        typer.echo(f"{case.image_id[:DIGITS]}  {case.path}\n{case.card}")
    typer.echo(f"{len(waiting)} waiting" + ("; tmuad quarantine release | discard ID" if waiting else ""))


@quarantine.command()
def release(image: Image, unit: Unit) -> None:
    """It is good after all: the next re-fit admits it."""
    from tmuad.arrivals.quarantine import release as send_on

    typer.echo(f"{send_on(unit, image, _known(unit))}: released; the next re-fit admits it (tmuad refit --unit {unit})")


@quarantine.command()
def discard(image: Image, unit: Unit) -> None:
    """It is bad: keep it out, now and whenever it arrives again."""
    from tmuad.arrivals.quarantine import discard as keep_out

    typer.echo(f"{keep_out(unit, image, _known(unit))}: discarded")


def _known(unit: str) -> Params:
    params = load_params(Path("params.yaml"))
    params.unit(unit)
    return params


def _flow(command: str, unit: str, *arguments: str) -> None:
    _known(unit)
    done = subprocess.run([sys.executable, "-m", "flows.command", command, *arguments, "--unit", unit], check=False)
    if done.returncode < 0:
        raise TmuadError(f"{command}: ended by signal {-done.returncode}; the next run takes it up")
    raise typer.Exit(done.returncode)
