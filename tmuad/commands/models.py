"""`tmuad doctor`, `tmuad weights` and `tmuad classifiers`: everything about foundation models."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tmuad.config import Params, load_params, parse_params, read_yaml
from tmuad.errors import ParameterError, TmuadError

PARAMS = Path("params.yaml")

weights_app = typer.Typer(
    help="Weights of the foundation models: what is there, what is missing.", no_args_is_help=True
)

Names = Annotated[list[str] | None, typer.Argument(help="Entries of weights.yaml; by default those the profile needs.")]
Profile = Annotated[str | None, typer.Option(help="A profile other than the one in params.yaml.")]


def register(app: typer.Typer) -> None:
    app.add_typer(weights_app, name="weights")
    app.command()(doctor)
    app.command()(classifiers)


def doctor(
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say whether this machine can run a profile: model sizes, memory, missing weights, seconds per image."""
    from tmuad.doctor import card, examine

    report = examine(_params(profile))
    typer.echo(json.dumps(report, indent=1) if as_json else card(report))


def classifiers() -> None:
    """Write models/dvc.yaml: the stages that train the object classifiers which units share.

    To be run once for a profile whose finetune.scope is individual or unified, and again after units were added.
    """
    from tmuad.describe.groups import write_pipeline

    typer.echo(write_pipeline(load_params(PARAMS), Path("models/dvc.yaml")))


@weights_app.command("list")
def list_weights(
    profile: Profile = None,
    all_entries: Annotated[bool, typer.Option("--all", help="Those of other profiles too.")] = False,
) -> None:
    """List weights with size, licence, source, and whether they are there."""
    from tmuad import weights

    params = _params(profile)
    for name in list(weights.registry()) if all_entries else _needed(params, None):
        listed = weights.entry(name)
        try:
            weights.paths(name, params.compute)
            state = "there"
        except TmuadError:
            state = "missing"
        origin = f"{listed.source}@{listed.revision[:12]}"
        typer.echo(f"{state:8} {name:26} {weights.size(listed.bytes):>8}  {listed.licence:12} {origin}")


@weights_app.command()
def pull(names: Names = None, profile: Profile = None) -> None:
    """Download what is missing, and check it against what the publisher states."""
    from tmuad import weights

    params = _params(profile)
    for name in _needed(params, names):
        for status in weights.pull(name, params.compute):
            note = "" if status.file.sha256 else f"  sha256 {status.digest} (the publisher states none)"
            typer.echo(f"{status.path}{note}")


@weights_app.command()
def verify(names: Names = None, profile: Profile = None) -> None:
    """Read every file and compare it with weights.yaml. Exit status 1 if one is missing or damaged."""
    from tmuad import weights

    params = _params(profile)
    bad = 0
    for status in weights.verify(_needed(params, names), params.compute):
        bad += status.state not in {"ok", "unstated"}
        typer.echo(f"{status.state:9} {status.path}  {status.digest}")
    if bad:
        raise typer.Exit(1)


@weights_app.command()
def path(name: Annotated[str, typer.Argument(help="An entry of weights.yaml.")]) -> None:
    """Print the paths of an entry's files; an error if one is missing."""
    from tmuad import weights

    for file in weights.paths(name, load_params(PARAMS).compute):
        typer.echo(file)


def _params(profile: str | None) -> Params:
    """The parameters, under `profile` if one is given."""
    if profile is None:
        return load_params(PARAMS)
    raw = read_yaml(PARAMS) if PARAMS.exists() else {"units": {}}
    if not isinstance(raw, dict):
        raise ParameterError(f"{PARAMS}: expected a mapping of sections at the top")
    return parse_params({**raw, "profile": profile}, source=str(PARAMS))


def _needed(params: Params, names: list[str] | None) -> list[str]:
    from tmuad.models.slots import model_slots, weight_names

    return names or weight_names(model_slots(params))
