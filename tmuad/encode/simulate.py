"""Simulated defects: what could be wrong with a normal image, so that a detector learns which deviations matter.

Normal images show how much a surface varies, not which further variation would be a fault: a streak and a crack may lie
equally far from everything seen. Scratches, cracks, spots, stains, shifted texture, smears, grain and shade, drawn on
copies of the normal images themselves, tell the two apart. They are generic: no kind of product is assumed.
"""

import zlib

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

Window = NDArray[np.float32]  # (h, h) opacity 0..1, or (h, h, 3) colours 0..255

DEFECTS = 24  # per image: many, because only the patches they touch are learnt from
KINDS = ("scratch", "scratch", "crack", "spot", "spot", "dent", "dent", "graft", "graft", "smear", "shade")
VISIBLE = 0.12  # relative change of a pixel from which it counts as changed
OFFSET = 25.0  # grey levels added before the ratio is taken: in the dark a change must be larger to be seen
EVEN = 0.4  # share of the defects that fall anywhere, rather than where the image differs from its main colour
REFERENCE = 448  # px: side of the image that the sizes below refer to


def deface(image: NDArray[np.uint8], copy: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A copy of `image` (S, S, 3) with simulated defects, and the pixels (S, S) they changed visibly.

    The same image always gets the same defects: its own bytes are the seed, with the number of the copy.
    """
    rng = np.random.default_rng([zlib.crc32(image.tobytes()), copy])
    size = image.shape[0]
    canvas = image.astype(np.float32)
    weights = _salience(canvas)
    for _ in range(DEFECTS):
        kind = KINDS[rng.integers(len(KINDS))]
        sides = (64, 96, 128) if kind in ("crack", "shade") else (16, 24, 32, 48, 64)
        side = min(max(8, int(rng.choice(sides)) * size // REFERENCE), size)
        y, x = _corner(rng, weights, size, side)
        place = (slice(y, y + side), slice(x, x + side))
        opacity = _line(rng, side, kind == "crack") if kind in ("scratch", "crack") else _blob(rng, side)
        before = canvas[place]
        after = _graft(rng, image, y, x, side) if kind == "graft" else _altered(rng, kind, before)
        canvas[place] = before + (after - before) * opacity[..., None]
    defaced = np.clip(canvas, 0, 255).astype(np.uint8)
    change = np.abs(defaced.astype(np.float32) - image) / (image + np.float32(OFFSET))
    return defaced, change.max(axis=2) > VISIBLE


def _salience(image: Window) -> NDArray[np.float64]:
    """(g, g) chance of each cell of the image (S, S, 3) to be hit: half even, half by how far it is from the main colour.

    Parts fill little of many images, but it is on parts that defects matter and that they are hard to tell.
    """
    step = max(1, image.shape[0] // 56)
    cells = image[: image.shape[0] // step * step, : image.shape[1] // step * step]
    cells = cells.reshape(cells.shape[0] // step, step, cells.shape[1] // step, step, 3)
    means = cells.mean(axis=(1, 3), dtype=np.float64)
    distance = np.abs(means - np.median(means, axis=(0, 1))).sum(axis=2) + cells.std(axis=(1, 3), dtype=np.float64).sum(
        axis=2
    )
    distance = np.minimum(distance, np.quantile(distance, 0.9)) + 1e-3
    weights: NDArray[np.float64] = EVEN / distance.size + (1 - EVEN) * distance / distance.sum()
    return weights


def _corner(rng: np.random.Generator, weights: NDArray[np.float64], size: int, side: int) -> tuple[int, int]:
    """Upper left corner (y, x) of a window of `side` px around a cell drawn by `weights`."""
    cell = int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum()))
    centre = (
        (np.array(np.unravel_index(min(cell, weights.size - 1), weights.shape)) + rng.random(2)) * size / len(weights)
    )
    y, x = np.clip(centre - side / 2, 0, size - side).astype(int)
    return int(y), int(x)


def _altered(rng: np.random.Generator, kind: str, before: Window) -> Window:
    if kind == "shade":
        factor = np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.5))
        return before * np.float32(factor)
    if kind == "dent":
        return before * _relief(rng, len(before))
    if kind == "smear":
        if rng.random() < 0.5:
            return np.asarray(ndi.gaussian_filter(before, (2.5, 2.5, 0)))
        return before * (1 + rng.normal(0, 0.15, (*before.shape[:2], 1))).astype(np.float32)
    strength = rng.uniform(0.2, 0.8)
    if rng.random() < 0.65:  # most defects are darker: holes, cracks and dirt swallow light
        after = before * (1 - strength)
    else:
        after = before + (min(255.0, float(before.max()) * 1.2 + 20) - before) * strength
    if rng.random() < 0.3:
        after = after * (1 + rng.normal(0, 0.2, 3))
    if kind == "spot" and rng.random() < 0.5:
        after = after + ndi.gaussian_filter(rng.normal(size=(*before.shape[:2], 1)), (1, 1, 0)) * rng.uniform(10, 60)
    return after.astype(np.float32)


def _graft(rng: np.random.Generator, image: NDArray[np.uint8], y: int, x: int, side: int) -> Window:
    """What the image shows nearby, turned by quarters: plausible texture in the wrong place."""
    reach = 70 * image.shape[0] // REFERENCE
    top, left = (int(np.clip(v + rng.integers(-reach, reach + 1), 0, image.shape[0] - side)) for v in (y, x))
    source = image[top : top + side, left : left + side]
    return np.rot90(source, int(rng.integers(4))).astype(np.float32)


def _relief(rng: np.random.Generator, side: int) -> Window:
    """(side, side, 1) light on a hollow or a bump: brighter on one flank, darker on the other and in the middle."""
    y, x = (np.mgrid[0:side, 0:side] - (side - 1) / 2) / (side / 4)
    turn = rng.uniform(0, 2 * np.pi)
    flank = (x * np.cos(turn) + y * np.sin(turn)) * np.exp(-(x**2 + y**2) / 2)
    middle = np.exp(-(x**2 + y**2))
    factor = 1 + rng.uniform(0.3, 0.9) * flank - rng.uniform(0, 0.5) * middle
    light: Window = np.maximum(factor, 0.1).astype(np.float32)[..., None]
    return light


def _line(rng: np.random.Generator, side: int, long: bool) -> Window:
    """A thin line that wanders and bends, somewhat soft."""
    length = rng.uniform(0.4, 1.2) * side if long else rng.uniform(8, max(9, side))
    steps = max(2, int(2 * length))
    bend = rng.normal(0, 0.01 if long else 0.06)
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(bend + rng.normal(0, 0.07, steps))
    xs, ys = np.cumsum(0.5 * np.cos(angle)), np.cumsum(0.5 * np.sin(angle))
    cols = np.rint(xs - xs.mean() + side / 2).astype(int)
    rows = np.rint(ys - ys.mean() + side / 2).astype(int)
    inside = (rows >= 0) & (rows < side) & (cols >= 0) & (cols < side)
    ink = np.zeros((side, side), dtype=np.float32)
    ink[rows[inside], cols[inside]] = 1
    return _full_range(ndi.gaussian_filter(ink, 0.6 * rng.uniform(0.6, 2.4)))


def _blob(rng: np.random.Generator, side: int) -> Window:
    """A stretched, ragged disc with a hard or soft edge."""
    radius, stretch, turn = rng.uniform(1.5, side / 3), np.exp(rng.normal(0, 0.35)), rng.uniform(0, np.pi)
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    ragged = ndi.gaussian_filter(rng.normal(size=(side, side)), max(1.0, radius / 2))
    ragged /= ragged.std() + 1e-6
    distance = np.hypot(along * stretch, across / stretch) / radius + 0.25 * ragged
    blob: Window = np.clip((1 - distance) / rng.uniform(0.05, 0.5) + 0.5, 0, 1).astype(np.float32)
    return blob


def _full_range(window: NDArray[np.floating]) -> Window:
    full: Window = (window / max(float(window.max()), 1e-6)).astype(np.float32)
    return full
