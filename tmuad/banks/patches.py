"""The patch memory bank M_P (Eq. 4): what compares a patch with normal ones, and what is normal of that.

Each layer's distances are put in relation to what is normal at their place. Where simulated defects are given, a detector
is trained on them besides: what it finds above its normal range is added to the distances, which then decide about
everything it has no opinion on. Both are put in relation to what is normal on objects of the patch's class, too: a
populated circuit board looks stranger than a bare table, and must not drown a hair that lies on the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save as pack

from tmuad.banks.centroids import Matrix, floats, load_tensors, take
from tmuad.banks.context import BACKGROUND, ClassGrid
from tmuad.banks.grid import interpolate
from tmuad.banks.patch_model import DETECTOR, Defects, PatchImage, PatchMaps, PatchModel, listed
from tmuad.banks.placement import Placement
from tmuad.cache import Record
from tmuad.config import PatchBankParams
from tmuad.parallel import fork_map
from tmuad.parquet import write_artifact

DISTANCE_WINDOW, DISTANCE_BLUR = 0.09, 0.036  # of the image's side: placement of distances, which are smooth
DETECTOR_WINDOW, DETECTOR_BLUR = 0.27, 0.07  # placement of the detector, whose peaks are sharp and few
USUAL = 0.95  # the detector's output counts above this quantile of normal patches
FEWEST = 5  # normal images that show a class; with fewer, its patches are judged as those of the whole image
PLACED = 512  # training images at most that tell what is normal where; more would tell no more
STEADY = 0.3  # of the classes' mean spread: no class is believed to vary less from image to image

MapsOf = tuple[PatchMaps, ClassGrid]  # what the model says of one image, and the classes of its patches


@dataclass(frozen=True)
class Extremes:
    """How high a map goes in normal images, on the patches of each object class: median and spread of the maxima."""

    level: dict[str, float]
    spread: dict[str, float]

    @classmethod
    def fit(cls, maps: Sequence[Matrix], grids: Sequence[ClassGrid]) -> "Extremes":
        """From the maps (h, w) of normal images and their classes; `BACKGROUND` stands for what is not listed."""
        whole = [float(m.max()) for m in maps]
        maxima: dict[str, list[float]] = {}
        for m, grid in zip(maps, grids, strict=True):
            for name in np.unique(grid).tolist():
                maxima.setdefault(name, []).append(float(m[grid == name].max()))
        shown = {name: values for name, values in sorted(maxima.items()) if len(values) >= FEWEST}
        shown.setdefault(BACKGROUND, whole)
        spread = {name: float(np.std(values)) for name, values in shown.items()}
        least = max(STEADY * float(np.mean(list(spread.values()))), 1e-3)
        return cls(
            {name: float(np.median(values)) for name, values in shown.items()},
            {name: max(value, least) for name, value in spread.items()},
        )

    def __call__(self, m: Matrix, grid: ClassGrid) -> Matrix:
        """The map (h, w) in spreads above the level of each patch's class: above 0 where an image is seldom as high."""
        level = np.full(m.shape, self.level[BACKGROUND], dtype=np.float32)
        spread = np.full(m.shape, self.spread[BACKGROUND], dtype=np.float32)
        for name in self.level:
            level[grid == name], spread[grid == name] = self.level[name], self.spread[name]
        return (m - level) / spread


@dataclass(frozen=True)
class Scale:
    """Zero and unit of a map: mean and standard deviation over normal patches, and the quantile `usual` in these."""

    mean: float
    deviation: float
    usual: float

    @classmethod
    def fit(cls, maps: Sequence[Matrix]) -> "Scale":
        values = np.stack(maps)
        mean, deviation = float(values.mean()), max(float(values.std()), 1e-6)
        return cls(mean, deviation, (float(np.quantile(values, USUAL)) - mean) / deviation)

    def __call__(self, m: Matrix) -> Matrix:
        return np.asarray((m - self.mean) / self.deviation, dtype=np.float32)


@dataclass(frozen=True)
class PatchBank:
    """M_P of one unit."""

    model: PatchModel
    places: dict[str, Placement]  # per map of the model
    extremes: Extremes | None  # of the detector's map
    scales: dict[str, Scale]
    distance_weight: float

    @classmethod
    def fit(cls, images: Sequence[PatchImage], params: PatchBankParams, defects: Sequence[Defects] = ()) -> "PatchBank":
        """From the normal training images, and simulated defects on each of them (or none at all).

        Raises:
            DataError: there is no image.
        """
        model = PatchModel.fit(images, params, defects)
        maps = fork_map(model, images)
        return cls.placed(model, [(m, i.classes) for m, i in zip(maps, images, strict=True)], params.distance_weight)

    @classmethod
    def placed(cls, model: PatchModel, normals: Sequence[MapsOf], distance_weight: float) -> "PatchBank":
        """The bank of `model`; what is normal where, and on which class, learnt from its maps of all training images."""
        raw = [maps for maps, _ in normals]
        grids = [grid for _, grid in normals]
        places = {
            name: Placement.fit(
                np.stack([maps[name] for maps in raw]),
                *((DETECTOR_WINDOW, DETECTOR_BLUR) if name == DETECTOR else (DISTANCE_WINDOW, DISTANCE_BLUR)),
            )
            for name in raw[0]
        }
        placed = [{name: places[name](m) for name, m in maps.items()} for maps in raw]
        extremes = None
        if model.detector is not None:
            extremes = Extremes.fit([maps[DETECTOR] for maps in placed], grids)
            for maps, grid in zip(placed, grids, strict=True):
                maps[DETECTOR] = extremes(maps[DETECTOR], grid)
        return cls(model, places, extremes, _scales(placed), distance_weight)

    def calibrate(self, normals: Sequence[MapsOf]) -> "PatchBank":
        """The same bank, its zero and unit learnt from held-out normal images; unchanged where there is none."""
        return replace(self, scales=_scales([self._normalised(*n) for n in normals])) if normals else self

    def distances(self, image: PatchImage) -> Matrix:
        """(h, w) of the finest layer: how unusual each patch is, in normal standard deviations; about 0 where normal."""
        return self.unusual(self.model(image), image.classes)

    def unusual(self, raw: PatchMaps, classes: ClassGrid) -> Matrix:
        """As `distances`, from the model's maps of the image."""
        maps = {name: self.scales[name](m) for name, m in self._normalised(raw, classes).items()}
        shape = max((m.shape for m in maps.values()), key=lambda s: s[0])
        # A layer of fewer, larger patches is the steadier witness: it counts by the area of its patches.
        areas = {name: 1 / maps[name].size for name in self.model.layers}
        distance = np.zeros(shape, dtype=np.float32)
        for name, area in areas.items():
            weight = np.float32(area / sum(areas.values()))
            distance += weight * interpolate(maps[name], (shape[0], shape[1]))
        if DETECTOR not in maps:
            return distance
        excess = np.maximum(maps[DETECTOR] - np.float32(self.scales[DETECTOR].usual), 0)
        return np.asarray(excess + np.float32(self.distance_weight) * distance, dtype=np.float32)

    def _normalised(self, raw: PatchMaps, classes: ClassGrid) -> PatchMaps:
        maps = {name: self.places[name](m) for name, m in raw.items()}
        if self.extremes is not None:
            maps[DETECTOR] = self.extremes(maps[DETECTOR], classes)
        return maps

    def save(self, path: Path) -> None:
        """As safetensors; the same bank gives the same bytes."""
        tensors: Record = self.model.tensors() | {"distance_weight": floats(self.distance_weight)}
        for name, place in self.places.items():
            scale = self.scales[name]
            tensors[f"place.{name}"] = np.stack([place.level, place.spread])
            tensors[f"scale.{name}"] = floats(scale.mean, scale.deviation, scale.usual)
        if self.extremes is not None:
            for name, level in self.extremes.level.items():
                tensors[f"extremes/{name}"] = floats(level, self.extremes.spread[name])
        write_artifact(path, pack({name: np.ascontiguousarray(array) for name, array in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "PatchBank":
        """Raises ArtifactError if the file is missing, cut short or not a patch bank."""
        tensors = load_tensors(path)

        def get(name: str) -> Matrix:
            return take(tensors, name, path)

        model = PatchModel.from_tensors(tensors, path)
        extremes = None
        if model.detector is not None:
            normal = {n: get(f"extremes/{n}").tolist() for n in listed(tensors, "extremes/")}
            extremes = Extremes({n: v[0] for n, v in normal.items()}, {n: v[1] for n, v in normal.items()})
        outputs = [*model.layers, *([DETECTOR] if model.detector else [])]
        return cls(
            model,
            {n: Placement(*get(f"place.{n}")) for n in outputs},
            extremes,
            {n: Scale(*(float(v) for v in get(f"scale.{n}"))) for n in outputs},
            float(get("distance_weight")[0]),
        )


def _scales(maps: Sequence[PatchMaps]) -> dict[str, Scale]:
    return {name: Scale.fit([m[name] for m in maps]) for name in sorted(maps[0])}
