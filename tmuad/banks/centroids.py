"""What the image banks share: whitened features on a sphere, K-means centroids, the nearest of them, and loading."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tmuad.banks.index import Centroids, Index
from tmuad.errors import ArtifactError

Matrix = NDArray[np.float32]

BLOCK = 65536  # rows compared with the bank at once, so that memory stays bounded
FLOOR = 1e-3  # added to a distance before its logarithm


@dataclass(frozen=True)
class Whitening:
    """Standardised, rotated to principal axes, scaled, lifted to the unit sphere."""

    mean: Matrix  # (D,)
    axes: Matrix  # (D, d)

    @classmethod
    def fit(cls, features: Matrix, dimensions: int, power: float) -> "Whitening":
        """From normal features (N, D). `power` 0 keeps the principal variances, 1 makes them equal."""
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features - mean
        spread = centred.std(axis=0)
        spread = spread + 0.01 * max(float(spread.mean()), 1e-6)  # a channel that never varies must not explode
        standard = centred / spread
        values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        order = np.argsort(-values, kind="stable")[:dimensions]
        vectors = vectors[:, order] * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(vectors.shape[1])])[order]
        scale = np.maximum(values[order], 1e-3) ** (-power / 2)
        axes = vectors * scale / spread[:, None]
        # Two features a typical distance apart stand at a right angle's half: far enough for cosine to order them.
        size = np.sqrt(np.mean(np.sum((standard @ (vectors * scale)) ** 2, axis=1)))
        return cls(mean.astype(np.float32), (axes / max(size, 1e-6)).astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> Matrix:
        """(N, D) -> (N, d + 1), unit rows: the cosine of two of them falls with the whitened distance of the two features.

        A plain cosine after centring would ignore how far a feature lies from the mean, which is what tells a strong
        defect; the extra coordinate keeps it.
        """
        flat = (features.astype(np.float32) - self.mean) @ self.axes
        lifted = np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1)
        unit: Matrix = lifted / np.linalg.norm(lifted, axis=1, keepdims=True)
        return unit


def kmeans(unit: Matrix, clusters: int, seed: int) -> Matrix:
    """Spherical K-means centroids (min(clusters, N), D) of unit rows (N, D); all rows take part."""
    import faiss

    k = min(clusters, len(unit))
    if k == len(unit):
        return unit
    model = faiss.Kmeans(
        unit.shape[1], k, niter=12, seed=seed, spherical=True, min_points_per_centroid=1, max_points_per_centroid=10**9
    )
    model.train(np.ascontiguousarray(unit, dtype=np.float32))
    return np.asarray(model.centroids, dtype=np.float32)


def nearest(unit: Matrix, centroids: Centroids) -> tuple[Matrix, NDArray[np.int64]]:
    """Eq. 4's 1 - cosine to the most similar centroid (N,), and which one (N,)."""
    if isinstance(centroids, Index):
        squared, number = centroids.squared(unit)
        return squared * np.float32(0.5), number  # of unit vectors, half the squared distance is 1 - cosine
    distance = np.empty(len(unit), dtype=np.float32)
    index = np.empty(len(unit), dtype=np.int64)
    for start in range(0, len(unit), BLOCK):
        rows = slice(start, start + BLOCK)
        similarity = unit[rows] @ centroids.T
        index[rows] = similarity.argmax(axis=1)
        distance[rows] = 1 - similarity[np.arange(len(similarity)), index[rows]]
    return np.maximum(distance, 0), index


def floats(*values: float) -> Matrix:
    """A few numbers as an array of a bank's file."""
    return np.array(values, dtype=np.float32)


def take(tensors: Mapping[str, NDArray[np.generic]], name: str, path: object) -> Matrix:
    """The array `name` of a loaded bank.

    Raises:
        ArtifactError: it is not there.
    """
    if name not in tensors:
        raise ArtifactError(
            f"{path}: no '{name}' in this bank; it was cut short or written by another version. Fit again"
        )
    return np.asarray(tensors[name], dtype=np.float32)


def take_centroids(tensors: Mapping[str, NDArray[np.generic]], prefix: str, path: object) -> Centroids:
    """The centroids of a loaded bank, whose names start with `prefix`; see `tmuad.banks.index.tensor_name`."""
    if f"{prefix}index" in tensors:
        return Index(np.asarray(tensors[f"{prefix}index"], dtype=np.uint8))
    return take(tensors, f"{prefix}centroids", path)


def load_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Raises ArtifactError if the file is missing or not a safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: no usable memory bank ({error}); run the stage 'feature_banks' of this unit again"
        ) from None
