"""Which normal image looks most like another one, place by place: what "nearest by patch" means.

The patch bank keeps centroids and no longer knows which image a patch came from. Here every image has a small signature:
its patch features averaged over a coarse grid, projected to few dimensions, in standard deviations of the normal images.
Two images are as far apart as their signatures are on the average place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack

from tmuad.banks.centroids import Matrix, load_tensors, take
from tmuad.encode import PatchFeatures
from tmuad.errors import ArtifactError
from tmuad.parquet import write_artifact

GRID = 8  # places per side
DIMENSIONS = 16  # per layer, after a random projection that keeps distances (Johnson-Lindenstrauss)
SAMPLE = 64  # images that mean and spread of the features are learnt from
BLOCK = 256  # images compared with all others at once


@dataclass(frozen=True)
class Projection:
    """Patch features -> signature."""

    mean: dict[str, Matrix]  # layer -> (D,)
    scale: dict[str, Matrix]  # layer -> (D,), one over the standard deviation

    @classmethod
    def fit(cls, features: Iterable[PatchFeatures]) -> "Projection":
        """From normal images; the first SAMPLE of them are looked at."""
        pooled: dict[str, list[Matrix]] = {}
        for _, image in zip(range(SAMPLE), features, strict=False):
            for layer, values in image.items():
                pooled.setdefault(layer, []).append(_pool(values))
        mean, scale = {}, {}
        for layer in sorted(pooled):
            rows = np.concatenate(pooled[layer])
            deviation = rows.std(axis=0)
            mean[layer] = rows.mean(axis=0)
            scale[layer] = 1 / (deviation + 0.01 * max(float(deviation.mean()), 1e-6))
        return cls(mean, scale)

    def __call__(self, features: PatchFeatures) -> Matrix:
        """Signature (GRID * GRID, L * DIMENSIONS) of one image; squared distances are means over layers and channels."""
        parts = [
            (_pool(features[layer]) - self.mean[layer]) * self.scale[layer] @ _directions(len(self.mean[layer]), seed)
            for seed, layer in enumerate(self.mean)
        ]
        return np.asarray(np.concatenate(parts, axis=1) / np.sqrt(len(parts)), dtype=np.float32)


@dataclass(frozen=True)
class Likeness:
    """Signatures of the normal images of a unit."""

    projection: Projection
    image_ids: tuple[str, ...]
    signatures: NDArray[np.float16]  # (N, GRID * GRID, C)

    @classmethod
    def fit(cls, image_ids: Sequence[str], features: Callable[[], Iterable[PatchFeatures]]) -> "Likeness":
        """`features` gives those of `image_ids`, in their order; it is called twice."""
        projection = Projection.fit(features())
        return cls.of(projection, image_ids, [projection(image) for image in features()])

    @classmethod
    def of(cls, projection: Projection, image_ids: Sequence[str], signatures: Sequence[Matrix]) -> "Likeness":
        """From the `signatures` of `image_ids`, in their order."""
        rows = [signature.astype(np.float16) for signature in signatures]
        return cls(projection, tuple(image_ids), np.stack(rows) if rows else np.zeros((0, GRID**2, 1), np.float16))

    def nearest(self, features: PatchFeatures, ignore: str = "") -> tuple[str, float]:
        """The normal image that looks most like this one, other than `ignore`, and the distance; "" and NaN for none."""
        return self.nearest_to(self.projection(features), ignore) if self.image_ids else ("", float("nan"))

    def nearest_to(self, query: Matrix, ignore: str = "") -> tuple[str, float]:
        """As `nearest`, of an image with the signature `query`."""
        if not self.image_ids:
            return "", float("nan")
        squared = np.concatenate([np.square(b - query).mean(axis=1).sum(axis=1) for _, b in self._blocks()])
        if ignore in self.image_ids:
            squared[self.image_ids.index(ignore)] = np.inf
        best = int(squared.argmin())
        return (
            (self.image_ids[best], float(np.sqrt(squared[best]))) if np.isfinite(squared[best]) else ("", float("nan"))
        )

    def place_distances(self) -> Matrix:
        """(N, GRID * GRID): how far each image is, at each place, from the other that is nearest to it there."""
        n, places, _ = self.signatures.shape
        result = np.full((n, places), np.inf, dtype=np.float32)
        for place in range(places):
            rows = self.signatures[:, place].astype(np.float32)
            norms = (rows**2).sum(axis=1)
            for start in range(0, n, BLOCK):
                block = rows[start : start + BLOCK]
                squared = norms[start : start + BLOCK, None] - 2 * block @ rows.T + norms
                squared[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
                result[start : start + BLOCK, place] = np.sqrt(np.maximum(squared.min(axis=1), 0))
        return result

    def _blocks(self) -> Iterator[tuple[int, Matrix]]:
        for start in range(0, len(self.signatures), BLOCK):
            yield start, self.signatures[start : start + BLOCK].astype(np.float32)

    def save(self, path: Path) -> None:
        """As safetensors; equal likenesses give equal bytes."""
        ids = np.frombuffer(bytes.fromhex("".join(self.image_ids)), dtype=np.uint8).reshape(-1, 32)
        tensors: dict[str, NDArray[np.generic]] = {"image_ids": ids, "signatures": self.signatures}
        for layer in self.projection.mean:
            tensors[f"mean.{layer}"] = self.projection.mean[layer]
            tensors[f"scale.{layer}"] = self.projection.scale[layer]
        write_artifact(path, pack({name: np.ascontiguousarray(values) for name, values in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "Likeness":
        """Raises ArtifactError if the file is missing or holds something else."""
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file; run: dvc repro context@{path.parent.name}")
        tensors = load_tensors(path)
        layers = sorted(name.removeprefix("mean.") for name in tensors if name.startswith("mean."))
        projection = Projection(
            *({n: take(tensors, f"{kind}.{n}", path) for n in layers} for kind in ("mean", "scale"))
        )
        take(tensors, "signatures", path)
        ids = tuple(bytes(row).hex() for row in take(tensors, "image_ids", path).astype(np.uint8))
        return cls(projection, ids, np.asarray(tensors["signatures"], dtype=np.float16))


def _pool(values: NDArray[np.floating]) -> Matrix:
    """(h, w, D) -> (GRID * GRID, D): means over the cells of a coarse grid; a finer grid than the patches repeats them."""
    for axis in (0, 1):
        length = values.shape[axis]
        starts = np.arange(GRID) * length // GRID
        if length < GRID:
            values = values.take(starts, axis=axis)
        else:
            sizes = np.diff(np.append(starts, length))
            values = np.add.reduceat(values.astype(np.float32), starts, axis=axis) / np.expand_dims(
                sizes, tuple(i for i in range(3) if i != axis)
            )
    return np.asarray(values.reshape(GRID**2, -1), dtype=np.float32)


def _directions(channels: int, seed: int) -> Matrix:
    """(D, DIMENSIONS): projected squared distances are, on average, the mean squared difference of a channel."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0, 1 / np.sqrt(channels * DIMENSIONS), (channels, DIMENSIONS)), dtype=np.float32)
