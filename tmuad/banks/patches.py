"""The patch memory bank M_P (Eq. 4): per layer, K-means centroids of the patches of normal images.

Each layer's distances are put in relation to what is normal at their place. Where simulated defects are given, a detector
is trained on them besides: what it finds above its normal range is added to the distances, which then decide about
everything it has no opinion on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack
from threadpoolctl import threadpool_limits

from tmuad.banks.centroids import FLOOR, Matrix, Whitening, kmeans, load_tensors, nearest, take
from tmuad.banks.detector import Detector
from tmuad.banks.grid import interpolate, smoothed
from tmuad.banks.placement import Placement
from tmuad.config import PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.encode.filters import with_surround
from tmuad.errors import DataError
from tmuad.parquet import write_artifact

DETAIL = "detail"  # the layer that simulated defects are described in
DISTANCE_WINDOW, DISTANCE_BLUR = 0.09, 0.036  # of the image's side: placement of distances, which are smooth
DETECTOR_WINDOW, DETECTOR_BLUR = 0.27, 0.07  # placement of the detector, whose peaks are sharp and few
DISTANCE_SIGMA = 0.05  # of the image's side: smoothing of a distance map
DETECTOR_SIGMA = 0.0125
USUAL = 0.95  # the detector's output counts above this quantile of normal patches


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
    detector: Detector | None
    places: dict[str, Placement]  # per layer, and "detector"
    scales: dict[str, Scale]
    distance_weight: float

    @classmethod
    def fit(
        cls, features: Iterable[PatchFeatures], params: PatchBankParams, defects: Iterable[NDArray[np.floating]] = ()
    ) -> "PatchBank":
        """From the features of the normal training images, and of simulated defects on them (`encode_defects`).

        Raises:
            DataError: there is no image.
        """
        images = list(features)
        if not images:
            raise DataError("a patch bank needs at least one normal training image; the training split is empty")
        faulty = [rows for rows in defects if len(rows)]
        with threadpool_limits(1):  # a sum's order, and so its last bits, may depend on the number of threads
            layers = {name: _fit_layer([image[name] for image in images], params) for name in sorted(images[0])}
            detector = _fit_detector(np.concatenate(faulty), images, params) if faulty else None
            bank = cls(layers, detector, {}, {}, params.distance_weight)
            return bank._placed(images)

    def calibrate(self, features: Iterable[PatchFeatures]) -> "PatchBank":
        """The same bank, its zero and unit learnt from held-out normal images; unchanged where there is none."""
        with threadpool_limits(1):
            raw = [self._raw(image) for image in features]
            return replace(self, scales=self._scales(raw)) if raw else self

    def distances(self, features: PatchFeatures) -> Matrix:
        """(h, w) of the finest layer: how unusual each patch is, in normal standard deviations; about 0 where normal."""
        maps = {name: self.scales[name](self.places[name](m)) for name, m in self._raw(features).items()}
        shape = max((m.shape for m in maps.values()), key=lambda s: s[0])
        distance: Matrix = np.mean(
            [interpolate(maps[name], (shape[0], shape[1])) for name in self.layers], axis=0, dtype=np.float32
        )
        if self.detector is None:
            return distance
        excess = np.maximum(maps["detector"] - np.float32(self.scales["detector"].usual), 0)
        return np.asarray(excess + np.float32(self.distance_weight) * distance, dtype=np.float32)

    def _raw(self, features: PatchFeatures) -> dict[str, Matrix]:
        maps = {name: layer.log_distance(features[name]) for name, layer in self.layers.items()}
        if self.detector is not None:
            rows = with_surround(features[DETAIL])
            odds = self.detector(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:2])
            maps["detector"] = smoothed(odds, DETECTOR_SIGMA)
        return maps

    def _placed(self, images: Sequence[PatchFeatures]) -> "PatchBank":
        raw = [self._raw(image) for image in images]
        places = {
            name: Placement.fit(
                np.stack([maps[name] for maps in raw]),
                *((DETECTOR_WINDOW, DETECTOR_BLUR) if name == "detector" else (DISTANCE_WINDOW, DISTANCE_BLUR)),
            )
            for name in raw[0]
        }
        bank = replace(self, places=places)
        return replace(bank, scales=bank._scales(raw))

    def _scales(self, raw: Sequence[dict[str, Matrix]]) -> dict[str, Scale]:
        return {name: Scale.fit([place(maps[name]) for maps in raw]) for name, place in self.places.items()}

    def save(self, path: Path) -> None:
        """As safetensors; the same bank gives the same bytes."""
        tensors: dict[str, NDArray[np.generic]] = {
            "distance_weight": np.array([self.distance_weight], dtype=np.float32)
        }
        for name, layer in self.layers.items():
            tensors[f"layer.{name}.mean"] = layer.whitening.mean
            tensors[f"layer.{name}.axes"] = layer.whitening.axes
            tensors[f"layer.{name}.centroids"] = layer.centroids
        for name, place in self.places.items():
            scale = self.scales[name]
            tensors[f"place.{name}"] = np.stack([place.level, place.spread])
            tensors[f"scale.{name}"] = np.array([scale.mean, scale.deviation, scale.usual], dtype=np.float32)
        if self.detector is not None:
            tensors["detector.input"] = np.stack([self.detector.mean, self.detector.scale])
            for i, net in enumerate(self.detector.nets):
                tensors |= {f"detector.{i}.{j}": array for j, array in enumerate(net)}
        write_artifact(path, pack({name: np.ascontiguousarray(array) for name, array in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "PatchBank":
        """Raises ArtifactError if the file is missing, cut short or not a patch bank."""
        tensors = load_tensors(path)

        def get(name: str) -> Matrix:
            return take(tensors, name, path)

        names = sorted(key.split(".")[1] for key in tensors if key.startswith("layer.") and key.endswith(".mean"))
        layers = {
            n: Layer(Whitening(get(f"layer.{n}.mean"), get(f"layer.{n}.axes")), get(f"layer.{n}.centroids"))
            for n in names
        }
        detector = None
        if "detector.input" in tensors:
            nets = sorted(
                {int(key.split(".")[1]) for key in tensors if key.startswith("detector.") and key[9].isdigit()}
            )
            weights = tuple(tuple(get(f"detector.{i}.{j}") for j in range(6)) for i in nets)
            mean, scale = get("detector.input")
            detector = Detector(mean, scale, weights)
        outputs = [*names, *(["detector"] if detector else [])]
        return cls(
            layers,
            detector,
            {n: Placement(*get(f"place.{n}")) for n in outputs},
            {n: Scale(*(float(v) for v in get(f"scale.{n}"))) for n in outputs},
            float(get("distance_weight")[0]),
        )


def _fit_layer(images: Sequence[NDArray[np.floating]], params: PatchBankParams) -> Layer:
    sample = _sample(images, params.max_patches)
    whitening = Whitening.fit(sample, params.dimensions, params.whitening)
    return Layer(whitening, kmeans(whitening(sample), params.clusters, params.seed))


def _fit_detector(faulty: NDArray[np.floating], images: Sequence[PatchFeatures], params: PatchBankParams) -> Detector:
    normal = _sample([with_surround(image[DETAIL]) for image in images], params.max_patches)
    step = -(-len(faulty) // params.max_patches)
    return Detector.fit(faulty[::step].astype(np.float32), normal, params.seed)


def _sample(images: Sequence[NDArray[np.floating]], limit: int) -> Matrix:
    """At most `limit` patches (N, D) of all images, at random places that depend on their number only."""
    total = sum(image.shape[0] * image.shape[1] for image in images)
    share = min(1.0, limit / total)
    rng = np.random.default_rng(0)
    picked = []
    for image in images:
        rows = image.reshape(-1, image.shape[-1])
        count = max(1, int(share * len(rows)))
        picked.append(rows[np.sort(rng.permutation(len(rows))[:count])].astype(np.float32))
    return np.concatenate(picked)
