"""The image banks as the paper prints them: cosine distance to K-means centroids, and nothing besides.

Features of pre-trained encoders are made to be compared by their angle; they need neither the whitening nor the detector
that hand-made features gain from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack
from threadpoolctl import threadpool_limits

from tmuad.banks.bounded import Bounded
from tmuad.banks.centroids import Matrix, kmeans, load_tensors, nearest
from tmuad.banks.grid import interpolate
from tmuad.banks.index import Centroids, Index, array_of, compressed
from tmuad.banks.objects import REGION, Labelled
from tmuad.banks.patch_model import PatchImage, chosen_layers
from tmuad.cache import write_atomic
from tmuad.config import ObjectBankParams, PatchBankParams
from tmuad.encode import ObjectFeatures
from tmuad.errors import DataError
from tmuad.parallel import one_thread

MARK = "cosine."  # prefix of the tensors' names, by which a file says what it is
OBJECTS, EMPTY = f"{MARK}objects/", f"{MARK}nothing"  # groups of an object bank; a bank without any


@dataclass(frozen=True)
class CosinePatchBank:
    """M_P of one unit: unit centroids (K, D) per layer."""

    layers: dict[str, Centroids]

    @classmethod
    def fit(cls, images: Iterable[PatchImage], params: PatchBankParams) -> "CosinePatchBank":
        """From the features of the normal training images, one at a time; K centroids per encoder and layer.

        A layer looks at `max_patches` patches, as many of each image. How many images there are is known only at the end,
        so twice that many are gathered, and thinned by halves whenever they are too many.

        Raises:
            DataError: there is no image.
        """
        gathered: dict[str, list[Matrix]] = {}
        step = 1
        for number, image in enumerate(images):
            for name in chosen_layers(image.features, params.layers):
                layer = image.features[name]
                rows = layer.reshape(-1, layer.shape[-1]).astype(np.float32)
                order = np.random.default_rng(number).permutation(len(rows))  # the first rows of it are a fair sample
                gathered.setdefault(name, []).append(rows[order[: -(-len(rows) // step)]])
            while sum(len(rows) for rows in next(iter(gathered.values()), [])) > 2 * params.max_patches:
                step *= 2
                gathered = {name: [rows[: -(-len(rows) // 2)] for rows in many] for name, many in gathered.items()}
        if not gathered:
            raise DataError("a patch bank needs at least one normal training image; the training split is empty")
        with threadpool_limits(1):  # a sum's order, and so its last bits, may depend on the number of threads
            return cls(
                {
                    n: compressed(
                        kmeans(_unit(np.concatenate(gathered[n])), params.clusters, params.seed), params.index
                    )
                    for n in sorted(gathered)
                }
            )

    def calibrate(self, images: Iterable[PatchImage]) -> "CosinePatchBank":
        """The same bank: nothing in it depends on what distance is usual."""
        return self

    def distances(self, image: PatchImage) -> Matrix:
        """(h, w) of the finest layer: Eq. 4's 1 - cosine to the nearest centroid, the mean over the layers."""
        maps: dict[str, Matrix] = {}
        for name, centroids in self.layers.items():
            layer = image.features[name]
            distance, _ = nearest(_unit(layer.reshape(-1, layer.shape[-1]).astype(np.float32)), centroids)
            maps[name] = distance.reshape(layer.shape[:2])
        finest = max(maps.values(), key=len)
        same = [interpolate(m, (finest.shape[0], finest.shape[1])) for m in maps.values()]
        return np.asarray(np.mean(np.stack(same), axis=0), dtype=np.float32)

    def save(self, path: Path) -> None:
        write_atomic(
            path, pack({f"{MARK}{name}": np.ascontiguousarray(array_of(c)) for name, c in self.layers.items()})
        )

    @classmethod
    def load(cls, path: Path) -> "CosinePatchBank":
        """Raises ArtifactError if the file is missing or not a bank."""
        return cls({name.removeprefix(MARK): _loaded(c) for name, c in load_tensors(path).items()})


@dataclass(frozen=True)
class CosineObjectBank:
    """M_O of one unit: unit centroids (K, D) of the open segments, which form one group, or of each class of objects."""

    groups: dict[str, Centroids]  # by class, REGION for open segments; none where the normal images show nothing

    @property
    def by_class(self) -> bool:
        """Whether it knows classes, or the regions of the open segmenter alone."""
        return any(name != REGION for name in self.groups)

    @classmethod
    def fit(cls, images: Iterable[Labelled], params: ObjectBankParams) -> "CosineObjectBank":
        """From the objects of each normal training image; K centroids per class."""
        rows = Bounded(params.max_memory).fill((many.labels, many.features) for many in images)
        with one_thread():
            return cls(
                {
                    n: compressed(kmeans(_unit(rows[n]), params.clusters, params.seed), params.index)
                    for n in sorted(rows)
                }
            )

    def calibrate(self, images: Iterable[Labelled], max_memory: int = 0) -> "CosineObjectBank":
        """The same bank: nothing in it depends on what distance is usual."""
        return self

    def distances(self, labels: Sequence[str], features: ObjectFeatures, portraits: Matrix | None = None) -> Matrix:
        """(n,): Eq. 3's 1 - cosine to the nearest centroid of its class; 1 for a class that no normal image shows."""
        distance = np.ones(len(features), dtype=np.float32)
        for name, centroids in self.groups.items():
            mine = np.array([label == name for label in labels], dtype=np.bool_)
            if mine.any():
                distance[mine] = nearest(_unit(features[mine]), centroids)[0]
        return distance

    def save(self, path: Path) -> None:
        tensors = {f"{OBJECTS}{name}": np.ascontiguousarray(array_of(c)) for name, c in self.groups.items()}
        write_atomic(path, pack(tensors or {EMPTY: np.zeros((0, 1), dtype=np.float32)}))

    @classmethod
    def load(cls, path: Path) -> "CosineObjectBank":
        """Raises ArtifactError if the file is missing or not a bank."""
        tensors = load_tensors(path)
        return cls({n.removeprefix(OBJECTS): _loaded(c) for n, c in tensors.items() if n.startswith(OBJECTS)})


def is_cosine(path: Path) -> bool:
    """Whether the bank in `path` is one of these. Raises ArtifactError if the file is missing or not a bank."""
    names = load_tensors(path)
    return bool(names) and all(name.startswith(MARK) for name in names)


def _loaded(array: NDArray[np.generic]) -> Centroids:
    return Index(np.asarray(array, np.uint8)) if array.dtype == np.uint8 else np.asarray(array, np.float32)


def _unit(rows: NDArray[np.float32]) -> Matrix:
    unit: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
