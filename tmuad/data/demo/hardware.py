"""Parts of the hardware kit: bracket, bolts, nuts, washers, knob."""

import numpy as np

from tmuad.data.demo.brush import Brush
from tmuad.data.demo.shading import Material
from tmuad.data.demo.shapes import Field, box, circle, hexagon, smoothstep, star

ZINC = Material((0.66, 0.68, 0.70), metal=0.9, gloss=9.0, sheen=0.01)
BRASS = Material((0.78, 0.53, 0.20), metal=0.9, gloss=11.0, sheen=0.01)
STEEL = Material((0.56, 0.56, 0.57), metal=0.9, gloss=10.0, sheen=0.01)
BLACK_HOLE = Material((0.02, 0.02, 0.02))
RED_PLASTIC = Material((0.40, 0.018, 0.015), gloss=26.0, sheen=0.12)


def bracket_outline(u: Field, v: Field) -> Field:
    return box(u, v, 0.185, 0.068, 0.022)


def bracket(brush: Brush) -> None:
    """A galvanised plate with a folded flange along one side, two holes and a slot."""
    u, v = brush.u, brush.v
    distance = bracket_outline(u, v)
    fold = smoothstep((-v - np.float32(0.032)) / np.float32(0.022))
    edge = np.clip(-distance / np.float32(0.004), 0, 1)
    height = np.float32(0.016) * edge + np.float32(0.022) * fold * edge
    for hole in (
        circle(u - 0.135, v - 0.018, 0.021),
        circle(u + 0.135, v - 0.018, 0.021),
        box(u, v - 0.018, 0.05, 0.012, 0.012),
    ):
        distance = np.maximum(distance, -hole)
    tone = 1 + 0.10 * brush.texture("spangle") + 0.05 * brush.texture("mottle") + 0.25 * brush.texture("wear")
    brush.paint(distance, height, STEEL, tone, 0.10 * brush.texture("grain"))


def _shank(brush: Brush, start: float, stop: float, radius: float, material: Material, pitch: float) -> None:
    """A threaded rod lying along u."""
    u, v = brush.u, brush.v
    middle, half = np.float32((start + stop) / 2), (stop - start) / 2
    turn = (u + v * np.float32(0.12)) / np.float32(pitch)
    tooth = np.abs(2 * (turn - np.floor(turn)) - 1)
    threaded = smoothstep((u - np.float32(start + 0.02)) / np.float32(0.006))
    outline = box(u - middle, v, half, radius, 0.006) + np.float32(0.0022) * tooth * threaded
    crown = np.sqrt(np.maximum(np.float32(radius * radius) - v * v, 0))
    groove = 1 - 0.45 * tooth * threaded
    brush.paint(outline, np.float32(radius) + crown - np.float32(0.004) * tooth * threaded, material, groove)


def steel_bolt_outline(u: Field, v: Field) -> Field:
    return np.minimum(box(u + 0.105, v, 0.021, 0.043, 0.004), box(u - 0.03, v, 0.125, 0.021, 0.006))


def steel_bolt(brush: Brush) -> None:
    """A hexagon-head bolt on its side, head towards -u."""
    u, v = brush.u, brush.v
    _shank(brush, -0.1, 0.155, 0.021, ZINC, 0.0105)
    head = box(u + 0.105, v, 0.021, 0.043, 0.004)
    facet = np.float32(0.07) - np.maximum(np.abs(v) - np.float32(0.0215), 0) * np.float32(1.4)
    chamfer = np.maximum(-np.float32(0.114) - u, 0) * np.float32(1.6)
    tone = 1 + 0.05 * brush.texture("mottle") + 0.2 * brush.texture("wear")
    brush.paint(head, facet - chamfer, ZINC, tone, 0.12 * brush.texture("brushed", v, u))
    brush.paint(box(u + 0.081, v, 0.004, 0.036, 0.002), 0.05, ZINC, 0.8)


def brass_bolt_outline(u: Field, v: Field) -> Field:
    return np.minimum(box(u + 0.108, v, 0.019, 0.037, 0.012), box(u - 0.025, v, 0.12, 0.0195, 0.006))


def brass_bolt(brush: Brush) -> None:
    """A slotted cheese-head screw on its side, head towards -u."""
    u, v = brush.u, brush.v
    _shank(brush, -0.1, 0.145, 0.0195, BRASS, 0.0085)
    head = box(u + 0.108, v, 0.019, 0.037, 0.012)
    crown = np.sqrt(np.maximum(np.float32(0.037**2) - v * v, 0))
    dome = np.maximum(-np.float32(0.112) - u, 0) * np.float32(1.1)
    tone = 1 + 0.06 * brush.texture("mottle") + 0.2 * brush.texture("wear")
    brush.paint(head, np.float32(0.03) + crown - dome, BRASS, tone, 0.10 * brush.texture("brushed", v, u))
    slot = box(u + 0.125, v - brush.rng.uniform(-0.012, 0.012), 0.006, 0.004)
    brush.paint(np.maximum(slot, head), 0.03, BRASS, 0.25)


def nut_outline(u: Field, v: Field) -> Field:
    return hexagon(u, v, 0.046)


def _nut(brush: Brush, material: Material) -> None:
    u, v = brush.u, brush.v
    radius = np.hypot(u, v)
    hole = np.float32(0.024) - radius
    chamfer = np.maximum(radius - np.float32(0.0445), 0) * np.float32(0.9)
    tone = 1 + 0.06 * brush.texture("mottle") + 0.22 * brush.texture("wear")
    top = np.maximum(hexagon(u, v, 0.046), hole)
    brush.paint(top, np.float32(0.034) - chamfer, material, tone, 0.09 * brush.texture("brushed"))
    turn = radius / np.float32(0.0035)
    thread = np.maximum(radius - np.float32(0.0245), np.float32(0.0185) - radius)
    brush.paint(thread, 0.034 - 0.9 * (0.026 - radius), material, 0.30 + 0.18 * np.cos(6.28 * turn))


def steel_nut(brush: Brush) -> None:
    _nut(brush, ZINC)


def brass_nut(brush: Brush) -> None:
    _nut(brush, BRASS)


def washer_outline(u: Field, v: Field) -> Field:
    return circle(u, v, 0.066)


def washer(brush: Brush) -> None:
    """A turned steel washer: its grooves run around and catch the light in two fans."""
    u, v = brush.u, brush.v
    radius = np.hypot(u, v)
    ring = np.maximum(radius - np.float32(0.066), np.float32(0.030) - radius)
    edge = np.clip(-ring / np.float32(0.004), 0, 1)
    grooves = brush.texture("brushed", np.arctan2(v, u) * np.float32(0.05), radius)
    tone = 1 + 0.05 * brush.texture("mottle") + 0.06 * grooves + 0.25 * brush.texture("wear")
    brush.paint(ring, np.float32(0.006) + np.float32(0.006) * edge, STEEL, tone, 0.22 * grooves)


def knob_outline(u: Field, v: Field) -> Field:
    return star(u, v, 0.070, 0.009, 6)


def knob(brush: Brush) -> None:
    """A moulded star grip with a pressed-in brass bush."""
    u, v = brush.u, brush.v
    distance = star(u, v, 0.070, 0.009, 6)
    rim = np.sqrt(np.clip(-distance / np.float32(0.022), 0, 1))
    dish = smoothstep((np.float32(0.042) - np.hypot(u, v)) / np.float32(0.012))
    brush.paint(
        distance,
        np.float32(0.046) * rim - np.float32(0.010) * dish,
        RED_PLASTIC,
        1 + 0.05 * brush.texture("mottle"),
        0.10 * brush.texture("grain"),
    )
    bush = circle(u, v, 0.021)
    brush.paint(bush, 0.042 - 0.5 * np.maximum(bush + 0.004, 0), BRASS, 1 + 0.06 * brush.texture("mottle"))
    brush.paint(circle(u, v, 0.012), 0.012, BLACK_HOLE)
