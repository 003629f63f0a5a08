"""`tmuad plug`: the text bank for any anomaly detector."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

PARAMS = Path("params.yaml")


class Source(StrEnum):
    folder = "folder"
    anomalib = "anomalib"
    pbas = "pbas"
    univad = "univad"


class Normals(StrEnum):
    auto = "auto"
    validation = "validation"
    train = "train"
    test = "test"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(plug)


def plug(
    unit: Annotated[str, typer.Option("--unit", "-u", help="A fitted unit: its text bank, images and ground truth.")],
    maps: Annotated[Path, typer.Option("--maps", help="Folder with the detector's maps.")],
    scores: Annotated[
        Path | None, typer.Option("--scores", help="CSV with path,score, if the score is not the map's maximum.")
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            "--weight",
            "-w",
            help="Of the text bank; the detector's is 1. By default fuse.calibrated.text of params.yaml, 2.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Of the detector; by default that of the folder.")
    ] = None,
    source: Annotated[Source, typer.Option("--from", help="How the maps lie: see above.")] = Source.folder,
    normals: Annotated[
        Normals, typer.Option("--calibrate-on", help="Images that set the scale: see above.")
    ] = Normals.auto,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Pass over maps of no image of the unit.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; by default reports/plug/UNIT.")] = None,
) -> None:
    """Add the text bank M_T to any anomaly detector, and say what that changes.

    Put the detector's anomaly maps into a folder as the images lie in the unit's: test/good/000.npy for
    test/good/000.png. They may be .npy, .npz, .tiff (floats or integers) or grey .png of 8 or 16 bits, of any size,
    square or in the aspect of the image. Write maps of validation/ too: good images that the detector was not trained on
    tell how much is much, and set a threshold.

    --from folder: as above. anomalib: what save_predictions wrote, maps with scores.csv (docs/plug.md). pbas: pictures that
    PBAS writes to results/eval/DATASET_CATEGORY. univad: a folder with CATEGORY/anomaly_maps and detailed_results.csv.

    --calibrate-on auto: maps of validation images if there are any, else of training images (worse, and said so).
    test: of test images whose labels are not looked at, for methods that leave maps of these alone.

    Writes NAME.json, NAME.md and NAME.csv: AUROC of images and pixels, logical and structural, with and without M_T,
    with paired intervals, and the reasons in words.

    Example: tmuad plug --unit kit --maps runs/patchcore --name PatchCore
    """
    from tmuad.config import load_params
    from tmuad.plug.report import figures_table, file_name, write_comparison
    from tmuad.plug.run import plug_files

    method = name if name is not None else maps.resolve().name
    file_name(method)  # before minutes of work
    comparison = plug_files(
        load_params(PARAMS), unit, maps, scores, weight, method, source.value, normals.value, skip_unknown
    )
    typer.echo(figures_table(comparison), nl=False)
    for remark in comparison.remarks:
        typer.echo(f"note: {remark}")
    written = write_comparison(comparison, out)
    typer.echo(f"written: {', '.join(map(str, written))}")
