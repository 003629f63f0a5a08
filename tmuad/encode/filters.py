"""Encoder of the embedded profile: a bank of multi-scale oriented filters and colour; no weights, 60 ms an image.

Lightness goes through a Gaussian pyramid of four octaves. At each, first and second differences in four directions give
edge and line energies, and the eigenvalues of the Hessian give dark and bright lines and spots with their sign. Energies
are averaged over a patch; signed responses keep their extreme within the patch, so that a defect smaller than the patch
is not averaged away. Colour is kept as Lab means and their differences to two neighbourhoods.

Two layers: `detail` has every channel at a stride of 8 px, for small faults; `surface` has the averaged channels over
wide, overlapping windows, for faults of finish and lighting.
All smoothing is a product with a band matrix: `A @ image @ A.T` smooths and samples in one step.
"""

import functools
import sys
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from tmuad import masks
from tmuad.cache import fingerprint
from tmuad.color import rgb_to_lab
from tmuad.encode import ObjectFeatures, PatchFeatures
from tmuad.masks import Runs

Map = NDArray[np.float32]  # (h, w) or (h, w, C)

STRIDE = 8  # px between patches of the layer `detail`
WIDE = 3.0  # sigma of the windows of the layer `surface`, in patches of `detail`
SURROUND = 4.0  # sigma of the neighbourhood that a patch is compared with, in patches
OCTAVES = 4
ENERGY_FLOOR = 0.1  # Lab units: below this an energy is noise, and its logarithm would magnify it
MASK_SIDE = 112  # px: resolution at which segments are averaged over
MEANS, PEAKS = 9, 12  # channels of one octave
COLOURS = 13  # channels of colour
DIAGONAL = np.float32(np.sqrt(0.5))


@lru_cache(maxsize=64)
def gaussian_sampler(size: int, samples: int, sigma: float) -> Map:
    """(samples, size) matrix that takes Gaussian means (sigma in px) at `samples` even places; borders are mirrored."""
    centres = (np.arange(samples) + 0.5) * size / samples - 0.5
    reach = int(4 * sigma + 1)
    places = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 2)  # (samples, taps)
    weights = np.exp(-0.5 * ((places - centres[:, None]) / sigma) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = places % (2 * size)
    mirrored = np.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored)
    matrix = np.zeros((samples, size))
    np.add.at(matrix, (np.arange(samples)[:, None], mirrored), weights)
    return matrix.astype(np.float32)


def smooth(image: Map, sigma: float, samples: int | None = None) -> Map:
    """Gaussian means of the square `image` (S, S) or (S, S, C), on a grid of `samples` (default: its own)."""
    size = image.shape[0]
    matrix = gaussian_sampler(size, samples or size, sigma)
    if image.ndim == 2:
        return np.asarray(matrix @ image @ matrix.T, dtype=np.float32)
    rows = (matrix @ image.reshape(size, -1)).reshape(len(matrix), size, -1)
    return np.asarray(matrix @ rows, dtype=np.float32)  # (samples, samples, C)


def with_surround(detail: NDArray[np.floating]) -> Map:
    """The layer `detail` (h, w, D) beside its difference to the neighbourhood: (h, w, 2 D).

    The difference takes out what lighting, exposure and the general roughness of a surface do to all its patches alike.
    """
    features = detail.astype(np.float32)
    return np.concatenate([features, features - smooth(features, SURROUND)], axis=-1)


class FilterBank:
    """The filter responses of one image (S, S, 3), computed once for patches and objects alike."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.size = image.shape[0]
        self.grid = max(4, self.size // STRIDE)
        lab = rgb_to_lab(image)
        self.planes = [np.ascontiguousarray(lab[..., i]) for i in range(3)]  # L, a, b

    @cached_property
    def means(self) -> Map:
        """(h, w, 49): log energies and mean curvature per octave, then colour."""
        return np.concatenate([octave[..., :MEANS] for octave in self._octaves] + [self._colour], axis=-1)

    @cached_property
    def detail(self) -> Map:
        """(h, w, 97): `means`, then the signed extremes per octave as roots."""
        return np.concatenate([self.means] + [octave[..., MEANS:] for octave in self._octaves], axis=-1)

    @cached_property
    def surface(self) -> Map:
        """(h / 2, w / 2, 49): `means` over wide windows."""
        return smooth(self.means, WIDE, self.grid // 2)

    @cached_property
    def _octaves(self) -> list[Map]:
        return [self._octave(k) for k in range(OCTAVES)]

    def _octave(self, k: int) -> Map:
        level = smooth(self.planes[0], 2.0**k, self.size >> k)
        gx, gy, hxx, hyy, hxy = _differences(level)
        half: Map = (hxx + hyy) / np.float32(2)
        split: Map = np.hypot((hxx - hyy) / np.float32(2), hxy)
        edges: list[Map] = [gx, gy, (gx + gy) * DIAGONAL, (gx - gy) * DIAGONAL]
        bends: list[Map] = [hxx, hyy, half + hxy, half - hxy]
        channels = [_log_energy(self._mean(np.abs(x))) for x in edges]
        channels += [_log_energy(self._mean(np.abs(x))) for x in bends]
        channels += [_signed_root(self._mean(half))]
        channels += [_signed_root(self._peak(x)) for x in bends]
        channels += [_signed_root(-self._peak(-x)) for x in bends]
        channels += [
            _signed_root(self._peak(half + split)),
            _signed_root(-self._peak(split - half)),
        ]  # lines: dark, bright
        channels += [_signed_root(self._peak(half - split)), _signed_root(-self._peak(-half - split))]  # spots
        return np.stack(channels, axis=-1)  # (h, w, MEANS + PEAKS)

    @cached_property
    def _colour(self) -> Map:
        channels = []
        for plane in self.planes:
            near, around, wide = (smooth(plane, sigma * self.size / 448, self.grid) for sigma in (4.0, 12.0, 36.0))
            channels += [near, near - around, around - wide]
        for plane in self.planes[1:]:
            for k in (1, 2):
                gx, gy, *_ = _differences(smooth(plane, 2.0**k, self.size >> k))
                channels.append(_log_energy(self._mean(np.hypot(gx, gy))))
        return np.stack(channels, axis=-1)

    def _mean(self, response: Map) -> Map:
        return smooth(response, 0.6 * response.shape[0] / self.grid, self.grid)

    def _peak(self, response: Map) -> Map:
        step, rest = divmod(response.shape[0], self.grid)
        if not rest and step:  # the usual case, six times as fast
            rows = response.reshape(self.grid, step, -1).max(axis=1)
            return functools.reduce(np.maximum, (rows[:, j::step] for j in range(step)))
        starts = np.arange(self.grid) * response.shape[0] // self.grid
        return np.asarray(np.maximum.reduceat(np.maximum.reduceat(response, starts, axis=0), starts, axis=1))


class FilterEncoder:
    """Patch and object encoder over `FilterBank`. `bank` is the image's filter bank where the caller has it already."""

    name = "filters"
    layers: tuple[str, ...] = ("detail", "surface")

    def fingerprint(self) -> str:
        from tmuad import color

        return fingerprint(self.name, sys.modules[__name__], color)

    def encode_patches(self, image: NDArray[np.uint8], bank: FilterBank | None = None) -> PatchFeatures:
        """Features (h, w, D) float16 per layer, 0.7 MB for an image of 448 px."""
        bank = bank or FilterBank(image)
        return {"detail": bank.detail.astype(np.float16), "surface": bank.surface.astype(np.float16)}

    def encode_objects(
        self, image: NDArray[np.uint8], segments: Sequence[Runs], bank: FilterBank | None = None
    ) -> ObjectFeatures:
        """Features (n, D): mean and spread of the averaged channels within each segment, its size and outline."""
        bank = bank or FilterBank(image)
        channels = bank.means.reshape(bank.grid**2, -1)  # (P, C)
        if not segments:
            return np.zeros((0, 2 * channels.shape[1] + 3), dtype=np.float32)
        shape = (bank.size, bank.size)
        inside = np.stack([_reduced(masks.decode(runs, shape)) for runs in segments])  # (n, side, side)
        starts = np.arange(bank.grid) * inside.shape[1] // bank.grid
        cover = np.add.reduceat(np.add.reduceat(inside, starts, axis=1), starts, axis=2).reshape(len(segments), -1)
        cover = cover / np.maximum(cover.sum(axis=1, keepdims=True), 1e-6)  # (n, P) weights of each segment's patches
        mean = cover @ channels
        spread = np.sqrt(np.maximum(cover @ channels**2 - mean**2, 0))
        outline = np.array([_outline(mask > 0) for mask in inside], dtype=np.float32)
        return np.concatenate([mean, spread, outline], axis=1).astype(np.float32)


def object_channels(kind: str) -> NDArray[np.bool_]:
    """Which channels (D,) of an object's features belong to `kind`: "colour" (colour and outline) or "all"."""
    mean = np.arange(OCTAVES * MEANS + COLOURS) >= (OCTAVES * MEANS if kind == "colour" else 0)
    return np.concatenate([mean, mean, np.ones(3, dtype=np.bool_)])  # means, spreads, outline


def _reduced(mask: masks.Mask) -> Map:
    """The mask at MASK_SIDE or less; one that the sampling would lose is averaged instead."""
    step = max(1, mask.shape[0] // MASK_SIDE)
    sampled = mask[step // 2 :: step, step // 2 :: step].astype(np.float32)
    if sampled.any():
        return sampled
    starts = [np.arange(side) * step for side in sampled.shape]
    return np.asarray(np.add.reduceat(np.add.reduceat(mask.astype(np.float32), starts[0], axis=0), starts[1], axis=1))


def _outline(mask: masks.Mask) -> tuple[float, float, float]:
    """Log area, log aspect and filled share of the box."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return (float(-np.log(mask.size)), 0.0, 0.0)
    height, width, area = int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1), int(mask.sum())
    return (float(np.log(area / mask.size)), float(np.log(width / height)), area / (width * height))


def _differences(level: Map) -> tuple[Map, Map, Map, Map, Map]:
    """First (x, y) and second (xx, yy, xy) differences."""
    p = np.pad(level, 1, mode="edge")
    centre = p[1:-1, 1:-1]
    half, quarter, two = np.float32(0.5), np.float32(0.25), np.float32(2)
    gx, gy = (p[1:-1, 2:] - p[1:-1, :-2]) * half, (p[2:, 1:-1] - p[:-2, 1:-1]) * half
    hxx, hyy = p[1:-1, 2:] + p[1:-1, :-2] - two * centre, p[2:, 1:-1] + p[:-2, 1:-1] - two * centre
    hxy = (p[2:, 2:] + p[:-2, :-2] - p[2:, :-2] - p[:-2, 2:]) * quarter
    return gx, gy, hxx, hyy, hxy


def _log_energy(x: Map) -> Map:
    return np.asarray(np.log(np.maximum(x, 0) + np.float32(ENERGY_FLOOR)), dtype=np.float32)


def _signed_root(x: Map) -> Map:
    return np.asarray(np.sign(x) * np.sqrt(np.abs(x)), dtype=np.float32)
