"""Seamless textures that surfaces are sampled from, drawn once per data set."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from tmuad.data.demo.shapes import Field


@dataclass(frozen=True)
class Atlas:
    """Textures of (T, T) texels, zero mean and unit deviation unless said otherwise; they repeat without a seam."""

    grain: Field  # fine grit
    mottle: Field  # clouds of all sizes
    brushed: Field  # streaks along u
    spangle: Field  # crystals of galvanised zinc
    wear: Field  # 0..1: hairlines of handling, part of every good part
    cells: Field  # the open cells of foam
    dimples: Field  # 0..1: the embossed pattern of a mat

    def sample(self, name: str, u: Field, v: Field, shift: tuple[float, float]) -> Field:
        """The texture `name` at (u, v) + shift, one texel for each canvas pixel of an unscaled part. Shape of `u`."""
        texture: Field = getattr(self, name)
        side = texture.shape[0]
        columns, rows = u + np.float32(shift[0]), v + np.float32(shift[1])
        columns = ((columns - np.floor(columns)) * side).astype(np.int32)
        rows = ((rows - np.floor(rows)) * side).astype(np.int32)
        texels: Field = texture.ravel().take(rows * side + columns, mode="clip")  # twice as fast as two indexes
        return texels


def make_atlas(side: int, seed: int) -> Atlas:
    """An atlas for a canvas of `side` pixels."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 101]))
    unit = side / 768  # the widths below are in pixels of a canvas of 768

    def white() -> Field:
        return rng.standard_normal((side, side), dtype=np.float32)

    def blurred(sigma: tuple[float, float]) -> Field:
        return _standard(ndimage.gaussian_filter(white(), sigma, mode="wrap"))

    mottle = sum(
        (weight * blurred((s * unit, s * unit)) for weight, s in ((0.35, 2.0), (0.6, 7.0), (1.0, 22.0), (1.0, 60.0))),
        start=np.zeros((side, side), dtype=np.float32),
    )
    return Atlas(
        grain=blurred((0.7, 0.7)),
        mottle=_standard(mottle),
        brushed=_standard(blurred((0.6, 60 * unit)) + 0.6 * blurred((1.2 * unit + 0.3, 18 * unit))),
        spangle=_spangle(side, rng),
        wear=_wear(side, rng),
        cells=_standard(blurred((2.0 * unit, 2.0 * unit)) - 0.8 * blurred((4.5 * unit, 4.5 * unit)) + 0.3 * white()),
        dimples=_dimples(side),
    )


def _standard(field: Field) -> Field:
    scaled: Field = ((field - field.mean()) / field.std()).astype(np.float32)
    return scaled


def _spangle(side: int, rng: np.random.Generator) -> Field:
    """Each pixel takes the random tone of its nearest seed. Not quite seamless: a seam drowns in the crystals."""
    tones = rng.standard_normal(4096).astype(np.float32)
    seeds = np.ones((side, side), dtype=np.bool_)
    count = 4500
    seeds[rng.integers(0, side, count), rng.integers(0, side, count)] = False
    rows, columns = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    return _standard(tones[(rows * 31 + columns * 17) % tones.size])


def _wear(side: int, rng: np.random.Generator) -> Field:
    sheet = Image.new("L", (side, side))
    pen = ImageDraw.Draw(sheet)
    for _ in range(260):
        x, y = rng.uniform(0, side, 2)
        angle, length = rng.uniform(0, np.pi), side * rng.uniform(0.01, 0.06)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        pen.line([(x, y), end], fill=int(rng.integers(40, 170)), width=1)
    return np.asarray(sheet, dtype=np.float32) / 255


def _dimples(side: int) -> Field:
    periods = 96
    phase = np.arange(side, dtype=np.float32) * np.float32(2 * np.pi * periods / side)
    wave = np.cos(phase)[:, None] * np.cos(phase)[None, :]
    pattern: Field = np.clip(wave, 0, 1).astype(np.float32)
    return pattern
