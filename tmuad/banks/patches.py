"""The patch memory bank M_P (Eq. 4): per layer, K-means centroids of the patches of normal images.

Each layer's distances are put in relation to what is normal at their place. Where simulated defects are given, a detector
is trained on them besides: what it finds above its normal range is added to the distances, which then decide about
everything it has no opinion on. Both are put in relation to what is normal on objects of the patch's class, too: a
populated circuit board looks stranger than a bare table, and must not drown a hair that lies on the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack
from threadpoolctl import threadpool_limits

from tmuad.banks.centroids import FLOOR, Matrix, Whitening, kmeans, load_tensors, nearest, take
from tmuad.banks.context import BACKGROUND, ClassGrid, Context
from tmuad.banks.detector import Detector
from tmuad.banks.grid import interpolate, smoothed
from tmuad.banks.placement import Placement
from tmuad.config import PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.encode.filters import with_surround
from tmuad.errors import DataError
from tmuad.parallel import fork_map
from tmuad.parquet import write_artifact

DETAIL = "detail"  # the layer that simulated defects are described in
DISTANCE_WINDOW, DISTANCE_BLUR = 0.09, 0.036  # of the image's side: placement of distances, which are smooth
DETECTOR_WINDOW, DETECTOR_BLUR = 0.27, 0.07  # placement of the detector, whose peaks are sharp and few
DISTANCE_SIGMA = 0.05  # of the image's side: smoothing of a distance map
DETECTOR_SIGMA = 0.0125
USUAL = 0.95  # the detector's output counts above this quantile of normal patches
FEWEST = 5  # normal images that show a class; with fewer, its patches are judged as those of the whole image
STEADY = 0.3  # of the classes' mean spread: no class is believed to vary less from image to image


@dataclass(frozen=True)
class PatchImage:
    """What the bank learns from, or is asked about."""

    features: PatchFeatures
    classes: ClassGrid  # (h, w) of the layer DETAIL: the object class that each patch lies on


@dataclass(frozen=True)
class Defects:
    """Patches with simulated defects on one normal image."""

    features: NDArray[np.floating]  # (m, D) `with_surround` of the layer DETAIL
    cells: NDArray[np.integer]  # (m,) their places on the flat grid


@dataclass(frozen=True)
class Layer:
    """The bank of one layer."""

    whitening: Whitening
    centroids: Matrix  # (K, d)

    def log_distance(self, features: NDArray[np.floating]) -> Matrix:
        """(h, w, D) -> (h, w): logarithm of Eq. 4's distance, smoothed."""
        distance, _ = nearest(self.whitening(features.reshape(-1, features.shape[-1])), self.centroids)
        return smoothed(np.log(distance + np.float32(FLOOR)).reshape(features.shape[:2]), DISTANCE_SIGMA)


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

    layers: dict[str, Layer]
    context: Context | None  # of the detector
    detector: Detector | None
    places: dict[str, Placement]  # per layer, and "detector"
    extremes: Extremes | None  # of the detector's map
    scales: dict[str, Scale]
    distance_weight: float

    @classmethod
    def fit(cls, images: Sequence[PatchImage], params: PatchBankParams, defects: Sequence[Defects] = ()) -> "PatchBank":
        """From the normal training images, and simulated defects on each of them (or none at all).

        Raises:
            DataError: there is no image.
        """
        if not images:
            raise DataError("a patch bank needs at least one normal training image; the training split is empty")
        with threadpool_limits(1):  # a sum's order, and so its last bits, may depend on the number of threads
            names = sorted(images[0].features)
            layers = {name: _fit_layer([image.features[name] for image in images], params) for name in names}
            context = detector = None
            if sum(len(found.cells) for found in defects):
                context = Context.fit((with_surround(image.features[DETAIL]), image.classes) for image in images)
                detector = _fit_detector(defects, images, context, params)
            return cls(layers, context, detector, {}, None, {}, params.distance_weight)._placed(images)

    def calibrate(self, images: Sequence[PatchImage]) -> "PatchBank":
        """The same bank, its zero and unit learnt from held-out normal images; unchanged where there is none."""
        with threadpool_limits(1):
            return replace(self, scales=self._scales(list(fork_map(self._normalised, images)))) if images else self

    def distances(self, image: PatchImage) -> Matrix:
        """(h, w) of the finest layer: how unusual each patch is, in normal standard deviations; about 0 where normal."""
        maps = {name: self.scales[name](m) for name, m in self._normalised(image).items()}
        shape = max((m.shape for m in maps.values()), key=lambda s: s[0])
        # A layer of fewer, larger patches is the steadier witness: it counts by the area of its patches.
        areas = {name: 1 / maps[name].size for name in self.layers}
        distance = np.zeros(shape, dtype=np.float32)
        for name, area in areas.items():
            weight = np.float32(area / sum(areas.values()))
            distance += weight * interpolate(maps[name], (shape[0], shape[1]))
        if self.detector is None:
            return distance
        excess = np.maximum(maps["detector"] - np.float32(self.scales["detector"].usual), 0)
        return np.asarray(excess + np.float32(self.distance_weight) * distance, dtype=np.float32)

    def _raw(self, image: PatchImage) -> dict[str, Matrix]:
        maps = {name: layer.log_distance(image.features[name]) for name, layer in self.layers.items()}
        if self.detector is not None and self.context is not None:
            rows = self.context(with_surround(image.features[DETAIL]), image.classes)
            odds = self.detector(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:2])
            maps["detector"] = smoothed(odds, DETECTOR_SIGMA)
        return maps

    def _normalised(self, image: PatchImage) -> dict[str, Matrix]:
        maps = {name: self.places[name](m) for name, m in self._raw(image).items()}
        if self.extremes is not None:
            maps["detector"] = self.extremes(maps["detector"], image.classes)
        return maps

    def _placed(self, images: Sequence[PatchImage]) -> "PatchBank":
        raw = list(fork_map(self._raw, images))
        places = {
            name: Placement.fit(
                np.stack([maps[name] for maps in raw]),
                *((DETECTOR_WINDOW, DETECTOR_BLUR) if name == "detector" else (DISTANCE_WINDOW, DISTANCE_BLUR)),
            )
            for name in raw[0]
        }
        placed = [{name: places[name](m) for name, m in maps.items()} for maps in raw]
        extremes = None
        if self.detector is not None:
            grids = [image.classes for image in images]
            extremes = Extremes.fit([maps["detector"] for maps in placed], grids)
            for maps, grid in zip(placed, grids, strict=True):
                maps["detector"] = extremes(maps["detector"], grid)
        return replace(self, places=places, extremes=extremes, scales=self._scales(placed))

    def _scales(self, maps: Sequence[dict[str, Matrix]]) -> dict[str, Scale]:
        return {name: Scale.fit([m[name] for m in maps]) for name in sorted(maps[0])}

    def save(self, path: Path) -> None:
        """As safetensors; the same bank gives the same bytes."""
        tensors: dict[str, NDArray[np.generic]] = {"distance_weight": _floats(self.distance_weight)}
        for name, layer in self.layers.items():
            tensors[f"layer.{name}.mean"] = layer.whitening.mean
            tensors[f"layer.{name}.axes"] = layer.whitening.axes
            tensors[f"layer.{name}.centroids"] = layer.centroids
        for name, place in self.places.items():
            scale = self.scales[name]
            tensors[f"place.{name}"] = np.stack([place.level, place.spread])
            tensors[f"scale.{name}"] = _floats(scale.mean, scale.deviation, scale.usual)
        if self.detector is not None and self.context is not None and self.extremes is not None:
            tensors["detector.input"] = np.stack([self.detector.mean, self.detector.scale])
            for i, net in enumerate(self.detector.nets):
                tensors |= {f"detector.{i}.{j}": array for j, array in enumerate(net)}
            context = self.context
            tensors["context.place"] = np.stack([context.place_mean, context.place_spread]).astype(np.float16)
            for name, mean, spread in zip(context.classes, context.class_mean, context.class_spread, strict=True):
                tensors[f"context/{name}"] = np.stack([mean, spread]).astype(np.float16)
            for name, level in self.extremes.level.items():
                tensors[f"extremes/{name}"] = _floats(level, self.extremes.spread[name])
        write_artifact(path, pack({name: np.ascontiguousarray(array) for name, array in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "PatchBank":
        """Raises ArtifactError if the file is missing, cut short or not a patch bank."""
        tensors = load_tensors(path)

        def get(name: str) -> Matrix:
            return take(tensors, name, path)

        def named(prefix: str) -> list[str]:  # BACKGROUND, the empty name, is first and must be there
            return sorted({BACKGROUND, *(key.removeprefix(prefix) for key in tensors if key.startswith(prefix))})

        names = sorted(key.split(".")[1] for key in tensors if key.startswith("layer.") and key.endswith(".mean"))
        layers = {
            n: Layer(Whitening(get(f"layer.{n}.mean"), get(f"layer.{n}.axes")), get(f"layer.{n}.centroids"))
            for n in names
        }
        context = detector = extremes = None
        if "detector.input" in tensors:
            nets = sorted(
                {int(key.split(".")[1]) for key in tensors if key.startswith("detector.") and key[9].isdigit()}
            )
            weights = tuple(tuple(get(f"detector.{i}.{j}") for j in range(6)) for i in nets)
            mean, spread = get("detector.input")
            detector = Detector(mean, spread, weights)
            classes = named("context/")
            by_class = np.stack([get(f"context/{n}") for n in classes])
            context = Context(tuple(classes), by_class[:, 0], by_class[:, 1], *get("context.place"))
            normal = {n: get(f"extremes/{n}").tolist() for n in named("extremes/")}
            extremes = Extremes({n: v[0] for n, v in normal.items()}, {n: v[1] for n, v in normal.items()})
        outputs = [*names, *(["detector"] if detector else [])]
        return cls(
            layers,
            context,
            detector,
            {n: Placement(*get(f"place.{n}")) for n in outputs},
            extremes,
            {n: Scale(*(float(v) for v in get(f"scale.{n}"))) for n in outputs},
            float(get("distance_weight")[0]),
        )


def _floats(*values: float) -> Matrix:
    return np.array(values, dtype=np.float32)


def _fit_layer(images: Sequence[NDArray[np.floating]], params: PatchBankParams) -> Layer:
    sample = _sample(images, params.max_patches)
    whitening = Whitening.fit(sample, params.dimensions, params.whitening)
    return Layer(whitening, kmeans(whitening(sample), params.clusters, params.seed))


def _fit_detector(
    defects: Sequence[Defects], images: Sequence[PatchImage], context: Context, params: PatchBankParams
) -> Detector:
    count = sum(len(found.cells) for found in defects)
    step = -(-count // params.max_patches)
    faulty = [
        context.rows(found.features[::step].astype(np.float32), image.classes, found.cells[::step])
        for found, image in zip(defects, images, strict=True)
    ]
    share = min(1.0, params.max_patches / sum(image.classes.size for image in images))
    rng = np.random.default_rng(0)
    normal = []
    for image in images:
        rows = with_surround(image.features[DETAIL])
        cells = _draw(rng, image.classes.size, share)
        normal.append(context.rows(rows.reshape(-1, rows.shape[-1])[cells], image.classes, cells))
    return Detector.fit(np.concatenate(faulty), np.concatenate(normal), params.seed)


def _sample(images: Sequence[NDArray[np.floating]], limit: int) -> Matrix:
    """At most `limit` patches (N, D) of all images, at random places that depend on their number only."""
    share = min(1.0, limit / sum(image.shape[0] * image.shape[1] for image in images))
    rng = np.random.default_rng(0)
    rows = [image.reshape(-1, image.shape[-1]) for image in images]
    return np.concatenate([flat[_draw(rng, len(flat), share)].astype(np.float32) for flat in rows])


def _draw(rng: np.random.Generator, total: int, share: float) -> NDArray[np.int64]:
    """A random `share` of the indices below `total`, at least one, ascending."""
    return np.sort(rng.permutation(total)[: max(1, int(share * total))])
