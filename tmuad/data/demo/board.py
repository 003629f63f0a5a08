"""The circuit boards: two products, each with a layout of its own; tones differ from board to board."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tmuad.data.demo.brush import Brush
from tmuad.data.demo.shading import Material
from tmuad.data.demo.shapes import Field, box, circle, smoothstep

HALF_WIDTH, HALF_HEIGHT = 0.215, 0.240
GREEN_MASK = Material((0.018, 0.115, 0.040), gloss=20.0, sheen=0.06)
BLUE_MASK = Material((0.016, 0.045, 0.170), gloss=20.0, sheen=0.06)
PAD = Material((0.80, 0.66, 0.38), metal=0.85, gloss=12.0, sheen=0.02)
SILK = Material((0.68, 0.68, 0.64))
CHIP = Material((0.022, 0.022, 0.024), gloss=12.0, sheen=0.045)
TIN = Material((0.62, 0.63, 0.63), metal=0.85, gloss=14.0, sheen=0.02)
CERAMIC = Material((0.34, 0.23, 0.13), gloss=14.0, sheen=0.04)
_SHEET = 512  # texels along the longer side of the drawn layout
_HOLES = [(x * (HALF_WIDTH - 0.026), y * (HALF_HEIGHT - 0.026)) for x in (-1, 1) for y in (-1, 1)]


def board_outline(u: Field, v: Field) -> Field:
    return box(u, v, HALF_WIDTH, HALF_HEIGHT, 0.010)


@dataclass(frozen=True)
class _Layout:
    """What is printed and placed; rectangles are (u, v, half width, half height)."""

    copper: Field  # (_SHEET, _SHEET), 0..1
    pads: Field
    silk: Field
    chips: list[tuple[float, float, float, float]]
    passives: list[tuple[float, float, float, float]]


def green_board(brush: Brush) -> None:
    board(brush, GREEN_MASK, layout_seed=1)


def blue_board(brush: Brush) -> None:
    board(brush, BLUE_MASK, layout_seed=2)


def board(brush: Brush, mask: Material, layout_seed: int) -> None:
    """The laminate with its holes, then tracks, pads and silk screen, then the components of one product."""
    u, v = brush.u, brush.v
    layout = _draw(np.random.default_rng(layout_seed))
    distance = board_outline(u, v)
    for x, y in _HOLES:
        distance = np.maximum(distance, -circle(u - x, v - y, 0.0115))
    column = np.clip((u / np.float32(2 * HALF_HEIGHT) + np.float32(0.5)) * _SHEET, 0, _SHEET - 1).astype(np.int32)
    row = np.clip((v / np.float32(2 * HALF_HEIGHT) + np.float32(0.5)) * _SHEET, 0, _SHEET - 1).astype(np.int32)
    copper = layout.copper[row, column]
    tone = (0.78 + 0.75 * copper) * (1 + 0.05 * brush.texture("mottle"))
    brush.paint(distance, 0.020, mask, tone, 0.7 * copper + 0.06 * brush.texture("grain"))
    for x, y in _HOLES:
        corner = brush.near(x, y, 0.019)
        radius = np.hypot(corner.u, corner.v)
        corner.paint(np.maximum(radius - np.float32(0.019), np.float32(0.0115) - radius), 0.0205, PAD)
    solid = distance + np.float32(0.002)
    half = brush.pixel * np.float32(0.5)
    brush.paint(np.maximum(solid, half - layout.pads[row, column] * brush.pixel), 0.0207, PAD)
    brush.paint(np.maximum(solid, half - layout.silk[row, column] * brush.pixel), 0.0207, SILK)
    for chip in layout.chips:
        _chip(brush.near(chip[0], chip[1], math.hypot(chip[2], chip[3] + 0.014)), chip[2], chip[3])
    for passive in layout.passives:
        _passive(brush.near(passive[0], passive[1], math.hypot(passive[2], passive[3])), passive[2], passive[3])


def _chip(brush: Brush, half_width: float, half_height: float) -> None:
    """A small-outline package: legs along two sides, a dot at pin 1."""
    u, v = brush.u, brush.v
    near = np.float32(0.0062)
    leg_u = (u / (2 * near) - np.round(u / (2 * near))) * 2 * near
    leg = np.maximum(
        box(leg_u, np.abs(v) - np.float32(half_height + 0.004), 0.0030, 0.009),
        np.abs(u) - np.float32(half_width - 0.003),
    )
    brush.paint(leg, 0.026 - 0.6 * np.maximum(np.abs(v) - np.float32(half_height), 0), TIN)
    body = box(u, v, half_width, half_height, 0.002)
    edge = np.clip(-body / np.float32(0.004), 0, 1)
    brush.paint(
        body,
        np.float32(0.026) + np.float32(0.010) * edge,
        CHIP,
        1 + 0.06 * brush.texture("mottle"),
        0.12 * brush.texture("grain"),
    )
    brush.paint(circle(u + half_width - 0.012, v - half_height + 0.012, 0.004), 0.035, CHIP, 2.2)
    text = np.maximum(
        np.abs(u) - np.float32(half_width * 0.6), np.abs(np.abs(v) - np.float32(0.008)) - np.float32(0.0028)
    )
    dashes = np.where(
        brush.texture("grain", u * np.float32(0.5), np.round(v / np.float32(0.016)) * np.float32(0.3)) > -0.3,
        text,
        0.01,
    )
    brush.paint(dashes, 0.0362, CHIP, 7.0)


def _passive(brush: Brush, half_width: float, half_height: float) -> None:
    """A chip capacitor or resistor: a body between two tinned caps."""
    u, v = brush.u, brush.v
    body = box(u, v, half_width, half_height, 0.001)
    black = brush.rng.random() < 0.4
    brush.paint(body, 0.031, CHIP if black else CERAMIC, brush.rng.uniform(0.8, 1.25))
    along = (
        np.abs(u) - np.float32(half_width * 0.62)
        if half_width > half_height
        else np.abs(v) - np.float32(half_height * 0.62)
    )
    rounded = np.float32(0.032) - np.float32(0.006) * smoothstep((body + np.float32(0.003)) / np.float32(0.003))
    brush.paint(np.maximum(body, -along), rounded, TIN)


def _draw(rng: np.random.Generator) -> _Layout:
    """A layout that follows the habits of routed boards: chips fan out in bundles of parallel 45-degree tracks."""
    sheets = [Image.new("L", (_SHEET, _SHEET)) for _ in range(3)]
    copper, pads, silk = (ImageDraw.Draw(sheet) for sheet in sheets)

    def texel(x: float, y: float) -> tuple[float, float]:
        return (x / (2 * HALF_HEIGHT) + 0.5) * _SHEET, (y / (2 * HALF_HEIGHT) + 0.5) * _SHEET

    taken: list[tuple[float, float, float, float]] = [(x, y, 0.024, 0.024) for x, y in _HOLES]

    def free(half_width: float, half_height: float, margin: float) -> tuple[float, float] | None:
        for _ in range(40):
            x = rng.uniform(half_width - HALF_WIDTH + 0.012, HALF_WIDTH - half_width - 0.012)
            y = rng.uniform(half_height - HALF_HEIGHT + 0.018, HALF_HEIGHT - half_height - 0.018)
            if all(
                abs(x - a) > half_width + c + margin or abs(y - b) > half_height + d + margin for a, b, c, d in taken
            ):
                taken.append((x, y, half_width, half_height))
                return x, y
        return None

    if rng.random() < 0.7:  # a poured ground plane
        x, y = rng.uniform(-HALF_WIDTH, HALF_WIDTH * 0.3), rng.uniform(-HALF_HEIGHT, HALF_HEIGHT * 0.3)
        copper.rectangle([texel(x, y), texel(x + rng.uniform(0.1, 0.25), y + rng.uniform(0.08, 0.22))], fill=150)
    chips: list[tuple[float, float, float, float]] = []
    for _ in range(int(rng.integers(1, 4))):
        half_width, half_height = rng.uniform(0.036, 0.066), rng.uniform(0.026, 0.040)
        place = free(half_width, half_height + 0.014, 0.012)
        if place is not None:
            chips.append((*place, half_width, half_height))
    for x, y, half_width, half_height in chips:
        for side in (-1, 1):
            bend, run = rng.uniform(0.01, 0.07), rng.choice([-1.0, 0.0, 1.0])
            for pin in np.arange(-half_width + 0.006, half_width - 0.004, 0.0124):
                start = (x + pin, y + side * (half_height + 0.010))
                knee = (start[0], start[1] + side * rng.uniform(0.004, 0.012))
                turn = (knee[0] + run * bend, knee[1] + side * bend)
                end = (turn[0], turn[1] + side * rng.uniform(0.02, 0.12))
                copper.line([texel(*p) for p in (start, knee, turn, end)], fill=255, width=4)
                _dot(pads, texel(*end), 5)
    for _ in range(int(rng.integers(4, 11))):
        x, y = rng.uniform(-HALF_WIDTH, HALF_WIDTH), rng.uniform(-HALF_HEIGHT, HALF_HEIGHT)
        run, rise = rng.choice([-1.0, 1.0]) * rng.uniform(0.04, 0.18), rng.choice([-1.0, 1.0]) * rng.uniform(0.02, 0.08)
        points = [(x, y), (x + run, y), (x + run + abs(rise) * np.sign(run), y + rise)]
        copper.line([texel(*p) for p in points], fill=255, width=int(rng.choice([4, 6, 10])))
        for end in (points[0], points[-1]):
            _dot(pads, texel(*end), 6)
    passives: list[tuple[float, float, float, float]] = []
    for _ in range(int(rng.integers(6, 15))):
        long, short = (0.0135, 0.0075) if rng.random() < 0.6 else (0.018, 0.0105)
        half = (long, short) if rng.random() < 0.5 else (short, long)
        place = free(half[0] + 0.003, half[1] + 0.003, 0.004)
        if place is not None:
            passives.append((*place, *half))
            silk.rectangle(
                [
                    texel(place[0] - half[0] - 0.005, place[1] - half[1] - 0.005),
                    texel(place[0] + half[0] + 0.005, place[1] + half[1] + 0.005),
                ],
                outline=200,
                width=2,
            )
    for _ in range(int(rng.integers(2, 6))):
        place = free(0.024, 0.007, 0.003)
        if place is not None:
            for letter in range(5):
                x, y = texel(place[0] - 0.022 + 0.009 * letter, place[1] - 0.006)
                strokes = [
                    (x + 6 * a, y + 6 * b) for a, b in rng.permutation([(0, 0), (0, 2), (1, 0), (1, 2), (0, 1)])[:4]
                ]
                silk.line(strokes, fill=230, width=2)
    layers = [np.asarray(sheet, dtype=np.float32) / 255 for sheet in sheets]
    return _Layout(layers[0], layers[1], layers[2], chips, passives)


def _dot(pen: ImageDraw.ImageDraw, center: tuple[float, float], radius: float) -> None:
    pen.ellipse([center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius], fill=255)
