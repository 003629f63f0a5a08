"""Open segmenter of the embedded profile: everything that stands out as a region, at several scales."""

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad import masks
from tmuad.color import rgb_to_lab
from tmuad.config import RegionsParams
from tmuad.encode.filters import smooth
from tmuad.masks import Runs

RING = 2  # px of the reduced image: width of what is compared with a region
SIDE = 112  # px: regions are found on a reduced image, their outlines are accurate to 448 / 112 = 4 px


@dataclass(frozen=True)
class Region:
    """One segment of an image."""

    runs: Runs  # mask (S, S)
    area: int  # px
    box: tuple[int, int, int, int]  # x0, y0, x1, y1, upper bounds exclusive
    score: float  # 0..1: colour difference between the region and the ring around it


class RegionSegmenter:
    """Nested regions of an image: graph-based segmentation (Felzenszwalb and Huttenlocher) at several scales."""

    name = "regions"

    def __init__(self, params: RegionsParams | None = None) -> None:
        self.params = params or RegionsParams()

    def fingerprint(self) -> str:
        from tmuad.cache import fingerprint

        return fingerprint(self.name, self.params, sys.modules[__name__])

    def segment(self, image: NDArray[np.uint8]) -> list[Region]:
        """At most `max_regions` regions of `image` (S, S, 3) uint8 RGB, largest first; the whole image is not one."""
        from skimage.segmentation import felzenszwalb

        size = image.shape[0]
        side = min(SIDE, size)
        lab = rgb_to_lab(image)
        small = np.stack(
            [smooth(np.ascontiguousarray(lab[..., i]), 0.6 * size / side, side) for i in range(3)], axis=-1
        )
        smallest = max(4, round(self.params.min_area * side * side))
        seen: set[bytes] = set()
        found: list[tuple[int, NDArray[np.bool_]]] = []
        for scale in self.params.scales:
            labels = felzenszwalb(
                small.astype(np.float64) / 100, scale=scale, sigma=0.5, min_size=smallest, channel_axis=-1
            )
            areas = np.bincount(labels.ravel())
            for label in np.flatnonzero((areas >= smallest) & (areas < labels.size)):
                mask = labels == label
                key = np.packbits(mask).tobytes()
                if key not in seen:
                    seen.add(key)
                    found.append((int(areas[label]), mask))
        found.sort(key=lambda pair: -pair[0])  # stable: scale and raster order decide between equals
        index = np.arange(size) * side // size
        return [_region(mask, small, index) for _, mask in found[: self.params.max_regions]]


def _region(mask: NDArray[np.bool_], lab: NDArray[np.float32], index: NDArray[np.int_]) -> Region:
    rows, columns = (np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0))  # the first and the last
    window = tuple(slice(max(0, first - RING), last + 1 + RING) for first, last in (rows, columns))
    inside, colours = mask[window], lab[window]
    ring = masks.dilated(inside, RING) & ~inside
    contrast = float(np.linalg.norm(colours[inside].mean(axis=0) - colours[ring].mean(axis=0))) if ring.any() else 0.0
    runs = masks.encode(mask[:, index][index])  # whole rows last: they are copied as they are
    (y0, y1), (x0, x1) = (
        (int(np.searchsorted(index, first, "left")), int(np.searchsorted(index, last, "right")))
        for first, last in (rows, columns)
    )
    return Region(runs, masks.area(runs), (x0, y0, x1, y1), contrast / (contrast + 20))
