"""The object memory bank M_O (Eq. 3): K-means centroids of the segments of normal images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save as pack

from tmuad.banks.centroids import Calibration, Matrix, Whitening, kmeans, load_tensors, nearest, take
from tmuad.cache import write_atomic
from tmuad.config import ObjectBankParams
from tmuad.encode import ObjectFeatures
from tmuad.errors import DataError


@dataclass(frozen=True)
class ObjectBank:
    """M_O of one unit."""

    whitening: Whitening
    centroids: Matrix  # (K, d)
    calibration: Calibration

    @classmethod
    def fit(cls, features: Iterable[ObjectFeatures], params: ObjectBankParams) -> "ObjectBank":
        """From the features (n, D) of the segments of each normal training image.

        Raises:
            DataError: there is no segment.
        """
        rows = [image for image in features if len(image)]
        if not rows:
            raise DataError("an object bank needs at least one segment in the normal training images; there is none")
        flat = np.concatenate(rows)
        whitening = Whitening.fit(flat, params.dimensions, params.whitening)
        unit = whitening(flat)
        centroids = kmeans(unit, params.clusters, params.seed)
        distance, index = nearest(unit, centroids)
        return cls(whitening, centroids, Calibration.fit(distance, index, len(centroids)))

    def calibrate(self, features: Iterable[ObjectFeatures]) -> "ObjectBank":
        """The same bank, with the normal distances learnt from held-out normal images; itself for none."""
        return self

    def distances(self, features: ObjectFeatures) -> Matrix:
        """(n, D) -> (n,): how unusual each segment is, in normal spreads."""
        if len(features) == 0:
            return np.zeros(0, dtype=np.float32)
        return self.calibration(*nearest(self.whitening(features), self.centroids))

    def save(self, path: Path) -> None:
        tensors = {"mean": self.whitening.mean, "axes": self.whitening.axes, "centroids": self.centroids}
        tensors |= {"normal_mean": self.calibration.mean, "normal_spread": self.calibration.spread}
        write_atomic(path, pack({k: np.ascontiguousarray(v) for k, v in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "ObjectBank":
        """Raises ArtifactError if the file is missing or not an object bank."""
        t = load_tensors(path)
        return cls(
            Whitening(take(t, "mean", path), take(t, "axes", path)),
            take(t, "centroids", path),
            Calibration(take(t, "normal_mean", path), take(t, "normal_spread", path)),
        )
