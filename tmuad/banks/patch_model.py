"""What compares a patch with normal ones: per layer the K-means centroids (Eq. 4), and the detector in its context.

It is learnt from a bounded number of the training images, drawn by lot (tmuad/lot.py): the same ones, mostly, when one
more comes. What it says of an image that it has seen is then in the cache; see `PatchMaps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tmuad.banks.centroids import FLOOR, Matrix, Whitening, kmeans, nearest, take, take_centroids
from tmuad.banks.context import BACKGROUND, ClassGrid, Context
from tmuad.banks.detector import Detector
from tmuad.banks.grid import smoothed
from tmuad.banks.index import Centroids, array_of, compressed, tensor_name
from tmuad.cache import Record, fingerprint
from tmuad.config import PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.encode.filters import with_surround
from tmuad.errors import DataError, ParameterError
from tmuad.parallel import one_thread

DETAIL = "detail"  # the layer that simulated defects are described in
DETECTOR = "detector"  # the name of the detector's map
DISTANCE_SIGMA = 0.05  # of the image's side: smoothing of a distance map
DETECTOR_SIGMA = 0.0125

PatchMaps = dict[str, Matrix]  # layer or DETECTOR -> (h, w)


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
    centroids: Centroids  # (K, d)

    def log_distance(self, features: NDArray[np.floating]) -> Matrix:
        """(h, w, D) -> (h, w): logarithm of Eq. 4's distance, smoothed."""
        distance, _ = nearest(self.whitening(features.reshape(-1, features.shape[-1])), self.centroids)
        return smoothed(np.log(distance + np.float32(FLOOR)).reshape(features.shape[:2]), DISTANCE_SIGMA)


@dataclass(frozen=True)
class PatchModel:
    """Bank and detector of one unit."""

    layers: dict[str, Layer]
    context: Context | None  # of the detector
    detector: Detector | None

    @classmethod
    def fit(
        cls, images: Sequence[PatchImage], params: PatchBankParams, defects: Sequence[Defects] = ()
    ) -> "PatchModel":
        """From normal training images, and simulated defects on each of them (or none at all).

        Raises:
            DataError: there is no image.
            ParameterError: a layer is asked for that no encoder has.
        """
        if not images:
            raise DataError("a patch bank needs at least one normal training image; the training split is empty")
        with threadpool_limits(1):  # a sum's order, and so its last bits, may depend on the number of threads
            names = chosen_layers(images[0].features, params.layers)
            layers = {name: _fit_layer([image.features[name] for image in images], params) for name in names}
            if not params.detector or not sum(len(found.cells) for found in defects):
                return cls(layers, None, None)
            context = Context.fit((with_surround(image.features[DETAIL]), image.classes) for image in images)
            return cls(layers, context, _fit_detector(defects, images, context, params))

    def __call__(self, image: PatchImage) -> PatchMaps:
        """Per layer the logarithm of Eq. 4's distance, and the detector's log-odds, both smoothed."""
        with one_thread():
            maps = {name: layer.log_distance(image.features[name]) for name, layer in self.layers.items()}
            if self.detector is not None and self.context is not None:
                rows = self.context(with_surround(image.features[DETAIL]), image.classes)
                odds = self.detector(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:2])
                maps[DETECTOR] = smoothed(odds, DETECTOR_SIGMA)
            return maps

    @cached_property
    def digest(self) -> str:
        """Of everything that its maps depend on, besides the image."""
        return fingerprint(*((name, array.tobytes()) for name, array in sorted(self.tensors().items())))

    def tensors(self) -> Record:
        """All arrays by name; the inverse of `from_tensors`."""
        tensors: Record = {}
        for name, layer in self.layers.items():
            tensors[f"layer.{name}.mean"] = layer.whitening.mean
            tensors[f"layer.{name}.axes"] = layer.whitening.axes
            tensors[f"layer.{name}.{tensor_name(layer.centroids)}"] = array_of(layer.centroids)
        if self.detector is not None and self.context is not None:
            tensors["detector.input"] = np.stack([self.detector.mean, self.detector.scale])
            tensors["detector.axes"] = self.detector.axes
            for i, net in enumerate(self.detector.nets):
                tensors |= {f"detector.{i}.{j}": array for j, array in enumerate(net)}
            context = self.context
            tensors["context.place"] = np.stack([context.place_mean, context.place_spread]).astype(np.float16)
            for name, mean, spread in zip(context.classes, context.class_mean, context.class_spread, strict=True):
                tensors[f"context/{name}"] = np.stack([mean, spread]).astype(np.float16)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.generic]], path: object) -> "PatchModel":
        """Raises ArtifactError that names the file `path` if an array is missing."""

        def get(name: str) -> Matrix:
            return take(tensors, name, path)

        names = sorted(key.split(".")[1] for key in tensors if key.startswith("layer.") and key.endswith(".mean"))
        layers = {
            n: Layer(
                Whitening(get(f"layer.{n}.mean"), get(f"layer.{n}.axes")), take_centroids(tensors, f"layer.{n}.", path)
            )
            for n in names
        }
        if "detector.input" not in tensors:
            return cls(layers, None, None)
        nets = sorted({int(key.split(".")[1]) for key in tensors if key.startswith("detector.") and key[9].isdigit()})
        weights = tuple(tuple(get(f"detector.{i}.{j}") for j in range(6)) for i in nets)
        classes = listed(tensors, "context/")
        by_class = np.stack([get(f"context/{n}") for n in classes])
        context = Context(tuple(classes), by_class[:, 0], by_class[:, 1], *get("context.place"))
        mean, spread = get("detector.input")
        return cls(layers, context, Detector(mean, spread, get("detector.axes"), weights))


def listed(tensors: Mapping[str, NDArray[np.generic]], prefix: str) -> list[str]:
    """Classes whose arrays are called `prefix` and their name; BACKGROUND, the empty name, is first and must be there."""
    return sorted({BACKGROUND, *(key.removeprefix(prefix) for key in tensors if key.startswith(prefix))})


def chosen_layers(features: PatchFeatures, wanted: Sequence[str]) -> list[str]:
    """Names of the layers that a bank looks at, sorted: the `wanted` ones, or all. Raises ParameterError for others."""
    if unknown := sorted(set(wanted) - set(features)):
        known = ", ".join(sorted(features))
        raise ParameterError(f"patch_bank.layers: no layer {', '.join(unknown)}; the encoders have: {known}")
    return sorted(wanted or features)


def _fit_layer(images: Sequence[NDArray[np.floating]], params: PatchBankParams) -> Layer:
    sample = _sample(images, params.max_patches)
    whitening = Whitening.fit(sample, params.dimensions, params.whitening)
    return Layer(whitening, compressed(kmeans(whitening(sample), params.clusters, params.seed), params.index))


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
