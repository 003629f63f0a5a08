"""Parts of the electronics tray: circuit board, capacitors, connectors, resistors, heat sink."""

import numpy as np

from tmuad.data.demo.brush import Brush
from tmuad.data.demo.shading import Material
from tmuad.data.demo.shapes import Field, box, capsule, circle

TIN = Material((0.62, 0.63, 0.63), metal=0.85, gloss=14.0, sheen=0.02)
ALUMINIUM = Material((0.74, 0.75, 0.76), metal=0.88, gloss=9.0, sheen=0.01)
GOLD = Material((0.85, 0.62, 0.25), metal=0.9, gloss=16.0, sheen=0.02)
BLACK_PLASTIC = Material((0.018, 0.018, 0.02), gloss=14.0, sheen=0.05)
IVORY_PLASTIC = Material((0.66, 0.58, 0.40), gloss=14.0, sheen=0.06)
RESISTOR_BODY = Material((0.46, 0.31, 0.16), gloss=22.0, sheen=0.07)
ANODISED = Material((0.055, 0.06, 0.075), metal=0.35, gloss=9.0, sheen=0.03)
BANDS = ((0.10, 0.035, 0.015), (0.012, 0.012, 0.012), (0.42, 0.02, 0.01), (0.62, 0.42, 0.10))  # brown black red gold


def capacitor_outline(u: Field, v: Field) -> Field:
    distance: Field = np.maximum(
        box(u, v, 0.057, 0.057, 0.006), (u + np.abs(v)) * np.float32(0.7071) - np.float32(0.066)
    )
    return distance


def capacitor(brush: Brush) -> None:
    """A surface-mount electrolytic can: square base with two cut corners, marked half, printed value."""
    u, v = brush.u, brush.v
    brush.paint(capacitor_outline(u, v), 0.012, BLACK_PLASTIC, 1.0, 0.1 * brush.texture("grain"))
    for side in (-1, 1):
        brush.paint(box(u - side * 0.058, v, 0.008, 0.010, 0.001), 0.006, TIN)
    radius = np.hypot(u, v)
    can = circle(u, v, 0.051)
    rim = np.sqrt(np.clip(-can / np.float32(0.006), 0, 1))
    height = np.float32(0.03) + np.float32(0.04) * rim
    tone = 1 + 0.04 * brush.texture("mottle") + 0.2 * brush.texture("wear")
    brush.paint(
        can, height, ALUMINIUM, tone, 0.10 * brush.texture("brushed", np.arctan2(v, u) * np.float32(0.05), radius)
    )
    mark = np.maximum(circle(u, v, 0.0465), u + np.float32(0.019))
    brush.paint(mark, 0.0702, BLACK_PLASTIC)
    ink = _print(brush, u - 0.012, v, rows=2, columns=4, glyph=0.0105)
    brush.paint(ink, 0.0702, BLACK_PLASTIC)


def _print(brush: Brush, u: Field, v: Field, rows: int, columns: int, glyph: float) -> Field:
    """Distance to a block of characters from a fixed 3 x 5 alphabet; a lot's code, so different on every part."""
    alphabet = (0x7B6F, 0x2C97, 0x73E7, 0x73CF, 0x5BC9, 0x79CF, 0x79EF, 0x7292, 0x7BEF, 0x7BCF)
    pitch_u, pitch_v = np.float32(glyph * 0.8), np.float32(glyph * 1.5)
    cell_u = u / pitch_u + np.float32(columns / 2)
    cell_v = v / pitch_v + np.float32(rows / 2)
    column, row = np.floor(cell_u).astype(np.int32), np.floor(cell_v).astype(np.int32)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    codes = np.array(alphabet, dtype=np.int32)[brush.rng.integers(0, len(alphabet), (rows, columns))]
    code = codes[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    x = np.floor((cell_u - column) * 4).astype(np.int32)
    y = np.floor((cell_v - row) * 7).astype(np.int32)
    bit = (code >> np.clip(14 - 3 * y - x, 0, 14)) & 1
    on = inside & (x < 3) & (y < 5) & (bit == 1)
    return np.where(on, np.float32(-0.01), np.float32(0.01)).astype(np.float32)


def connector_outline(u: Field, v: Field) -> Field:
    return box(u, v, 0.098, 0.042, 0.005)


def _connector(brush: Brush, plastic: Material) -> None:
    """A shrouded pin header, two rows of five."""
    u, v = brush.u, brush.v
    shell = connector_outline(u, v)
    tone = 1 + 0.04 * brush.texture("mottle")
    edge = np.clip(-shell / np.float32(0.004), 0, 1)
    brush.paint(shell, np.float32(0.046) + np.float32(0.006) * edge, plastic, tone, 0.08 * brush.texture("grain"))
    well = box(u, v, 0.087, 0.031, 0.003)
    key = box(u, v - 0.034, 0.017, 0.010)
    brush.paint(np.minimum(well, key), 0.016, plastic, 0.75 * tone)
    pin_u = (u / np.float32(0.0335) - np.round(np.clip(u / np.float32(0.0335), -2, 2))) * np.float32(0.0335)
    pin_v = np.abs(v) - np.float32(0.0145)
    pins = box(pin_u, pin_v, 0.0062, 0.0062, 0.001)
    brush.paint(pins, 0.042 + 0.9 * np.minimum(-pins, 0.004), GOLD)


def black_connector(brush: Brush) -> None:
    _connector(brush, BLACK_PLASTIC)


def ivory_connector(brush: Brush) -> None:
    _connector(brush, IVORY_PLASTIC)


def resistor_outline(u: Field, v: Field) -> Field:
    ends = np.minimum(capsule(u - 0.042, v, 0.008, 0.0245), capsule(u + 0.042, v, 0.008, 0.0245))
    return np.minimum(np.minimum(ends, capsule(u, v, 0.045, 0.0195)), box(u, v, 0.125, 0.0045))


def resistor(brush: Brush) -> None:
    """An axial resistor with four colour bands; its wires are never quite straight."""
    u, v = brush.u, brush.v
    bow = brush.rng.uniform(-0.3, 0.3, 2)
    wire_v = (
        v
        + np.where(u < 0, np.float32(bow[0]), np.float32(bow[1])) * np.maximum(np.abs(u) - np.float32(0.05), 0) ** 2 * 3
    )
    wire = box(u, wire_v, 0.125, 0.0045)
    brush.paint(wire, np.float32(0.014) + np.sqrt(np.maximum(np.float32(0.0045**2) - wire_v * wire_v, 0)), TIN)
    radius = np.float32(0.0195) + np.float32(0.005) * np.exp(
        -(((np.abs(u) - np.float32(0.042)) / np.float32(0.012)) ** 2)
    )
    body = (
        np.maximum(np.abs(v) - radius, np.abs(u) - np.float32(0.066))
        + np.maximum(np.abs(u) - np.float32(0.055), 0) * 0.6
    )
    crown = np.sqrt(np.maximum(radius * radius - v * v, 0)) - 0.6 * np.maximum(np.abs(u) - np.float32(0.052), 0)
    tone = np.repeat((1 + 0.05 * brush.texture("mottle"))[None], 3, axis=0)
    for place, color in zip((-0.042, -0.017, 0.004, 0.040), BANDS, strict=True):
        band = np.abs(u - np.float32(place)) < np.float32(0.0062)
        for plane, paint, base in zip(tone, color, RESISTOR_BODY.color, strict=True):
            plane[band] = paint / base
    brush.paint(body, np.float32(0.02) + crown, RESISTOR_BODY, tone)


def heat_sink_outline(u: Field, v: Field) -> Field:
    return box(u, v, 0.135, 0.085, 0.003)


def heat_sink(brush: Brush) -> None:
    """An extruded, black anodised heat sink: seven fins and a bare rim where it was sawn."""
    u, v = brush.u, brush.v
    outline = heat_sink_outline(u, v)
    phase = v / np.float32(0.0255)
    groove = np.abs(phase - np.round(phase))
    fin = np.clip((np.float32(0.30) - groove) / np.float32(0.06), 0, 1)
    tone = 1 + 0.12 * brush.texture("mottle") + 0.8 * brush.texture("wear")
    relief = 0.20 * brush.texture("brushed")
    brush.paint(outline, np.float32(0.012) + np.float32(0.042) * fin, ANODISED, tone * (0.45 + 0.55 * fin), relief)
    sawn = np.maximum(outline, np.float32(0.130) - np.abs(u))
    brush.paint(sawn, np.float32(0.010) + np.float32(0.040) * fin, ALUMINIUM, 0.55 + 0.3 * fin, relief)
