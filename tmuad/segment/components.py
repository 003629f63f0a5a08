"""Grounded segmenter of the embedded profile, first half: the objects of one image, as yet without names.

Foreground pixels form connected components. Each comes with the pieces it falls into at its necks, because parts that
touch are one component; `classes.py` decides between the whole and the pieces once it knows what one part looks like.
A component that fills much of the image (a tray) is searched once more for objects, with its own rim as the background.
Everything here depends on one image only, so that a new image costs nothing for the old ones.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad.config import ComponentsParams
from tmuad.masks import Runs, encode, eroded
from tmuad.segment.foreground import background_distance, pixel_features

THRESHOLD = 4.0  # Mahalanobis distance from which a pixel is foreground, at sensitivity 1
SEED = 2.0  # an object holds pixels this many times farther than the threshold; shadows rarely do
CONTAINER = 0.4  # a component whose filled mask covers more of the image than this may hold objects
NECKS = (0.15, 0.25, 0.35, 0.5, 0.65)  # a neck is narrower than this share of the widest part
GAPS = (1.5, 2.5, 4.0)  # a gap stands out less than this many thresholds
EQUAL_PARTS = (
    (2, "long"),
    (3, "long"),
    (2, "x"),
    (2, "y"),
)  # touching twins: so many alike, side by side along an axis
SLIT = 3  # px; a hole may be open by so little on either side
MAX_PARTS = 24
SPECK = 6  # px; smaller cores are noise of the outline
DESCRIPTOR = ("log_area", "L", "a", "b", "L_spread", "ab_spread", "log_aspect", "solidity", "texture")


@dataclass(frozen=True)
class Component:
    """One candidate object."""

    runs: Runs  # mask (S, S)
    descriptor: NDArray[np.float32]  # (len(DESCRIPTOR),)
    index: int = -1  # row among the candidates of its image
    splits: tuple[tuple["Component", ...], ...] = ()  # ways to see it as several touching parts
    container: bool = False


def find_components(image: NDArray[np.uint8], params: ComponentsParams) -> list[Component]:
    """The objects in `image` (S, S, 3) uint8 RGB, S even, largest first; none in an image without foreground."""
    features = pixel_features(image)
    smallest = max(4, round(params.min_area * features.shape[0] * features.shape[1]))
    return _search(features, None, smallest, params, depth=0)


def _search(
    features: NDArray[np.float32],
    region: NDArray[np.bool_] | None,
    smallest: int,
    params: ComponentsParams,
    depth: int,
) -> list[Component]:
    distance = background_distance(features, region)
    threshold = THRESHOLD / params.sensitivity
    if region is not None:  # the rim of a container is bevelled and shaded: only what lies inside counts
        distance = np.where(ndi.binary_erosion(region, iterations=3), distance, 0)
    foreground = _fill(ndi.binary_opening(distance > threshold))
    labels, count = ndi.label(foreground)
    if count == 0:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    peak = ndi.labeled_comprehension(
        distance, labels, np.arange(1, count + 1), lambda x: np.quantile(x, 0.9), float, 0.0
    )
    found: list[Component] = []
    order = sorted(range(1, count + 1), key=lambda i: (-int(areas[i]), i))
    for label in order:
        if areas[label] < smallest or peak[label - 1] < SEED * threshold:
            continue
        mask = labels == label
        inner: list[Component] = []
        is_container = depth == 0 and areas[label] > CONTAINER * labels.size
        if is_container:
            inner = _search(features, mask, smallest, params, depth + 1)
        splits = () if inner else _splits(mask, distance, threshold, features, smallest)
        window = _window(mask)
        found.append(_component(mask[window], _corner(window), features, splits, container=bool(inner)))
        found.extend(inner)
    return found


def _fill(foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`foreground` with its holes filled, those included that a narrow slit joins to the outside.

    A part whose middle has the background's colour is often not quite closed. Closing the mask as it is would join
    neighbours; here only what the closed mask encloses is added, and only if one part alone encloses it: the ground
    between four discs is no hole.
    """
    closed = ndi.binary_closing(np.pad(foreground, SLIT), iterations=SLIT)[SLIT:-SLIT, SLIT:-SLIT] | foreground
    filled = ndi.binary_fill_holes(closed)
    holes = filled & ~closed
    holes = ndi.binary_propagation(ndi.binary_erosion(holes, iterations=SLIT), mask=holes)  # not the gap between twins
    numbered, count = ndi.label(holes)
    if count:
        parts, last = ndi.label(foreground)
        near, index = 2 * SLIT + 3, np.arange(1, count + 1)  # a hole of the closed mask ends within SLIT of its parts
        highest = ndi.maximum(ndi.maximum_filter(parts, near), numbered, index)
        lowest = ndi.minimum(ndi.minimum_filter(np.where(foreground, parts, last + 1), near), numbered, index)
        holes = np.concatenate(([False], np.asarray(highest) == np.asarray(lowest)))[numbered]
    return np.asarray(ndi.binary_fill_holes(foreground | holes))


def _component(
    mask: NDArray[np.bool_],
    corner: tuple[int, int],
    features: NDArray[np.float32],
    splits: tuple[tuple[Component, ...], ...] = (),
    container: bool = False,
) -> Component:
    """The candidate under `mask` (h', w'), a window of the image whose upper left pixel is `corner` (row, column)."""
    (height, width), (top, left) = mask.shape, corner
    inside = features[top : top + height, left : left + width]
    looks = describe_mask(mask, inside, features.shape[0] * features.shape[1])
    band = np.zeros((2 * height, 2 * features.shape[1]), dtype=np.bool_)  # the rows of the full image that it touches
    band[:, 2 * left : 2 * (left + width)] = mask.repeat(2, axis=0).repeat(2, axis=1)
    above, below = (2 * rows * band.shape[1] for rows in (top, features.shape[0] - top - height))
    runs = encode(band)
    runs[0] += above
    tail = np.array([below], dtype=np.uint32)
    if len(runs) % 2 == 1:  # it ends with background
        runs[-1] += below
    elif below:
        runs = np.concatenate((runs, tail))
    return Component(runs, looks, -1, splits, container)


def describe_mask(
    mask: NDArray[np.bool_], features: NDArray[np.float32], image_area: int | None = None
) -> NDArray[np.float32]:
    """Look of a masked object, free of its place and turn: (len(DESCRIPTOR),) float32; see `DESCRIPTOR` for the order.

    Args:
        mask: (h, w), not empty.
        features: (h, w, 4) of `pixel_features`.
        image_area: pixels of the image that `mask` is a window of; by default the mask is the whole image.
    """
    window, image_area = _window(mask), image_area or mask.size
    mask, features = mask[window], features[window]
    interior = eroded(mask, 2)
    pixels = features[interior if interior.sum() >= 12 else mask]  # the rim mixes in the background
    mean, spread = pixels.mean(axis=0), pixels.std(axis=0)
    rows, cols = np.nonzero(mask)
    y, x = rows - rows.mean(), cols - cols.mean()
    square = 1 / 12  # moment of a pixel: even one has an area
    yy, xx, xy = y @ y / len(y) + square, x @ x / len(x) + square, x @ y / len(x)
    half = np.hypot((yy - xx) / 2, xy)
    minor, major = (yy + xx) / 2 - half, (yy + xx) / 2 + half
    # Area over the area of the ellipse with the same second moments: 1 for a disc, 0.95 for a square, less with bays.
    solidity = len(rows) / (4 * np.pi * np.sqrt(minor * major))
    log_area = np.log(len(rows) / image_area)
    values = [log_area, *mean[:3], spread[0], np.hypot(*spread[1:3]), 0.5 * np.log(major / minor), solidity, mean[3]]
    return np.array(values, dtype=np.float32)


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _corner(window: tuple[slice, slice]) -> tuple[int, int]:
    return int(window[0].start), int(window[1].start)


def _splits(
    mask: NDArray[np.bool_],
    distance: NDArray[np.float32],
    threshold: float,
    features: NDArray[np.float32],
    smallest: int,
) -> tuple[tuple[Component, ...], ...]:
    """Ways to cut `mask` into touching parts: at its necks, and along the faint gaps in its foreground distance."""
    if mask.sum() < 2 * smallest:
        return ()
    slices = _window(mask)
    window = np.pad(mask[slices], 1)
    depth = ndi.distance_transform_edt(window)
    strength = np.pad(distance[slices], 1) * window
    necks = [depth > share * depth.max() for share in NECKS]
    gaps = [ndi.binary_opening(ndi.binary_fill_holes(strength > level * threshold)) for level in GAPS]
    ways: list[list[NDArray[np.bool_]]] = []
    for kind in (necks, gaps):
        counts: set[int] = set()
        for core in kind:
            seeds = _seeds(core)
            count = int(seeds.max())
            if 2 <= count <= MAX_PARTS and count not in counts:
                counts.add(count)
                ways.append(_grow(seeds, depth, window))
    # Three in a row of which two touch harder: the neck between the first and the rest, and the rest cut in half.
    for way in [way for way in ways if len(way) == 2]:
        small, large = sorted(way, key=np.sum)
        ways += [[small, *_equal_parts(large, count, along)] for count, along in EQUAL_PARTS if count == 2]
    ways += [_equal_parts(window, count, along) for count, along in EQUAL_PARTS]
    distinct = {b"".join(sorted(np.packbits(part).tobytes() for part in way)): way for way in ways}
    splits = [_parts(way, _corner(slices), features, smallest) for way in distinct.values()]
    return tuple(split for split in splits if len(split) >= 2)


def _seeds(core: NDArray[np.bool_]) -> NDArray[np.int32]:
    """`core` labelled 1, 2, ..., without its specks."""
    labels, _ = ndi.label(core)
    sizes = np.bincount(labels.ravel())
    renumbered = np.cumsum(sizes >= SPECK) * (sizes >= SPECK)
    if sizes[0] >= SPECK:  # the background counts as no label
        renumbered = np.maximum(renumbered - 1, 0)
    renumbered[0] = 0
    return np.asarray(renumbered[labels], dtype=np.int32)


def _parts(
    windows: list[NDArray[np.bool_]], corner: tuple[int, int], features: NDArray[np.float32], smallest: int
) -> tuple[Component, ...]:
    """The padded `windows` as components of the image; specks are left out."""
    return tuple(_component(window[1:-1, 1:-1], corner, features) for window in windows if window.sum() >= smallest)


def _equal_parts(window: NDArray[np.bool_], count: int, along: str) -> list[NDArray[np.bool_]]:
    """`window` in `count` parts of about equal size, side by side along its long axis or along x or y.

    Parts that touch all along a side have no neck and no gap; if they are alike, this is where they meet. Along the long
    axis the cut is refined by K-means, so that it follows parts that stand at an angle.
    """
    points = np.argwhere(window).astype(np.float64)
    sample = points[:: max(1, len(points) // 500)]
    centred = sample - sample.mean(axis=0)
    axis = {"x": np.array([0.0, 1.0]), "y": np.array([1.0, 0.0])}.get(along)
    if axis is None:
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    side = np.argsort(np.argsort(centred @ axis, kind="stable"), kind="stable") * count // len(sample)
    for _ in range(8 if along == "long" else 1):
        centres = np.array([sample[side == i].mean(axis=0) for i in range(count)])
        nearest = _nearest(sample, centres)
        if len(np.unique(nearest)) < count or (nearest == side).all():
            break
        side = nearest
    labels = np.full(window.shape, -1)
    labels[window] = (
        _nearest(points, centres) if along == "long" else _nearest(points @ axis[:, None], centres @ axis[:, None])
    )
    return [labels == i for i in range(count)]


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.argmin([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=0))


def _grow(seeds: NDArray[np.int32], depth: NDArray[np.float64], window: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    from skimage.segmentation import watershed  # slow to import, and most objects need no cut

    parts = watershed(-depth, seeds, mask=window)  # type: ignore[no-untyped-call]
    return [parts == label for label in range(1, int(seeds.max()) + 1)]
