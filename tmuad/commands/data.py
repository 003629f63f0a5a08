"""`tmuad data`: the public data sets on disk."""

from pathlib import Path
from typing import Annotated

import typer

from tmuad.config import DataParams, load_params

PARAMS = Path("params.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    data = typer.Typer(
        help="Public data sets: what is known of them, and whether a copy is whole.", no_args_is_help=True
    )
    data.command()(check)
    app.add_typer(data, name="data")


def check(
    directory: Annotated[Path, typer.Argument(help="A public data set as it was unpacked, or one category of it.")],
    dataset: Annotated[str | None, typer.Option(help="Its name in data/catalog; by default by its categories.")] = None,
) -> None:
    """Compare a data set with what its authors published, and name every difference.

    Every file is read in full, so that truncated ones are found as well. Exit status: 0 no difference, 1 some.
    """
    from tmuad.cache import open_cache
    from tmuad.data.check import check_dataset, check_report

    data = load_params(PARAMS).data if PARAMS.exists() else DataParams()
    result = check_dataset(directory, dataset, max_pixels=data.max_pixels, cache=open_cache(data.cache))
    typer.echo(check_report(result))
    if result.all_differences:
        raise typer.Exit(1)
