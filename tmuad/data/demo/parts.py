"""The catalogue of parts, and the geometry of where they lie: outlines, gaps, silhouettes."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tmuad.data.demo import board, electronics, hardware
from tmuad.data.demo.brush import Brush, Footprint, Painter, Part
from tmuad.data.demo.shading import Canvas
from tmuad.data.demo.shapes import Field
from tmuad.data.demo.textures import Atlas
from tmuad.masks import Mask


@dataclass(frozen=True)
class Kind:
    paint: Painter
    footprint: Footprint  # signed distance to the outline seen from above, holes filled
    reach: float  # no point of the part is farther from its centre
    bore: float = 0.0  # radius of the hole in its middle


KINDS: dict[str, Kind] = {
    "bracket": Kind(hardware.bracket, hardware.bracket_outline, 0.20, bore=0.05),
    "steel_bolt": Kind(hardware.steel_bolt, hardware.steel_bolt_outline, 0.16),
    "brass_bolt": Kind(hardware.brass_bolt, hardware.brass_bolt_outline, 0.15),
    "steel_nut": Kind(hardware.steel_nut, hardware.nut_outline, 0.055, bore=0.026),
    "brass_nut": Kind(hardware.brass_nut, hardware.nut_outline, 0.055, bore=0.026),
    "washer": Kind(hardware.washer, hardware.washer_outline, 0.068, bore=0.030),
    "knob": Kind(hardware.knob, hardware.knob_outline, 0.081, bore=0.012),
    "green_board": Kind(board.green_board, board.board_outline, 0.325),
    "blue_board": Kind(board.blue_board, board.board_outline, 0.325),
    "capacitor": Kind(electronics.capacitor, electronics.capacitor_outline, 0.083),
    "black_connector": Kind(electronics.black_connector, electronics.connector_outline, 0.108),
    "ivory_connector": Kind(electronics.ivory_connector, electronics.connector_outline, 0.108),
    "resistor": Kind(electronics.resistor, electronics.resistor_outline, 0.127),
    "heat_sink": Kind(electronics.heat_sink, electronics.heat_sink_outline, 0.161),
}


def draw(canvas: Canvas, part: Part, atlas: Atlas) -> None:
    """Put `part` on the canvas, over what lies there."""
    kind = KINDS[part.kind]
    width, height = _extent(part)
    window = canvas.window(part.x, part.y, width + 0.004, height + 0.004)
    kind.paint(Brush(canvas, window, part, atlas))


def distance(part: Part, x: Field, y: Field) -> Field:
    """Signed distance from image points to the part's outline, shares of the side."""
    u, v = part.to_frame(x, y)
    outline = KINDS[part.kind].footprint(u, v)
    if part.chip is not None:
        outline = np.maximum(outline, -part.chip.distance(u, v))
    return outline * np.float32(part.scale)


def silhouette(part: Part, size: int) -> Mask:
    """The pixels (size, size) whose centre the part covers, holes included."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return np.asarray(distance(part, centres[None, :], centres[:, None]) <= 0)


@cache
def _rim(kind: str) -> tuple[Field, Field]:
    """Points (P,) along the outline of a kind, in its frame."""
    reach = KINDS[kind].reach
    line = np.linspace(-reach, reach, 161, dtype=np.float32)
    u, v = (grid.ravel() for grid in np.meshgrid(line, line))
    near = np.abs(KINDS[kind].footprint(u, v)) < np.float32(0.7 * 2 * reach / 160)
    return u[near], v[near]


def _rim_of(part: Part) -> tuple[Field, Field]:
    """Points (P,) along the outline of `part`, in the image."""
    u, v = _rim(part.kind)
    c, s = np.float32(math.cos(part.angle) * part.scale), np.float32(math.sin(part.angle) * part.scale)
    return c * u - s * v + np.float32(part.x), s * u + c * v + np.float32(part.y)


def gap(a: Part, b: Part) -> float:
    """Clear space between two outlines, negative where they overlap. Ignores chips; a lower bound if far apart."""
    apart = math.hypot(a.x - b.x, a.y - b.y) - KINDS[a.kind].reach * a.scale - KINDS[b.kind].reach * b.scale
    if apart > 0.05:
        return apart
    return min(_nearest(a, b), _nearest(b, a))


def _nearest(a: Part, b: Part) -> float:
    x, y = _rim_of(a)
    return float(distance(replace(b, chip=None), x, y).min())


def clearance(part: Part, others: tuple[Part, ...]) -> float:
    """The gap to the nearest of `others`."""
    return min((gap(part, other) for other in others), default=1.0)


def rim_point(kind: str, rng: np.random.Generator) -> tuple[float, float]:
    """A random point (u, v) of a kind's outline, in its frame."""
    u, v = _rim(kind)
    index = int(rng.integers(u.size))
    return float(u[index]), float(v[index])


def surface_point(part: Part, rng: np.random.Generator) -> tuple[float, float, float]:
    """A random point (x, y) on a part, well off its outline where the part is wide, and its distance to the outline."""
    reach = KINDS[part.kind].reach
    u, v = rng.uniform(-reach, reach, (2, 256)).astype(np.float32)
    depth = np.minimum(-KINDS[part.kind].footprint(u, v), np.hypot(u, v) - np.float32(KINDS[part.kind].bore))
    index = int(np.argmax(np.minimum(depth, np.float32(0.02))))  # the first that is deep enough, else the deepest
    x, y = part.from_frame(float(u[index]), float(v[index]))
    return x, y, float(depth[index]) * part.scale


def _extent(part: Part) -> tuple[float, float]:
    """Half width and half height of the upright box about the part's centre."""
    x, y = _rim_of(part)
    return float(np.abs(x - part.x).max()), float(np.abs(y - part.y).max())


def inside_frame(part: Part, margin: float = 0.012) -> bool:
    """Whether the whole part lies in the image."""
    x, y = _rim_of(part)
    return bool(min(x.min(), y.min()) >= margin and max(x.max(), y.max()) <= 1 - margin)
