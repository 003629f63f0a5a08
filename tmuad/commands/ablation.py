"""`tmuad variants` and `tmuad ablate`: the declared variants of the method, listed and run one at a time."""

from pathlib import Path
from typing import Annotated

import typer

PARAMS = Path("params.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(variants)
    app.command()(ablate)


def variants() -> None:
    """List the variants that the profile has, with the table or figure that shows each; `make tables` runs them all."""
    from tmuad.ablate.variants import check_all, load_variants, selected
    from tmuad.config import load_params
    from tmuad.report.paper.reference import ROMAN

    params, listed = load_params(PARAMS), load_variants()
    for name, variant in selected(listed, params).items():
        place = f"figure {variant.figure}" if variant.table is None else f"table {ROMAN[variant.table]}"
        where = "" if variant.table is None and variant.figure is None else place
        typer.echo(f"{variant.group:9} {name:24} {where:11} {variant.about}")
    check_all(listed, params)


def ablate(
    name: Annotated[str, typer.Argument(help="A variant of variants.yaml.")],
    unit: Annotated[str, typer.Option("--unit", "-u", help="A fitted and scored unit.")],
) -> None:
    """Run one variant on one unit and print its AUROC with 95 % intervals; no file of the unit changes."""
    from tmuad.ablate.run import run_one
    from tmuad.config import load_params
    from tmuad.report.markdown import with_interval

    params = load_params(PARAMS)
    params.unit(unit)
    outcome = run_one(params, unit, name)
    for key, cell in outcome.cells.items():
        typer.echo(f"{' '.join(key):24} {with_interval(cell.value, cell.interval)}")
    for what, value in outcome.measured.items():
        typer.echo(f"{what:24} {value:.4g}")
