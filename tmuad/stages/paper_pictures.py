"""The paper's qualitative figures (7 to 11, 14 to 17) from the images of the units at hand."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad.banks.patches import PatchBank
from tmuad.banks.slots import AnyPatchBank, load_patch_bank
from tmuad.config import Params
from tmuad.describe.table import read_descriptions
from tmuad.encode.features import patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, load_image, map_images
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet
from tmuad.report.overlay import TRUTH, Picture, heat_overlay, outline
from tmuad.report.panels import named_kind
from tmuad.report.paper.figures import TITLES, Figure
from tmuad.report.paper.scopes import Scope
from tmuad.report.paper.sheets import Row, tinted, write_sheet
from tmuad.score.fuse import Calibration, load_calibration
from tmuad.score.patches import upsample
from tmuad.score.table import open_regions
from tmuad.stages.common import shape_of
from tmuad.stages.maps import Maps, bank_maps, truth_masks
from tmuad.workspace import UnitPaths

ROWS = 6  # of a sheet, at most
SPREADS = 2.0  # a bank's map is half-way hot this many spreads above what normal images reach


class Gallery:
    """The test images of one unit, and the ways to look at them."""

    def __init__(self, params: Params, unit: str) -> None:
        self.params, self.unit, self.paths = params, unit, UnitPaths(unit)
        self.root = Path(params.unit(unit).root)

    @cached_property
    def test(self) -> pd.DataFrame:
        """A row per test image with its scores, highest first."""
        manifest, scores = read_parquet(self.paths.manifest).to_pandas(), read_parquet(self.paths.scores).to_pandas()
        joined = manifest[manifest["split"] == "test"].merge(scores, on="image_id")
        ordered = joined.sort_values(["score", "path"], ascending=[False, True], kind="stable")
        table: pd.DataFrame = ordered.reset_index(drop=True)
        return table

    @cached_property
    def calibration(self) -> Calibration:
        return load_calibration(self.paths.calibration)

    @cached_property
    def sentences(self) -> dict[str, str]:
        """image_id -> its strongest reason."""
        found = read_parquet(self.paths.findings, ["image_id", "rank", "sentence"]).to_pandas()
        first = found.sort_values(["image_id", "rank"]).drop_duplicates("image_id")
        return dict(zip(first["image_id"], first["sentence"], strict=True))

    @cached_property
    def maps(self) -> Maps:
        return bank_maps(self.params, self.unit, self.calibration)

    @cached_property
    def masks(self) -> Callable[[str], NDArray[np.bool_]]:
        return truth_masks(self.params, self.unit)

    def kind(self, kind: str) -> pd.DataFrame:
        return self.test[self.test["kind"] == kind]

    def image(self, row: pd.Series) -> Picture:
        return load_image(self.root / row["path"], self.params.data)

    def truth(self, row: pd.Series, image: Picture) -> Picture:
        shown = row["kind"] != "good" and len(row["masks"]) > 0
        return outline(image, self.masks(row["path"]), TRUTH, 3) if shown else image

    def heat(self, image: Picture, values: NDArray[np.floating], name: str) -> Picture:
        """The map of a bank, or of all of them ("fused"), over the image."""
        if name == "fused":
            return heat_overlay(image, values, self.calibration.threshold)
        usual = self.calibration.centre[name] + SPREADS * self.calibration.scale[name]
        return heat_overlay(image, values, 0.5 if name == "text" else usual, 0.0 if name == "text" else usual / 2)

    def row(self, row: pd.Series, pictures: Sequence[Picture]) -> Row:
        title = f"{self.unit}, {named_kind(row['kind'], row['defect'])}: {row['path']}, score {row['score']:.3g}"
        return Row(tuple(pictures), title, self.sentences.get(row["image_id"], "no reason in words"))


def pictures(
    folder: Path, params: Params, datasets: Sequence[tuple[int, Scope]], hand: Sequence[Scope]
) -> list[Figure]:
    """All qualitative figures: those of the paper's data sets (number, units), and of the units at hand."""
    units = {unit for scope in (*(scope for _, scope in datasets), *hand) for unit in scope.units}
    sheets = _Sheets(folder, {unit: Gallery(params, unit) for unit in units})
    wanted: list[tuple[int, Scope, Sequence[str], Rows, str]] = []
    wanted += [(number, scope, _COLUMNS, _map_rows, "") for number, scope in datasets]
    wanted += [(7, scope, _COLUMNS, _map_rows, "Anomaly maps") for scope in hand]
    for scope in [next(scope for number, scope in datasets if number == 7), *hand]:
        wanted.append((14, scope, ("image", "ground truth", "M_T"), _text_rows, ""))
        wanted.append((15, scope, ("image", "regions", "named objects"), _segment_rows, ""))
        wanted.append((17, scope, ("image", "ground truth", "all banks"), _failure_rows, ""))
    for scope in [next(scope for number, scope in datasets if number == 8), *hand]:
        wanted.append((16, scope, ("image", "ground truth", *_layers(scope), "the bank"), _layer_rows, ""))
    return list(fork_map(lambda sheet: sheets.draw(*sheet), wanted, params.data.workers, chunk=1))


_COLUMNS: Sequence[str] = ("image", "ground truth", "M_T", "M_O", "M_P", "all banks")
Rows = Callable[[Gallery], Iterator[Row]]


@dataclass(frozen=True)
class _Sheets:
    folder: Path
    galleries: dict[str, Gallery]

    def draw(self, number: int, scope: Scope, columns: Sequence[str], rows_of: Rows, title: str = "") -> Figure:
        """The figure `number` of the units of `scope`, or why there is none."""
        title = title or TITLES[number]
        if not scope.units:
            return Figure(number, scope.name, title, needs=scope.needs or "a unit")
        each = max(1, ROWS // len(scope.units))
        rows = [row for unit in scope.units for row in itertools.islice(rows_of(self.galleries[unit]), each)][:ROWS]
        if not rows:
            return Figure(number, scope.name, title, needs="test images of the kind that it shows")
        file = f"figure_{number:02d}_{scope.name}.png"
        write_sheet(self.folder / file, columns, rows)
        return Figure(number, scope.name, title, file)


def _typical(gallery: Gallery) -> Iterator[pd.Series]:
    """Of each kind in turn the image with the median score, then the upper and the lower quartile."""
    for share in (0.5, 0.25, 0.75):
        for kind in ("logical", "structural"):
            rows = gallery.kind(kind)
            if len(rows):
                yield rows.iloc[round(share * (len(rows) - 1))]


def _map_rows(gallery: Gallery) -> Iterator[Row]:
    for row in _typical(gallery):
        image, maps = gallery.image(row), gallery.maps(row["image_id"])
        heats = [gallery.heat(image, maps[name], name) for name in ("text", "objects", "patches", "fused")]
        yield gallery.row(row, [image, gallery.truth(row, image), *heats])


def _text_rows(gallery: Gallery) -> Iterator[Row]:
    found = gallery.kind("logical").sort_values(["s_text", "path"], ascending=[False, True], kind="stable")
    for _, row in found[found["s_text"] > 0].iterrows():
        image = gallery.image(row)
        heat = gallery.heat(image, gallery.maps(row["image_id"])["text"], "text")
        yield gallery.row(row, [image, gallery.truth(row, image), heat])


def _segment_rows(gallery: Gallery) -> Iterator[Row]:
    regions = open_regions(read_parquet(gallery.paths.segments, ["image_id", "source", "runs"]))
    described = {d.image_id: d for d in read_descriptions(read_parquet(gallery.paths.descriptions))}
    for row in _typical(gallery):
        image = gallery.image(row)
        objects = [o.runs for o in described[row["image_id"]].objects]
        views = [tinted(image, regions.get(row["image_id"], [])), tinted(image, objects)]
        words = replace(gallery.row(row, [image, *views]), words=described[row["image_id"]].text)
        yield words


def _failure_rows(gallery: Gallery) -> Iterator[Row]:
    """The anomalies that scored lowest, and the good image that scored highest."""
    anomalous = gallery.test[gallery.test["kind"] != "good"].iloc[::-1]
    for row in [
        *(row for _, row in anomalous.head(2).iterrows()),
        *(r for _, r in gallery.kind("good").head(1).iterrows()),
    ]:
        image = gallery.image(row)
        heat = gallery.heat(image, gallery.maps(row["image_id"])["fused"], "fused")
        shown = gallery.row(row, [image, gallery.truth(row, image), heat])
        above = "above" if row["score"] > gallery.calibration.threshold else "not above"
        yield replace(shown, title=f"{shown.title}, {above} the threshold {gallery.calibration.threshold:.3g}")


def _layers(scope: Scope) -> tuple[str, ...]:
    if not scope.units:
        return ()
    return tuple(_layer_names(load_patch_bank(UnitPaths(scope.units[0]).patch_bank)))


def _layer_rows(gallery: Gallery) -> Iterator[Row]:
    bank = load_patch_bank(gallery.paths.patch_bank)
    singles = [_of_layer(bank, name) for name in _layer_names(bank)]
    described = {d.image_id: d for d in read_descriptions(read_parquet(gallery.paths.descriptions))}
    task, shape = feature_task(gallery.params, gallery.unit), shape_of(gallery.params)
    found = gallery.kind("structural").sort_values(["s_patches", "path"], ascending=[False, True], kind="stable")
    for _, row in found.iterrows():
        ref = ImageRef(row["image_id"], gallery.root / row["path"])
        record = next(iter(map_images(task, [ref], gallery.params.data)))
        asked = patch_image(record, described[row["image_id"]], gallery.params.data.size)
        image = gallery.image(row)
        maps = [upsample(one.distances(asked), shape) for one in (*singles, bank)]
        heats = [heat_overlay(image, m, np.inf, float(np.median(m))) for m in maps]
        yield gallery.row(row, [image, gallery.truth(row, image), *heats])


def _of_layer(bank: AnyPatchBank, name: str) -> AnyPatchBank:
    """The bank with one layer, and without the detector."""
    if isinstance(bank, PatchBank):
        model = replace(bank.model, layers={name: bank.model.layers[name]}, detector=None, context=None)
        return replace(bank, model=model, extremes=None)
    return replace(bank, layers={name: bank.layers[name]})


def _layer_names(bank: AnyPatchBank) -> list[str]:
    return sorted(bank.model.layers if isinstance(bank, PatchBank) else bank.layers)
