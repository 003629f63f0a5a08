"""The `tmuad` command. Each function parses arguments, calls the library, prints; nothing else happens here."""

import os

# Before numpy is first imported: see tmuad/stages/__main__.py.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from enum import StrEnum  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated  # noqa: E402

import typer  # noqa: E402

from tmuad.commands import ablation, ask, data, evaluation, models, operations, plug  # noqa: E402
from tmuad.config import load_params  # noqa: E402
from tmuad.errors import TmuadError  # noqa: E402

PARAMS = Path("params.yaml")

HELP = """
Finds what is wrong in photographs of parts: what is missing, too many, out of place, of the wrong size, or damaged.
It learns from photographs of good parts alone.

The work-flow, in a folder that holds params.yaml and dvc.yaml:

1. `tmuad init ~/photos/kit --name kit` checks a data set and registers it.

2. `dvc repro` fits everything that is new; `dvc repro fuse@kit` fits one unit.

3. `tmuad classes kit` shows which parts were found; give them names in data/names/kit.yaml.

4. `tmuad score new.jpg --unit kit` gives verdict, reasons, and a heat map.

5. `tmuad results` prints the table of results; `tmuad sql "FROM normal_ranges"` asks the data base.

6. `tmuad explain IMAGE --unit kit` says why; `tmuad gallery` shows every verdict; `tmuad audit --unit kit` checks the set.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)
Unit = Annotated[str, typer.Option("--unit", "-u", help="The unit to score against: a key of `units` in params.yaml.")]


class LayoutChoice(StrEnum):
    auto = "auto"
    mvtec_ad = "mvtec_ad"
    mvtec_loco = "mvtec_loco"
    visa = "visa"
    bmad = "bmad"
    folder = "folder"


class BadImage(StrEnum):
    stop = "stop"
    skip = "skip"


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A data set, one category of it, or a bare folder of good images.")],
    name: Annotated[str | None, typer.Option(help="Name of the unit; by default that of the folder.")] = None,
    layout: Annotated[LayoutChoice, typer.Option(help="How the folder is laid out.")] = LayoutChoice.auto,
    classes: Annotated[
        str | None,
        typer.Option(help='What the images show, as "screw, lens": for profiles that look for named objects.'),
    ] = None,
) -> None:
    """Check a data set, register its units in params.yaml, and say what was found.

    Layouts: mvtec_ad (train/good, test/DEFECT, ground_truth), mvtec_loco (with validation/good and several masks per
    image), visa (Data/Images with split_csv/1cls.csv), bmad (test/Ungood with img and label), folder (good images
    alone). MPDD and VisA's one-class form have the layout mvtec_ad. Nothing is copied or changed in the data set.
    """
    from tmuad.data.object_names import parse_names, write_names
    from tmuad.data.register import describe_registration, register
    from tmuad.workspace import CATALOG

    names = parse_names(classes) if classes is not None else ()
    registration = register(directory, name, layout.value, PARAMS)
    typer.echo(describe_registration(registration))
    for path in write_names([unit.name for unit in registration.units], names, CATALOG) if names else []:
        typer.echo(f"objects to look for: {', '.join(names)} (in {path})")


@app.command()
def classes(unit: Annotated[str, typer.Argument(help="A key of `units` in params.yaml.")]) -> None:
    """Show the object classes of a fitted unit, and where to name them.

    Writes reports/UNIT/classes.png (examples of each class) and, if there is none yet, data/names/UNIT.yaml.
    """
    from tmuad.report.classes import describe_classes

    params = load_params(PARAMS)
    params.unit(unit)
    typer.echo(describe_classes(unit, params))


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders that are searched for images.")],
    unit: Unit,
    out: Annotated[Path | None, typer.Option(help="Folder for heat maps; by default reports/scored/UNIT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line, for machines.")] = False,
    on_bad_image: Annotated[BadImage | None, typer.Option(help="Default: data.on_bad_image of params.yaml.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if an image is anomalous.")] = False,
) -> None:
    """Inspect new images: verdict, score against threshold, reasons, each bank's share, a heat map.

    Exit status: 0 done, 1 an error (or a bad image was skipped), 3 with --check if an image is anomalous.
    """
    from tmuad.scoring import passed_over, score_files

    params = load_params(PARAMS)
    target = out or Path("reports/scored") / unit
    policy = on_bad_image.value if on_bad_image else params.data.on_bad_image
    show = _print_json if as_json else _print_card
    anomalous = bad = 0
    for outcome in score_files(images, unit, params, target, policy):
        show(outcome)
        anomalous += outcome.get("verdict") == "anomalous"
        bad += "error" in outcome
    if others := passed_over(images, target):
        few = ", ".join(str(path) for path in others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        typer.echo(f"not scored, because files of their kind are not read: {few}", err=True)
    if bad:
        raise typer.Exit(1)
    if check and anomalous:
        raise typer.Exit(3)


@app.command()
def results() -> None:
    """Print the results of all evaluated units and where to look next."""
    from tmuad.report.tables import load_results
    from tmuad.report.terminal import print_results

    print_results(load_results(load_params(PARAMS).units))


for topic in (ask, operations, evaluation, plug, ablation, models, data):  # the help lists commands in this order
    topic.register(app)


def _print_json(outcome: dict[str, object]) -> None:
    typer.echo(json.dumps(outcome, ensure_ascii=False))


def _print_card(outcome: dict[str, object]) -> None:
    from tmuad.scoring import card

    typer.echo(card(outcome))


def main() -> None:
    """Entry point: a user's mistake ends in one line on standard error, ours in a traceback."""
    run: Callable[[], None] = app
    try:
        run()
    except TmuadError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
