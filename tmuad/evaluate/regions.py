"""Per-region overlap: AUPRO (MVTec AD) and its saturated form sPRO (MVTec LOCO), as weights of pixels.

The overlap of a region C at a threshold is the share of C that scores as high. Averaged over regions, every pixel of C
adds 1 / |C| where the falling threshold passes it: a curve over thresholds is the cumulative sum of these weights, no
region has to be kept, and a stream adds them up in bins. sPRO lets a region count as found from its saturation area s
on: min(found / s, 1), so that its highest s pixels add 1 / s each and the rest nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # (H, W)
_TOUCHING = np.ones((3, 3), dtype=np.bool_)  # pixels that touch at a corner are of one region, as in MVTec's script


@dataclass(frozen=True)
class Defect:
    """One defect of an image as its annotators marked it: a region that need not hang together."""

    name: str  # type of the defect
    mask: Mask
    saturation: float = 1.0  # share of its area from which it counts as found, in (0, 1]


@dataclass(frozen=True)
class Truth:
    """What is known of one anomalous image."""

    mask: Mask  # anomalous pixels
    defects: tuple[Defect, ...] = ()  # for sPRO; none where no saturation is defined
    problem: str = ""  # why sPRO cannot be computed although the data set defines it


@dataclass(frozen=True)
class Marked:
    """A `Truth` as counting looks at it, worked out once for all maps of the image: eight bytes a marked pixel."""

    shape: tuple[int, ...]
    pixels: NDArray[np.int32]  # (P,) flat places of the anomalous ones, ascending
    components: NDArray[np.int32]  # (P,) number of the connected component that each lies in
    defects: tuple[tuple[str, NDArray[np.int32], float], ...]  # type, flat places, saturation
    problem: str

    @classmethod
    def of(cls, truth: Truth) -> "Marked":
        """Raises ValueError where a mask is not boolean, or that of a defect of another size than that of the image."""
        for mask in (truth.mask, *(defect.mask for defect in truth.defects)):
            if mask.dtype != np.bool_:
                raise ValueError(f"the mask must be boolean (True: anomalous), found {mask.dtype}")
        for defect in truth.defects:
            if defect.mask.shape != truth.mask.shape:
                raise ValueError(f"the mask is {truth.mask.shape} but the mask of a defect is {defect.mask.shape}")
        components, _ = _components(truth.mask)
        defects = tuple((d.name, _places(d.mask), d.saturation) for d in truth.defects)
        return cls(truth.mask.shape, _places(truth.mask), components.astype(np.int32), defects, truth.problem)

    @property
    def regions(self) -> int:
        return int(self.components.max(initial=-1)) + 1

    @property
    def shares(self) -> NDArray[np.float64]:
        """(P,) as `pixel_shares`."""
        return _shares(self.components)

    @property
    def mask(self) -> Mask:
        mask = np.zeros(self.shape, dtype=np.bool_)
        mask.ravel()[self.pixels] = True
        return mask


def pixel_shares(mask: Mask) -> tuple[NDArray[np.float64], int]:
    """1 / |C| for each marked pixel of `mask` in row-major order, C being its connected component; and their number."""
    components, regions = _components(mask)
    return _shares(components), regions


def _components(mask: Mask) -> tuple[NDArray[np.integer], int]:
    """The number of the connected component, from 0 on, of each marked pixel in row-major order; and how many there are."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return np.zeros(0, dtype=np.int32), 0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, regions = ndi.label(box, structure=_TOUCHING)
    return labels[box] - 1, int(regions)


def _shares(components: NDArray[np.integer]) -> NDArray[np.float64]:
    return (1 / np.bincount(components))[components] if components.size else np.zeros(0)


def _places(mask: Mask) -> NDArray[np.int32]:
    return np.flatnonzero(mask).astype(np.int32)


def saturated_shares(bins: NDArray[Any], saturation: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """What the pixels of one defect add to sPRO: distinct `bins` (ascending) and the weight in each; they sum to 1.

    Args:
        bins: (N,) bin of each pixel of the defect, N > 0.
        saturation: share of the area from which the defect counts as found.
    """
    distinct, counts = np.unique(bins, return_counts=True)
    found = np.minimum(np.cumsum(counts[::-1]) / (saturation * bins.size), 1.0)
    return distinct, np.diff(found, prepend=0.0)[::-1]


def overlap_area(
    negatives: NDArray[Any], overlap: NDArray[Any], regions: NDArray[Any] | float, limit: float
) -> NDArray[np.float64]:
    """Area (...) under the mean overlap against the false-positive rate from 0 to `limit`, divided by `limit`.

    NaN without a region or a normal pixel. The last axis runs over bins, highest score first.

    Args:
        negatives: (..., G) defect-free pixels.
        overlap: (..., G) weights of `pixel_shares` or `saturated_shares`.
        regions: (...) number of regions, which the weights add up to.
    """
    alarms = np.cumsum(negatives, axis=-1, dtype=np.float64)
    total = alarms[..., -1:] if alarms.shape[-1] else np.zeros((*alarms.shape[:-1], 1))
    count = np.asarray(regions, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr = alarms / total
        mean = np.cumsum(overlap, axis=-1, dtype=np.float64) / count[..., None]
        # Segments between neighbouring thresholds, cut at the limit; (0, 0) is a point of every curve.
        x0, y0 = _shifted(fpr), _shifted(mean)
        step = np.clip(limit - x0, 0, fpr - x0)
        share = np.divide(step, fpr - x0, out=np.zeros_like(step), where=fpr > x0)
        area = np.sum(step * (y0 + share * (mean - y0) / 2), axis=-1) / limit
    return np.where((total[..., 0] > 0) & (count > 0), area, np.nan)


def _shifted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.zeros_like(values)
    shifted[..., 1:] = values[..., :-1]
    return shifted
