"""Encoder of the embedded profile: a bank of multi-scale oriented filters and colour, no weights, about 60 ms an image.

Lightness goes through a Gaussian pyramid of four octaves. At each, first and second differences in four directions give
edge and line energies, and the eigenvalues of the Hessian give dark and bright lines and spots with their sign. Energies
are averaged over a patch; signed responses keep their extreme within the patch, so that a defect smaller than the patch
is not averaged away. Colour is kept as Lab means and their differences to two neighbourhoods.
All smoothing is a product with a band matrix: `A @ image @ A.T` smooths and samples in one step.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from tmuad import masks
from tmuad.cache import fingerprint
from tmuad.color import rgb_to_lab
from tmuad.encode import ObjectFeatures, PatchFeatures
from tmuad.masks import Runs

Map = NDArray[np.float32]  # (h, w)

STRIDE = 8  # px between patches
OCTAVES = 4
ENERGY_FLOOR = 0.1  # Lab units: below this an energy is noise, and its logarithm would magnify it
DIAGONAL = np.float32(np.sqrt(0.5))


@lru_cache(maxsize=64)
def gaussian_sampler(size: int, samples: int, sigma: float) -> NDArray[np.float32]:
    """(samples, size) matrix that takes Gaussian means (sigma in px) at `samples` even places; borders are mirrored."""
    centres = (np.arange(samples) + 0.5) * size / samples - 0.5
    reach = int(4 * sigma + 1)
    offsets = np.arange(-reach, reach + 2)
    places = np.floor(centres).astype(int)[:, None] + offsets  # (samples, taps)
    weights = np.exp(-0.5 * ((places - centres[:, None]) / sigma) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = places % (2 * size)
    mirrored = np.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored)
    matrix = np.zeros((samples, size))
    np.add.at(matrix, (np.arange(samples)[:, None], mirrored), weights)
    return matrix.astype(np.float32)


def smooth(image: Map, sigma: float, samples: int | None = None) -> Map:
    """Gaussian means of the square `image`, on a grid of `samples` x `samples` (default: its own)."""
    matrix = gaussian_sampler(image.shape[0], samples or image.shape[0], sigma)
    result: Map = matrix @ image @ matrix.T
    return result


class FilterBank:
    """The filter responses of one image, computed once for patches and objects alike."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.size = image.shape[0]
        self.grid = max(4, self.size // STRIDE)
        lab = rgb_to_lab(image)
        self._lab = [np.ascontiguousarray(lab[..., i]) for i in range(3)]

    @cached_property
    def octaves(self) -> list[Map]:
        """(h, w, 20) per octave: energies as logarithms, extremes as signed roots."""
        return [self._octave(k) for k in range(OCTAVES)]

    @cached_property
    def colour(self) -> Map:
        """(h, w, 13): Lab means, differences to two neighbourhoods, chroma edge energies."""
        channels = []
        for plane in self._lab:
            near, around, wide = (smooth(plane, sigma * self.size / 448, self.grid) for sigma in (4.0, 12.0, 36.0))
            channels += [near, near - around, around - wide]
        for plane in self._lab[1:]:
            for k in (1, 2):
                level = smooth(plane, 2.0**k, self.size >> k)
                gx, gy = _slopes(np.pad(level, 1, mode="edge"))
                channels.append(_log_energy(self._mean(np.hypot(gx, gy))))
        return np.stack(channels, axis=-1)

    def _octave(self, k: int) -> Map:
        level = smooth(self._lab[0], 2.0**k, self.size >> k)
        padded = np.pad(level, 1, mode="edge")
        gx, gy = _slopes(padded)
        hxx, hyy, hxy = _hessian(padded)
        half, split = (hxx + hyy) / 2, np.hypot((hxx - hyy) / 2, hxy)
        energies = [gx, gy, (gx + gy) * DIAGONAL, (gx - gy) * DIAGONAL]
        bends = [hxx, hyy, half + hxy, half - hxy]
        channels = [_log_energy(self._mean(np.abs(x))) for x in energies + bends]
        channels += [_signed_root(self._peak(x)) for x in bends]
        channels += [_signed_root(-self._peak(-x)) for x in bends]
        lines = [self._peak(half + split), -self._peak(split - half)]  # dark line, bright line
        spots = [self._peak(half - split), -self._peak(-half - split)]  # dark spot, bright spot
        channels += [_signed_root(x) for x in lines + spots] + [_signed_root(self._mean(half))]
        return np.stack(channels, axis=-1)

    def _mean(self, response: Map) -> Map:
        return smooth(response, 0.6 * response.shape[0] / self.grid, self.grid)

    def _peak(self, response: Map) -> Map:
        starts = np.arange(self.grid) * response.shape[0] // self.grid
        peaks: Map = np.maximum.reduceat(np.maximum.reduceat(response, starts, axis=0), starts, axis=1)
        return peaks


class FilterEncoder:
    """Patch and object encoder over `FilterBank`."""

    name = "filters"
    layers: tuple[str, ...] = ("fine", "coarse", "colour")

    def fingerprint(self) -> str:
        import tmuad.color
        import tmuad.encode.filters

        return fingerprint(self.name, tmuad.encode.filters, tmuad.color)

    def encode_patches(self, image: NDArray[np.uint8], bank: FilterBank | None = None) -> PatchFeatures:
        """Features (S / 8, S / 8, D) float16 per layer; `bank` is the image's filter bank where the caller has it already."""
        bank = bank or FilterBank(image)
        fine, coarse = np.concatenate(bank.octaves[:2], axis=-1), np.concatenate(bank.octaves[2:], axis=-1)
        return {"fine": fine.astype(np.float16), "coarse": coarse.astype(np.float16), "colour": bank.colour.astype(np.float16)}

    def encode_objects(
        self, image: NDArray[np.uint8], segments: Sequence[Runs], bank: FilterBank | None = None
    ) -> ObjectFeatures:
        """Features (n, D): mean and spread of every channel within the segment, and its size and outline."""
        bank = bank or FilterBank(image)
        channels = np.concatenate([*bank.octaves, bank.colour], axis=-1).reshape(bank.grid**2, -1)  # (P, C)
        shape = (bank.size, bank.size)
        if not segments:
            return np.zeros((0, 2 * channels.shape[1] + 3), dtype=np.float32)
        decoded = np.stack([masks.decode(runs, shape) for runs in segments])
        starts = np.arange(bank.grid) * bank.size // bank.grid
        cover = np.add.reduceat(np.add.reduceat(decoded, starts, axis=1, dtype=np.float32), starts, axis=2)
        cover = cover.reshape(len(segments), -1)  # (n, P) pixels of the segment in each patch
        area = np.maximum(cover.sum(axis=1, keepdims=True), 1)
        mean = cover @ channels / area
        spread = np.sqrt(np.maximum(cover @ channels**2 / area - mean**2, 0))
        outline = np.array([_outline(mask) for mask in decoded])
        return np.concatenate([mean, spread, outline], axis=1).astype(np.float32)


def _outline(mask: masks.Mask) -> tuple[float, float, float]:
    """Log area, log aspect and filled share of the box."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return (0.0, 0.0, 0.0)
    height, width = int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1)
    area = int(mask.sum())
    return (float(np.log(area / mask.size)), float(np.log(width / height)), area / (width * height))


def _slopes(padded: Map) -> tuple[Map, Map]:
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2


def _hessian(padded: Map) -> tuple[Map, Map, Map]:
    centre = padded[1:-1, 1:-1]
    hxx = padded[1:-1, 2:] + padded[1:-1, :-2] - 2 * centre
    hyy = padded[2:, 1:-1] + padded[:-2, 1:-1] - 2 * centre
    hxy = (padded[2:, 2:] + padded[:-2, :-2] - padded[2:, :-2] - padded[:-2, 2:]) / 4
    return hxx, hyy, hxy


def _log_energy(x: Map) -> Map:
    return np.log(np.maximum(x, 0) + np.float32(ENERGY_FLOOR))


def _signed_root(x: Map) -> Map:
    root: Map = np.sign(x) * np.sqrt(np.abs(x))
    return root
