"""`tmuad compare` and `tmuad export-maps`: what one does with an evaluation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

PARAMS = Path("params.yaml")


class MapFormat(StrEnum):
    tiff = "tiff"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(compare)
    app.command("export-maps")(export_maps)


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


def export_maps(
    unit: Annotated[list[str] | None, typer.Option("--unit", "-u", help="By default all units.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder that gets <object>/test/<defect>/<image>.tiff.")
    ] = Path("reports/maps"),
    form: Annotated[MapFormat, typer.Option("--format", help="Kind of the files.")] = MapFormat.tiff,
    half: Annotated[bool, typer.Option("--half", help="float16, half the size of float32.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace maps that are there.")] = False,
) -> None:
    """Write the fused anomaly maps of the test images, in their size, for MVTec's own evaluation scripts.

    The folder of an object is called as the unit's own. docs/metrics.md says how to run the scripts on them.
    """
    from tmuad.config import load_params
    from tmuad.data.images import image_shape
    from tmuad.evaluate import export
    from tmuad.parquet import read_parquet
    from tmuad.score.fuse import load_calibration
    from tmuad.stages.maps import bank_maps
    from tmuad.workspace import UnitPaths

    params = load_params(PARAMS)
    for name in unit or params.units:
        root, paths = Path(params.unit(name).root), UnitPaths(name)
        manifest = read_parquet(paths.manifest, ["image_id", "path", "kind", "split"]).to_pylist()
        rows = [(row["image_id"], row["path"], row["kind"]) for row in manifest if row["split"] == "test"]
        maps = bank_maps(params, name, load_calibration(paths.calibration))
        count = export.export_maps(
            rows,
            lambda image_id, maps=maps: maps(image_id)["fused"],  # type: ignore[misc]
            lambda path, root=root: image_shape(root / path, max_pixels=params.data.max_pixels),  # type: ignore[misc]
            out / root.name,
            half=half,
            overwrite=overwrite,
        )
        typer.echo(f"{name}: {count} maps in {out / root.name} ({form})")
