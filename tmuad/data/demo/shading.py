"""A small deferred renderer: parts write height and material into a canvas, then one pass lights the whole scene.

The canvas is SUPERSAMPLE times as fine as the photograph. Light comes from one soft box and from the room;
metals mirror both, other materials scatter them. Shadows and the darkening of creases come from the height field alone,
so that every part shades every other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tmuad.data.demo.shapes import Field

SUPERSAMPLE = 2
_STEEPEST = np.float32(2.5)  # slope at which a height field stops; cliffs at outlines would otherwise alias
Window = tuple[slice, slice]  # rows, columns; starts and stops are set
Radiance = NDArray[np.floating[Any]]  # (S, S, 3), linear, about 0..1


@dataclass(frozen=True)
class Material:
    """How a surface answers light."""

    color: tuple[float, float, float]  # linear albedo, or for a metal the tint of its reflection
    metal: float = 0.0  # 0: scatters, 1: mirrors
    gloss: float = 8.0  # narrowness of the soft box's reflection
    sheen: float = 0.04  # uncoloured reflection on top, as of plastic or lacquer


@dataclass(frozen=True)
class Light:
    azimuth: float  # radians, where the soft box stands, x to the right and y down
    elevation: float  # radians above the bench
    power: float
    ambient: float


class Canvas:
    """The scene before it is lit: per pixel a height and a material. Heights are in shares of the side."""

    def __init__(self, size: int) -> None:
        self.side = size * SUPERSAMPLE
        self.height: Field = np.zeros((self.side, self.side), dtype=np.float32)
        self.color: Field = np.zeros(
            (3, self.side, self.side), dtype=np.float32
        )  # planes: numpy is slow on rows of three
        self.surface: Field = np.zeros((3, self.side, self.side), dtype=np.float32)  # metal, gloss, sheen

    def window(self, x: float, y: float, reach_x: float, reach_y: float) -> Window:
        """Rows and columns within reach of (x, y), possibly none."""
        span = ((y, reach_y), (x, reach_x))
        rows, columns = (slice(int((c - r) * self.side), int((c + r) * self.side) + 2) for c, r in span)
        return clip_window((rows, columns), (slice(0, self.side), slice(0, self.side)))

    def coordinates(self, window: Window) -> tuple[Field, Field]:
        """x and y of the window's pixel centres, shapes (1, w) and (h, 1), shares of the side."""
        rows, columns = window
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5)) / self.side
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5)) / self.side
        return x[None, :], y[:, None]


def clip_window(window: Window, bounds: Window) -> Window:
    """The part of `window` within `bounds`, of no extent where there is none."""
    starts = [min(max(w.start, b.start), b.stop) for w, b in zip(window, bounds, strict=True)]
    stops = [max(min(w.stop, b.stop), start) for w, b, start in zip(window, bounds, starts, strict=True)]
    return slice(starts[0], stops[0]), slice(starts[1], stops[1])


def shade(canvas: Canvas, light: Light) -> Radiance:
    """The lit scene, (S, S, 3) linear, one pixel for SUPERSAMPLE x SUPERSAMPLE of the canvas."""
    size = canvas.side // SUPERSAMPLE
    shadow, crease = _occlusion(canvas.height, light)
    picture = np.empty((size, size, 3), dtype=np.float32)
    strip = 16  # rows lit at a time: the intermediate arrays stay in the processor's cache, three times as fast
    for top in range(0, size, strip):
        rows = slice(top, min(size, top + strip))
        picture[rows] = _shade_rows(canvas, light, rows, _enlarge(shadow[rows]), _enlarge(crease[rows]))
    return picture


def _shade_rows(canvas: Canvas, light: Light, rows: slice, shadow: Field, crease: Field) -> Radiance:
    side = canvas.side
    fine = slice(rows.start * SUPERSAMPLE, rows.stop * SUPERSAMPLE)
    lx = np.float32(np.cos(light.azimuth) * np.cos(light.elevation))
    ly = np.float32(np.sin(light.azimuth) * np.cos(light.elevation))
    lz = np.float32(np.sin(light.elevation))
    slope_x, slope_y = _slopes(canvas.height, fine)
    nz = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    nx, ny = -slope_x * nz, -slope_y * nz
    lit = np.maximum(nx * lx + ny * ly + nz * lz, 0)

    # The camera hangs close above the bench: towards the borders it sees surfaces, and their reflections, at an angle.
    lean = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / side - np.float32(0.5)) * np.float32(0.45)
    twice = 2 * nz
    rx, ry, rz = twice * nx - lean[None, :], twice * ny - lean[fine, None], twice * nz - 1
    facing = np.minimum(rx * lx + ry * ly + rz * lz - 1, 0)
    metal, gloss, sheen = canvas.surface[:, fine]
    box = np.exp(gloss * facing)
    room = _room(rx * lx + ry * ly, rx * ly - ry * lx)

    scattered = np.float32(light.ambient) * crease + np.float32(light.power) * lit * shadow
    mirrored = room * crease + np.float32(1.6 * light.power) * box * (np.float32(0.25) + np.float32(0.75) * shadow)
    body = scattered + metal * (mirrored - scattered)
    mirrored *= sheen
    return np.stack([_shrink(plane[fine] * body + mirrored) for plane in canvas.color], axis=-1)


def _slopes(height: Field, rows: slice) -> tuple[Field, Field]:
    """Central differences in x and y over `rows`, limited to the steepest slope; level across the borders."""
    side = height.shape[0]
    middle = np.pad(height[rows], ((0, 0), (1, 1)), mode="edge")
    above, below = max(rows.start - 1, 0), min(rows.stop + 1, side)
    column = np.pad(height[above:below], ((int(rows.start == 0), int(rows.stop == side)), (0, 0)), mode="edge")
    half = np.float32(side / 2)
    slope_x = (middle[:, 2:] - middle[:, :-2]) * half
    slope_y = (column[2:] - column[:-2]) * half
    return np.clip(slope_x, -_STEEPEST, _STEEPEST), np.clip(slope_y, -_STEEPEST, _STEEPEST)


def _room(along: Field, across: Field) -> Field:
    """What a mirror sees besides the soft box: a bright ceiling, a darker horizon, a faint second lamp opposite."""
    far = along * along + across * across
    ceiling = np.float32(0.42) / (1 + np.float32(2.2) * far)
    opposite = along + np.float32(0.75)
    lamp = np.float32(0.16) / (1 + np.float32(14) * (opposite * opposite + across * across))
    return np.float32(0.06) + ceiling + lamp


def _occlusion(height: Field, light: Light) -> tuple[Field, Field]:
    """Visibility of the soft box, and of the ceiling, (S, S): 0 hidden, 1 open."""
    coarse = height[::SUPERSAMPLE, ::SUPERSAMPLE]
    side = coarse.shape[0]
    rise = np.float32(np.tan(light.elevation))
    steps = 9
    reach = 0.075
    margin = int(reach * side) + 2
    padded = np.pad(coarse, margin, mode="edge")
    hidden = np.zeros_like(coarse)
    for step in range(1, steps + 1):
        distance = reach * step / steps
        dy = margin + round(distance * side * float(np.sin(light.azimuth)))
        dx = margin + round(distance * side * float(np.cos(light.azimuth)))
        blocker = padded[dy : dy + side, dx : dx + side] - coarse - np.float32(distance) * rise
        softness = np.float32(0.004 + 0.12 * distance)  # the farther the blocker, the wider the penumbra
        np.maximum(hidden, np.clip(blocker / softness + np.float32(0.5), 0, 1), out=hidden)
    hidden = ndimage.gaussian_filter(hidden, 0.004 * side, truncate=2.5)
    above = ndimage.uniform_filter(coarse, max(3, round(0.03 * side)), mode="nearest") - coarse
    crease = 1 / (1 + np.float32(22) * np.maximum(above, 0))
    return 1 - np.float32(0.92) * hidden, crease


def _enlarge(field: Field) -> Field:
    return np.repeat(np.repeat(field, SUPERSAMPLE, axis=0), SUPERSAMPLE, axis=1)


def _shrink(plane: Field) -> Field:
    """The mean of each SUPERSAMPLE x SUPERSAMPLE block."""
    rows = sum((plane[k::SUPERSAMPLE] for k in range(1, SUPERSAMPLE)), start=plane[0::SUPERSAMPLE])
    blocks = sum((rows[:, k::SUPERSAMPLE] for k in range(1, SUPERSAMPLE)), start=rows[:, 0::SUPERSAMPLE])
    return blocks * np.float32(1 / SUPERSAMPLE**2)
