"""What `tmuad plug` does: a detector's files and a unit's text bank to a comparison."""

from dataclasses import replace
from pathlib import Path

from tmuad.config import Params
from tmuad.errors import DataError
from tmuad.plug.adapters import Images, MethodResults, read_results, some
from tmuad.plug.bank import TextBank
from tmuad.plug.compare import Comparison
from tmuad.plug.maps import FileMaps
from tmuad.plug.scores import read_scores


def plug_files(
    params: Params,
    unit: str,
    maps: Path,
    scores: Path | None = None,
    weight: float | None = None,
    method: str = "detector",
    source: str = "folder",
    normals: str = "auto",
    skip_unknown: bool = False,
) -> Comparison:
    """The detector whose results lie in `maps`, with and without the text bank of `unit`. Writes nothing.

    Args:
        scores: CSV of its image scores. source: an adapter. normals: auto, validation, train or test (unlabelled).

    Raises:
        DataError: what there is does not fit the unit; the message says how. ArtifactError: the unit has no text bank.
    """
    bank = TextBank.load(unit, params)
    images = bank.images
    results = read_results(source, maps, images, skip_unknown)
    if scores is not None:
        results = replace(results, scores=read_scores(scores, images.splits, images.root))
    test = images.of("test")
    if missing := [path for path in test if path not in results.maps.files]:
        raise DataError(
            f"{maps}: {len(missing)} of {len(test)} test images of {unit} have no map: {some(missing)}; "
            "a comparison is of all of them: run the detector on these as well"
        )
    chosen, unlabelled = _normals(results, images, normals, maps)
    used = {*chosen, *test}
    if results.scores is not None:
        _check_scores(results.scores, results.maps, used)
    mine = FileMaps({path: results.maps.files[path] for path in chosen}, images.max_pixels, results.maps.reader)
    own = None if results.scores is None else {path: results.scores[path] for path in chosen}
    fusion = bank.calibrate(mine, own, weight, unlabelled)
    fusion = replace(fusion, remarks=results.remarks + fusion.remarks)
    tested = FileMaps({path: results.maps.files[path] for path in test}, images.max_pixels, results.maps.reader)
    own = None if results.scores is None else {path: results.scores[path] for path in test}
    return fusion(tested, own).compare(method)


def _normals(results: MethodResults, images: Images, asked: str, folder: Path) -> tuple[list[str], bool]:
    """The images that set the scale, and whether their labels are unknown."""
    if asked == "test":
        return [path for path in images.of("test") if path in results.maps.files], True
    for split in ("validation", "train") if asked == "auto" else (asked,):
        if found := [path for path in images.of(split) if path in results.maps.files]:
            return found, False
    wanted = "validation or training images" if asked == "auto" else f"{asked} images"
    example = next(iter(images.of("validation", "train")), "validation/good/000.png")
    raise DataError(
        f"{folder}: no maps of {wanted}, so nothing tells how high good images score; run the detector on good images "
        f"as well (such as {example}), or take the lower half of the test images for good ones: --calibrate-on test"
    )


def _check_scores(scores: dict[str, float], maps: FileMaps, used: set[str]) -> None:
    if unmapped := sorted(path for path in scores if path not in maps.files):
        raise DataError(f"scores without maps: {some(unmapped)}; the fused map needs both")
    if unscored := sorted(path for path in used if path not in scores):
        raise DataError(f"maps without scores: {some(unscored)}; give scores for all images or for none")
