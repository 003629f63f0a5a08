"""What a patch is compared with: the patches of its own surroundings, rather than all patches of all images.

A yellow spot is nothing unusual in an image that shows brass screws, but it is on a black heat sink. So the features of a
patch are also given as deviations, in standard deviations, from the normal patches on objects of its class, and from the
normal patches around its place. The first finds what is strange on this part, whether or not parts move; the second
what is strange here, where images are aligned. Where neither holds, the deviations say nothing and do no harm.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad import masks
from tmuad.describe.description import ImageDescription
from tmuad.masks import Runs

Matrix = NDArray[np.float32]
ClassGrid = NDArray[np.str_]  # (h, w) object class that each patch lies on

BACKGROUND = ""  # the class of patches that lie on no object
COVERED = (
    0.25  # a patch lies on an object if this share of it does, and so do its four neighbours: rims are of the object
)
FEWEST = 200  # patches of a class; with fewer, all patches speak for it
BLUR = 3 / 56  # of the image's side: sigma of the window that counts as one place
CLIP = 8.0  # standard deviations: beyond, a deviation says no more
FLOOR = 0.05  # of a channel's spread over all patches: no context is believed to vary less


@dataclass(frozen=True)
class Context:
    """Mean and spread of normal features, by object class and by place."""

    classes: tuple[str, ...]  # row of `class_mean`; the first row is BACKGROUND
    class_mean: Matrix  # (C, D)
    class_spread: Matrix  # (C, D)
    place_mean: Matrix  # (h, w, D)
    place_spread: Matrix  # (h, w, D)

    @classmethod
    def fit(cls, images: Iterable[tuple[Matrix, ClassGrid]]) -> "Context":
        """From features (h, w, D) of normal images, at least one, and the classes of their patches."""
        count: dict[str, int] = {}
        total: dict[str, NDArray[np.float64]] = {}  # per class: sums and sums of squares (2, D)
        place = np.zeros((2, 0, 0, 0))
        n = 0
        for features, grid in images:
            x = features.astype(np.float64)
            moments = np.stack([x, x**2])  # (2, h, w, D)
            place = moments if n == 0 else place + moments
            n += 1
            for name in np.unique(grid).tolist():
                mine = grid == name
                count[name] = count.get(name, 0) + int(mine.sum())
                total[name] = total.get(name, 0) + moments[:, mine].sum(axis=1)
        everywhere = _mean_and_spread(place.sum(axis=(1, 2)) / sum(count.values()), 0.0)
        floor = FLOOR * everywhere[1] + 0.02
        names = [BACKGROUND, *sorted(name for name in count if name != BACKGROUND and count[name] >= FEWEST)]
        rows = [
            _mean_and_spread(total[name] / count[name], floor) if count.get(name, 0) >= FEWEST else everywhere
            for name in names
        ]
        sigma = (0, BLUR * place.shape[1], BLUR * place.shape[2], 0)
        around = _mean_and_spread(ndi.gaussian_filter(place / n, sigma, mode="nearest"), floor)
        # float16, as the features themselves are: what is saved is what was used.
        means, spreads = (np.stack(part).astype(np.float16).astype(np.float32) for part in zip(*rows, strict=True))
        here, spread = (part.astype(np.float16).astype(np.float32) for part in around)
        return cls(tuple(names), means, spreads, here, spread)

    def __call__(self, features: Matrix, grid: ClassGrid) -> Matrix:
        """(h, w, D) -> (h, w, 3 D): the features, and their deviations from class and place."""
        h, w, depth = features.shape
        return self.rows(features.reshape(-1, depth), grid).reshape(h, w, -1)

    def rows(self, features: Matrix, grid: ClassGrid, cells: NDArray[np.integer] | None = None) -> Matrix:
        """The same for the patches (m, D) that lie at `cells` (m,) of the flat grid, or for all of it: (m, 3 D)."""
        flat, depth = grid.ravel(), self.place_mean.shape[-1]
        here, spread = (part.reshape(-1, depth) for part in (self.place_mean, self.place_spread))
        if cells is not None:
            flat, here, spread = flat[cells], here[cells], spread[cells]
        row = np.zeros(len(flat), dtype=np.int64)  # a class that is not known counts as background
        for i, name in enumerate(self.classes):
            row[flat == name] = i
        out = np.empty((len(flat), 3 * depth), dtype=np.float32)
        out[:, :depth] = features
        by_class, by_place = out[:, depth : 2 * depth], out[:, 2 * depth :]
        np.subtract(features, self.class_mean[row], out=by_class)
        by_class /= self.class_spread[row]
        np.subtract(features, here, out=by_place)
        by_place /= spread
        deviations = out[:, depth:]
        np.minimum(deviations, np.float32(CLIP), out=deviations)  # half the time of `clip`
        np.maximum(deviations, np.float32(-CLIP), out=deviations)
        return out


def class_grid(description: ImageDescription, shape: tuple[int, int], side: int) -> ClassGrid:
    """Classes (side, side) of the patches of an image (S, S) = `shape`; of overlapping objects, the smallest counts."""
    grid = np.full((side, side), BACKGROUND, dtype=np.dtype(f"<U{_longest(description)}"))
    area = (shape[0] / side) ** 2
    for o in sorted(description.objects, key=lambda o: -o.area):
        grid[ndi.binary_dilation(_pixels_in_cells(o.runs, shape, side) / area > COVERED)] = o.object_class
    return grid


def _pixels_in_cells(runs: Runs, shape: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Foreground pixels in each cell (side, side) of a mask. Only the rows of cells that the mask reaches are looked at."""
    counts, reached = np.zeros((side, side), dtype=np.float32), masks.rows(runs, shape)
    if reached.start == reached.stop:
        return counts
    starts = np.arange(side) * shape[0] // side
    low = int(np.searchsorted(starts, reached.start, side="right")) - 1
    high = int(np.searchsorted(starts, reached.stop))
    part = masks.decode(runs, shape)[starts[low] : starts[high] if high < side else None].astype(np.float32)
    counts[low:high] = np.add.reduceat(np.add.reduceat(part, starts[low:high] - starts[low], axis=0), starts, axis=1)
    return counts


def _longest(description: ImageDescription) -> int:
    return max((len(c.object_class) for c in description.classes), default=1)


def _mean_and_spread(
    moments: NDArray[np.float64], floor: NDArray[np.float64] | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, square = moments
    return mean, np.sqrt(np.maximum(square - mean**2, 0)) + floor
