"""The patch memory bank M_P (Eq. 4): per layer, K-means centroids of the patches of normal images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as pack

from tmuad.banks.centroids import Calibration, Matrix, Whitening, kmeans, load_tensors, nearest, take
from tmuad.cache import write_atomic
from tmuad.config import PatchBankParams
from tmuad.encode import PatchFeatures
from tmuad.errors import ArtifactError, DataError


@dataclass(frozen=True)
class PatchLayer:
    whitening: Whitening
    centroids: Matrix  # (K, d)
    calibration: Calibration

    def distances(self, features: NDArray[np.floating]) -> Matrix:
        """(h, w, D) -> (h, w)."""
        distance, index = nearest(self.whitening(features.reshape(-1, features.shape[-1])), self.centroids)
        return self.calibration(distance, index).reshape(features.shape[:2])


class PatchBank:
    """M_P of one unit."""

    def __init__(self, layers: dict[str, PatchLayer]) -> None:
        self.layers = layers

    @classmethod
    def fit(cls, features: Iterable[PatchFeatures], params: PatchBankParams) -> "PatchBank":
        """From the features of the normal training images.

        Raises:
            DataError: there is no image.
        """
        images = list(features)
        if not images:
            raise DataError("a patch bank needs at least one normal training image; the training split is empty")
        return cls({layer: _fit_layer([image[layer] for image in images], params) for layer in sorted(images[0])})

    def calibrate(self, features: Iterable[PatchFeatures]) -> "PatchBank":
        """The same bank, with the normal distances learnt from held-out normal images; itself for none."""
        return self

    def distances(self, features: PatchFeatures) -> Matrix:
        """(h, w): mean over the layers of how unusual each patch is, in normal spreads; about 0 where all is normal."""
        maps = [layer.distances(features[name]) for name, layer in self.layers.items()]
        mean: Matrix = np.mean(maps, axis=0, dtype=np.float32)
        return mean

    def save(self, path: Path) -> None:
        tensors = {}
        for name, layer in self.layers.items():
            tensors |= {f"{name}.mean": layer.whitening.mean, f"{name}.axes": layer.whitening.axes, f"{name}.centroids": layer.centroids}
            tensors |= {f"{name}.normal_mean": layer.calibration.mean, f"{name}.normal_spread": layer.calibration.spread}
        write_atomic(path, pack({k: np.ascontiguousarray(v) for k, v in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "PatchBank":
        """Raises ArtifactError if the file is missing or not a patch bank."""
        tensors = load_tensors(path)
        names = sorted({key.split(".")[0] for key in tensors})
        if not names:
            raise ArtifactError(f"{path}: an empty patch bank; fit again")
        return cls(
            {
                name: PatchLayer(
                    Whitening(take(tensors, f"{name}.mean", path), take(tensors, f"{name}.axes", path)),
                    take(tensors, f"{name}.centroids", path),
                    Calibration(take(tensors, f"{name}.normal_mean", path), take(tensors, f"{name}.normal_spread", path)),
                )
                for name in names
            }
        )


def _fit_layer(images: list[NDArray[np.floating]], params: PatchBankParams) -> PatchLayer:
    flat = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
    step = max(1, len(flat) // params.max_patches)
    sample = flat[::step].astype(np.float32)
    whitening = Whitening.fit(sample, params.dimensions, params.whitening)
    unit = whitening(sample)
    centroids = kmeans(unit, params.clusters, params.seed)
    distance, index = nearest(unit, centroids)
    return PatchLayer(whitening, centroids, Calibration.fit(distance, index, len(centroids)))
