"""The object memory bank M_O (Eq. 3): what the objects of each class look like in normal images.

A class of objects is compared with itself alone: a nut with nuts. In a category without object classes, the regions of the
open segmenter form one group. Distances are Euclidean in whitened principal axes; cosine, as printed, would ignore how far
a hand-made feature lies from the mean, which is what tells a strong defect. The objects of a class are compared by their
portraits besides (`portraits.py`); what counts is the weighted mean of both.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack
from threadpoolctl import threadpool_limits

from tmuad.banks.bounded import Bounded
from tmuad.banks.centroids import Matrix, floats, load_tensors, take, take_centroids
from tmuad.banks.index import Centroids, Index, array_of, compressed, tensor_name
from tmuad.banks.portraits import KnownPortraits
from tmuad.banks.usual import Usual
from tmuad.config import ObjectBankParams
from tmuad.encode import ObjectFeatures
from tmuad.parquet import write_artifact

REGION = ""  # the group of regions without a class
FEWEST = 8  # objects of a class; with fewer nothing is known of their variety
CLIP = 8.0  # standard deviations: beyond, a channel says no more
BLOCK = 1024  # rows compared with the bank at once


class Labelled(NamedTuple):
    """The objects of one image."""

    labels: Sequence[str]  # (n) classes
    features: ObjectFeatures  # (n, D)
    portraits: Matrix | None = None  # (n, LENGTH), where the objects have some


@dataclass(frozen=True)
class Group:
    """The objects of one class."""

    mean: Matrix  # (D,)
    scale: Matrix  # (D,) one over the standard deviation
    axes: Matrix  # (D, d) whitened principal axes
    centroids: Centroids  # (K, d)
    usual: Usual

    @classmethod
    def fit(cls, features: ObjectFeatures, params: ObjectBankParams) -> "Group":
        """From normal objects (n, D). Level and spread are those of each object to the others."""
        mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
        standard = np.clip((features - mean) / deviation, -CLIP, CLIP)
        _, singular, axes = np.linalg.svd(standard, full_matrices=False)
        variance = (singular**2 / len(standard))[: params.dimensions]
        # A share of the mean variance is added to each axis, so that axes of mere noise are not blown up.
        whitened = axes[: params.dimensions].T / np.sqrt(variance + params.ridge * variance.mean() + 0.05)
        rows = standard @ whitened
        centroids = _kmeans(rows, params)
        parts = [np.asarray(x, dtype=np.float32) for x in (mean, 1 / deviation, whitened, centroids)]
        group = cls(parts[0], parts[1], parts[2], parts[3], Usual(0.0, 1.0))
        own = _nearest(group.whiten(features), parts[3], ignore_itself=len(centroids) == len(rows))
        return replace(group, usual=Usual.of(own), centroids=compressed(parts[3], params.index))

    def whiten(self, features: ObjectFeatures) -> Matrix:
        """(n, D) -> (n, d)."""
        standard = np.clip((features - self.mean) * self.scale, -CLIP, CLIP)
        return np.asarray(standard @ self.axes, dtype=np.float32)

    def distances(self, features: ObjectFeatures) -> Matrix:
        """(n, D) -> (n,): how far each object is from the nearest normal one, in normal spreads above the normal level."""
        return self.usual(_nearest(self.whiten(features), self.centroids))


@dataclass(frozen=True)
class ObjectBank:
    """M_O of one unit: a group per object class."""

    groups: dict[str, Group]
    portraits: dict[str, KnownPortraits] = field(default_factory=dict)  # of the groups that have some
    portrait_weight: float = 0.0  # their share in an object's distance

    @property
    def by_class(self) -> bool:
        """Whether it knows classes, or the regions of the open segmenter alone."""
        return any(name != REGION for name in self.groups)

    @classmethod
    def fit(cls, images: Iterable[Labelled], params: ObjectBankParams) -> "ObjectBank":
        """From the objects of each normal training image; a class with fewer than FEWEST has no group."""
        with threadpool_limits(1):  # a sum's order, and so its last bits, may depend on the number of threads
            rows, portraits = _bounded(images, params.max_memory)
            names = [name for name in sorted(rows) if len(rows[name]) >= FEWEST]
            groups = {name: Group.fit(rows[name], params) for name in names}
            if not params.portrait_weight:
                return cls(groups)
            known = {name: KnownPortraits.fit(portraits[name], params) for name in names if portraits[name].size}
            return cls(groups, known, params.portrait_weight)

    def calibrate(self, images: Iterable[Labelled], max_memory: int = ObjectBankParams().max_memory) -> "ObjectBank":
        """The same bank, level and spread learnt from held-out normal images; a class they do not show stays as it is.

        At most `max_memory` MB of their features are held; see `Bounded`.
        """
        rows, portraits = _bounded(images, max_memory)
        groups, known = dict(self.groups), dict(self.portraits)
        for name, group in self.groups.items():
            if name not in rows or len(rows[name]) < FEWEST:
                continue
            groups[name] = replace(group, usual=Usual.of(_nearest(group.whiten(rows[name]), group.centroids)))
            if name in known:
                known[name] = known[name].calibrated(portraits[name])
        return replace(self, groups=groups, portraits=known)

    def distances(self, labels: Sequence[str], features: ObjectFeatures, portraits: Matrix | None = None) -> Matrix:
        """(n,): how unusual each object is for its class; 0 for a class the bank does not know."""
        distance = np.zeros(len(labels), dtype=np.float32)
        for name, group in self.groups.items():
            mine = np.array([label == name for label in labels], dtype=np.bool_)
            if not mine.any():
                continue
            distance[mine] = group.distances(features[mine])
            if portraits is not None and name in self.portraits:
                weight = np.float32(self.portrait_weight)
                distance[mine] += weight * (self.portraits[name].distances(portraits[mine]) - distance[mine])
        return distance

    def save(self, path: Path) -> None:
        """As safetensors; the same bank gives the same bytes."""
        tensors: dict[str, NDArray[np.generic]] = {}
        for name, group in self.groups.items():
            for part in ("mean", "scale", "axes"):
                tensors[f"{name}/{part}"] = np.ascontiguousarray(getattr(group, part))
            tensors[f"{name}/{tensor_name(group.centroids)}"] = np.ascontiguousarray(array_of(group.centroids))
            tensors[f"{name}/normal"] = floats(group.usual.level, group.usual.spread)
        for name, known in self.portraits.items():
            tensors[f"{name}/portrait centroids"] = known.centroids.astype(np.float16)  # exact: see KnownPortraits
            tensors[f"{name}/portrait differences"] = np.ascontiguousarray(known.differences)
            middle, worst = known.middle, known.worst
            tensors[f"{name}/portrait normal"] = floats(
                middle.level, middle.spread, worst.level, worst.spread, self.portrait_weight
            )
        write_artifact(path, pack(tensors))

    @classmethod
    def load(cls, path: Path) -> "ObjectBank":
        """Raises ArtifactError if the file is missing or not an object bank."""
        tensors = load_tensors(path)
        groups, known, weight = {}, {}, 0.0
        for name in sorted({key.rpartition("/")[0] for key in tensors}):
            mean, scale, axes = (take(tensors, f"{name}/{field}", path) for field in ("mean", "scale", "axes"))
            centroids = take_centroids(tensors, f"{name}/", path)
            level, spread = take(tensors, f"{name}/normal", path).tolist()
            groups[name] = Group(mean, scale, axes, centroids, Usual(level, spread))
            if f"{name}/portrait normal" in tensors:
                rows = take(tensors, f"{name}/portrait centroids", path)
                differences = take(tensors, f"{name}/portrait differences", path)
                *normal, weight = take(tensors, f"{name}/portrait normal", path).tolist()
                known[name] = KnownPortraits(rows, differences, Usual(*normal[:2]), Usual(*normal[2:]))
        return cls(groups, known, weight)


def _bounded(images: Iterable[Labelled], max_memory: int) -> tuple[dict[str, ObjectFeatures], dict[str, Matrix]]:
    """Features (n, D) and portraits (n, LENGTH or 0) of each class, at most `max_memory` MB of both together."""
    depth = 0

    def rows() -> Iterator[tuple[Sequence[str], Matrix]]:
        nonlocal depth
        for labels, features, portraits in images:
            depth = features.shape[1]
            yield labels, features if portraits is None else np.concatenate([features, portraits], axis=1)

    found = Bounded(max_memory).fill(rows())
    return {n: many[:, :depth] for n, many in found.items()}, {n: many[:, depth:] for n, many in found.items()}


def _kmeans(rows: NDArray[np.floating], params: ObjectBankParams) -> NDArray[np.floating]:
    """At most `clusters` centroids; the rows themselves where there are no more of them."""
    if len(rows) <= params.clusters:
        return rows
    import faiss

    model = faiss.Kmeans(
        rows.shape[1],
        params.clusters,
        niter=12,
        seed=params.seed,
        min_points_per_centroid=1,
        max_points_per_centroid=10**9,
    )
    model.train(np.ascontiguousarray(rows, dtype=np.float32))
    return np.asarray(model.centroids)


def _nearest(rows: Matrix, centroids: Centroids, ignore_itself: bool = False) -> Matrix:
    """Distance (n,) of each row to the nearest centroid; `ignore_itself` where row i is centroid i."""
    if isinstance(centroids, Index):
        return np.sqrt(centroids.squared(rows)[0])
    norms = (centroids**2).sum(axis=1)
    nearest = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        squared = (block**2).sum(axis=1)[:, None] - 2 * block @ centroids.T + norms
        if ignore_itself:
            squared[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        nearest[start : start + BLOCK] = np.sqrt(np.maximum(squared.min(axis=1), 0))
    return nearest
