"""What a variant changes of the banks' results, and nothing besides: the other banks' are those that the unit has.

A change of weights re-fuses stored results. A change of the text score matches stored descriptions again. A change of an
image bank clusters cached features again and compares with that bank alone; nothing is encoded twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from tmuad.ablate.patches import Patches, Refitted
from tmuad.banks.objects import Labelled
from tmuad.banks.slots import fit_object_bank, load_patch_bank
from tmuad.banks.text import TextBank
from tmuad.cache import Record
from tmuad.config import Params, PatchBankParams
from tmuad.describe.description import ImageDescription
from tmuad.describe.placing import load_corrections, place
from tmuad.describe.table import read_descriptions
from tmuad.encode.features import object_features, patch_image
from tmuad.encode.slots import feature_task, layer_names, object_task
from tmuad.engine import ImageRef, Task, map_images
from tmuad.masks import Runs
from tmuad.parquet import read_parquet
from tmuad.score.banks import BankResult
from tmuad.score.table import open_regions, read_results
from tmuad.score.text import find_differences
from tmuad.stages.common import shape_of, unit_images
from tmuad.workspace import CORRECTIONS, UnitPaths


@dataclass(frozen=True)
class Rescored:
    """The banks' results under a variant, for the held-out and the test images."""

    results: list[BankResult]
    seconds: dict[str, float]  # "fit": in all; "compare": per image. Measured, and so another number in each run
    by_class: bool  # whether the object bank knows classes


@dataclass(frozen=True)
class FittedUnit:
    """A fitted unit as ablations look at it. Everything is read once, when it is first asked for."""

    unit: str
    params: Params  # in force

    @cached_property
    def paths(self) -> UnitPaths:
        return UnitPaths(self.unit)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        manifest: pd.DataFrame = read_parquet(self.paths.manifest).to_pandas()
        return manifest

    @cached_property
    def descriptions(self) -> dict[str, ImageDescription]:
        return {d.image_id: d for d in read_descriptions(read_parquet(self.paths.descriptions))}

    @cached_property
    def results(self) -> list[BankResult]:
        return read_results(read_parquet(self.paths.bank_scores), read_parquet(self.paths.bank_findings))

    @cached_property
    def regions(self) -> dict[str, list[Runs]]:
        return open_regions(read_parquet(self.paths.segments, ["image_id", "source", "runs"]))

    @cached_property
    def by_class(self) -> bool:
        """As the stage `fuse` says it: whether any image shows an object of a class."""
        return any(d.classes for d in self.descriptions.values())

    def images(self, *splits: str) -> list[ImageRef]:
        return unit_images(self.unit, self.params, splits)

    @cached_property
    def records(self) -> dict[str, Record]:
        """Features of every image, from the per-image cache."""
        return self.seen_by(feature_task(self.params, self.unit))

    def seen_by(self, task: Task) -> dict[str, Record]:
        """What `task` says of every image."""
        images = self.images("train", "validation", "test")
        return {ref.image_id: r for ref, r in zip(images, map_images(task, images, self.params.data), strict=True)}

    @cached_property
    def patches(self) -> Patches:
        size = self.params.data.size
        shown = {i: patch_image(record, self.descriptions[i], size) for i, record in self.records.items()}
        asked = self.images("validation", "test")
        return Patches(self.unit, self.params, self.images("train"), self.images("validation"), asked, shown)


def rescore(fitted: FittedUnit, changed: Params) -> Rescored:
    """The results under the parameters `changed`, which differ from those in force in `fuse` and the banks alone."""
    results, by_class = fitted.results, fitted.by_class
    seconds: dict[str, float] = {}
    if changed.text_score != fitted.params.text_score or changed.describe != fitted.params.describe:
        results = _texts(fitted, changed, results)
    if changed.object_bank != fitted.params.object_bank:
        results, by_class = _objects(fitted, changed, results)
    if changed.patch_bank != fitted.params.patch_bank:
        bank = _patches(fitted, changed)
        results = [replace(r, patch_distance=bank.distances[r.image_id]) for r in results]
        seconds = bank.seconds
    return Rescored(results, seconds, by_class)


def look_of(fitted: FittedUnit, changed: Params) -> Task:
    """The task on whose features a variant is fitted: that of the unit, unless it names encoders or objects that are not there.

    Objects are then encoded without patches. Single encoders of a cosine patch bank are in the unit's own features.
    """
    if object_task(changed, fitted.unit) != object_task(fitted.params, fitted.unit):
        return object_task(changed, fitted.unit)
    mine, there = changed.patch_bank, fitted.params.patch_bank
    if mine.encoders == there.encoders or _some_of(mine, there):
        return feature_task(fitted.params, fitted.unit)
    return feature_task(changed, fitted.unit)


def _some_of(mine: PatchBankParams, there: PatchBankParams) -> bool:
    """Whether the bank `mine` is one of fewer encoders than the bank that is there; a detector would know them all."""
    return mine.distance == there.distance == "cosine" and set(mine.encoders) < set(there.encoders)


def _patches(fitted: FittedUnit, changed: Params) -> Refitted:
    bank, there = changed.patch_bank, fitted.params.patch_bank
    if _some_of(bank, there) and not bank.layers:
        bank = bank.model_copy(update={"layers": layer_names(changed.encode, bank.encoders)})
    own = look_of(fitted, changed) == feature_task(fitted.params, fitted.unit)
    return (fitted if own else FittedUnit(fitted.unit, changed)).patches.refitted(bank)


def compared_again(fitted: FittedUnit) -> Rescored:
    """The results that the unit has, and what it takes to compare an image with its own patch bank."""
    seconds = fitted.patches.seconds(load_patch_bank(fitted.paths.patch_bank))
    return Rescored(fitted.results, {"compare": seconds}, fitted.by_class)


def texts_under(fitted: FittedUnit, changed: Params) -> tuple[TextBank, dict[str, ImageDescription]]:
    """The text bank and the description of every image, with positions from where `changed` takes them."""
    entries, many = read_descriptions(read_parquet(fitted.paths.text_entries)), list(fitted.descriptions.values())
    if changed.describe.position != fitted.params.describe.position:
        entries, many = _by_grid(fitted, entries), _by_grid(fitted, many)
    return TextBank(entries, shape_of(changed)), {d.image_id: d for d in many}


def _texts(fitted: FittedUnit, changed: Params, results: Sequence[BankResult]) -> list[BankResult]:
    bank, descriptions = texts_under(fitted, changed)
    again = []
    for result in results:
        findings, index = find_differences(descriptions[result.image_id], bank, changed.text_score)
        nearest = bank.entries[index].image_id if index >= 0 else ""
        again.append(replace(result, findings=findings, nearest=nearest))
    return again


def _by_grid(fitted: FittedUnit, many: Sequence[ImageDescription]) -> list[ImageDescription]:
    """As the stage `describe` would have them without a language model: the grid's positions, and those that a person gave."""
    ids = dict(zip(fitted.manifest["path"], fitted.manifest["image_id"], strict=True))
    return place(many, None, load_corrections(CORRECTIONS / f"{fitted.unit}.yaml", ids))[0]


def _objects(fitted: FittedUnit, changed: Params, results: Sequence[BankResult]) -> tuple[list[BankResult], bool]:
    look = look_of(fitted, changed)
    own = look == feature_task(fitted.params, fitted.unit)
    records = fitted.records if own else fitted.seen_by(look)

    def objects_of(images: list[ImageRef], by_class: bool) -> Iterator[Labelled]:
        for ref in images:
            record, description = records[ref.image_id], fitted.descriptions[ref.image_id]
            yield object_features(record, description, by_class)

    bank = fit_object_bank(objects_of, fitted.images("train"), changed.object_bank)
    bank = bank.calibrate(objects_of(fitted.images("validation"), bank.by_class))
    again = []
    for result in results:
        record, description = records[result.image_id], fitted.descriptions[result.image_id]
        asked = object_features(record, description, bank.by_class)
        shown = [o.runs for o in description.objects] if bank.by_class else fitted.regions.get(result.image_id, [])
        again.append(replace(result, regions=shown, region_distance=bank.distances(*asked)))
    return again, bank.by_class
