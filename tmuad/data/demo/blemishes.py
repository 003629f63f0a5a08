"""Structural damage, written into the canvas so that the light finds it: grooves, hollows, tints, foreign bodies."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tmuad.data.demo.brush import Part
from tmuad.data.demo.parts import distance
from tmuad.data.demo.shading import Canvas, Window
from tmuad.data.demo.shapes import Field, smoothstep
from tmuad.data.demo.textures import Atlas

STAINS = (
    (0.30, 0.11, 0.03),
    (0.035, 0.028, 0.02),
    (0.52, 0.40, 0.10),
    (0.16, 0.20, 0.06),
)  # rust, oil, flux, verdigris
LINT = ((0.85, 0.84, 0.80), (0.015, 0.014, 0.014), (0.50, 0.03, 0.03), (0.04, 0.10, 0.40))  # white, black, red, blue
GRIT = (*LINT[:2], (0.40, 0.22, 0.08))


@dataclass(frozen=True)
class Blemish:
    """One mark. Lengths are shares of the image side."""

    kind: str  # names its painter in PAINTERS
    x: float
    y: float
    angle: float
    length: float  # of a scratch or fibre; radius of the others
    look: int
    on: Part | None = None  # the mark ends where this part ends


def blemish(canvas: Canvas, mark: Blemish, atlas: Atlas) -> None:
    """Put `mark` on the canvas, over everything that is there."""
    reach = mark.length * 1.4 + 0.01
    window = canvas.window(mark.x, mark.y, reach, reach)
    x, y = canvas.coordinates(window)
    room = np.float32(1) if mark.on is None else smoothstep(-distance(mark.on, x, y) * np.float32(canvas.side / 2))
    frame = Part("", mark.x, mark.y, mark.angle, 0)
    u, v = frame.to_frame(x, y)
    PAINTERS[mark.kind](_Patch(canvas, window, u, v, room, np.random.default_rng(mark.look), atlas), mark)


@dataclass(frozen=True)
class _Patch:
    """A window of the canvas in the mark's frame."""

    canvas: Canvas
    window: Window
    u: Field
    v: Field
    room: Field | np.float32  # 0..1: where the mark may show
    rng: np.random.Generator
    atlas: Atlas

    def raise_by(self, height: Field) -> None:
        self.canvas.height[self.window] += self.room * height

    def tint(self, cover: Field, color: tuple[float, float, float]) -> None:
        rows, columns = self.window
        for plane, value in zip(self.canvas.color, color, strict=True):
            plane[rows, columns] += self.room * cover * (np.float32(value) - plane[rows, columns])

    def finish(self, cover: Field, metal: float, gloss: float, sheen: float) -> None:
        rows, columns = self.window
        for plane, value in zip(self.canvas.surface, (metal, gloss, sheen), strict=True):
            plane[rows, columns] += self.room * cover * (np.float32(value) - plane[rows, columns])

    def color_here(self) -> Field:
        """Mean colour (3,) under the window."""
        rows, columns = self.window
        mean: Field = self.canvas.color[:, rows, columns].mean(axis=(1, 2))
        return mean


def _scratch(patch: _Patch, mark: Blemish) -> None:
    """One to three bent grooves with a burr along one lip; bare material shines in them."""
    bend = patch.rng.uniform(-1.2, 1.2)
    for stroke in range(int(patch.rng.integers(1, 4))):
        offset = (0.0085 + 0.004 * patch.rng.uniform()) * stroke * (-1) ** stroke
        half = mark.length * (1.0 if stroke == 0 else patch.rng.uniform(0.4, 0.8))
        across = patch.v - np.float32(bend) * patch.u * patch.u - np.float32(offset)
        taper = smoothstep((np.float32(half) - np.abs(patch.u)) / np.float32(0.35 * half))
        width = np.float32(patch.rng.uniform(0.0028, 0.0038)) * (np.float32(0.5) + np.float32(0.5) * taper)
        groove = taper * np.exp(-((across / width) ** 2))
        burr = taper * np.exp(-(((across - 2 * width) / width) ** 2))
        patch.raise_by(np.float32(0.0016) * burr - np.float32(0.0034) * groove)
        bright = tuple(float(c) for c in np.clip(0.35 + 1.3 * patch.color_here(), 0, 0.95))
        patch.tint(np.float32(0.75) * groove, (bright[0], bright[1], bright[2]))
        patch.finish(np.float32(0.5) * groove, 0.6, 6.0, 0.03)


def _dent(patch: _Patch, mark: Blemish) -> None:
    """A hollow with a raised rim, longer than wide."""
    squeeze = patch.rng.uniform(1.0, 1.5)
    radius = np.hypot(patch.u, patch.v * np.float32(squeeze)) / np.float32(mark.length)
    hollow = np.exp(-((radius / np.float32(0.62)) ** 4))
    rim = np.exp(-(((radius - np.float32(1.0)) / np.float32(0.18)) ** 2))
    patch.raise_by(np.float32(mark.length) * (np.float32(0.07) * rim - np.float32(0.34) * hollow))
    patch.tint(np.float32(0.5) * hollow, (0.10, 0.10, 0.10))


def _stain(patch: _Patch, mark: Blemish) -> None:
    """A dried drop: ragged, patchy, darker along its border."""
    shift = (float(patch.rng.uniform()), float(patch.rng.uniform()))
    ragged = patch.atlas.sample("mottle", patch.u, patch.v, shift)
    radius = np.hypot(patch.u, patch.v * np.float32(patch.rng.uniform(1.0, 1.6))) / np.float32(mark.length)
    edge = np.float32(1) - radius + np.float32(0.12) * ragged
    inside = smoothstep(edge / np.float32(0.10))
    border = inside * np.exp(-((edge / np.float32(0.16)) ** 2))
    here = patch.color_here()
    color = _farthest(STAINS, here)
    patch.tint(
        np.clip(inside * (np.float32(0.62) + np.float32(0.08) * ragged) + np.float32(0.25) * border, 0, 1), color
    )
    patch.finish(np.float32(0.7) * inside, 0.05, 18.0, 0.03)


def _fibre(patch: _Patch, mark: Blemish) -> None:
    """A thread that lies loosely over whatever is below."""
    waves = patch.rng.uniform(-1, 1, 3)
    phase = patch.u / np.float32(mark.length)
    path = np.float32(mark.length) * sum(
        (
            np.float32(0.22 * w / (k + 1)) * np.sin((k + 1) * np.float32(2.2) * phase + np.float32(3 * w))
            for k, w in enumerate(waves)
        ),
        start=np.zeros_like(phase),
    )
    slant = (
        np.sqrt(1 + np.gradient(path, axis=1) ** 2 * np.float32(patch.canvas.side**2))
        if path.shape[1] > 1
        else np.float32(1)
    )
    across = (patch.v - path) / slant
    beyond = np.maximum(np.abs(patch.u) - np.float32(mark.length), 0)
    radius = np.float32(patch.rng.uniform(0.0024, 0.0034))
    gap = np.hypot(across, beyond) - radius
    cover = np.clip(np.float32(0.5) - gap * patch.canvas.side, 0, 1)
    patch.raise_by(cover * np.sqrt(np.clip(radius * radius - across * across, 0, None)) * 2)
    patch.tint(cover, _farthest(LINT, patch.color_here()))
    patch.finish(cover, 0.0, 8.0, 0.03)


def _crumbs(patch: _Patch, mark: Blemish) -> None:
    """Grit: a few angular grains close together."""
    color = _farthest(GRIT, patch.color_here())
    for _ in range(int(patch.rng.integers(4, 9))):
        x, y = patch.rng.normal(0, 0.45 * mark.length, 2)
        size, turn = patch.rng.uniform(0.005, 0.010), patch.rng.uniform(0, math.pi)
        u, v = patch.u - np.float32(x), patch.v - np.float32(y)
        angle = np.arctan2(v, u) + np.float32(turn)
        gap = np.hypot(u, v) - np.float32(size) * (
            1 + np.float32(0.22) * np.cos(3 * angle) + np.float32(0.12) * np.cos(5 * angle + 1)
        )
        cover = np.clip(np.float32(0.5) - gap * patch.canvas.side, 0, 1)
        patch.raise_by(cover * np.minimum(-gap * np.float32(1.2) + np.float32(0.002), np.float32(0.008)))
        patch.tint(cover, color)
        patch.finish(cover, 0.0, 8.0, 0.03)


def _farthest(palette: tuple[tuple[float, float, float], ...], here: Field) -> tuple[float, float, float]:
    """The colour that stands out most; compared as the eye does, on a root scale."""
    return max(palette, key=lambda color: float(np.abs(np.sqrt(np.asarray(color)) - np.sqrt(here)).sum()))


PAINTERS: dict[str, Callable[[_Patch, Blemish], None]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "fibre": _fibre,
    "crumbs": _crumbs,
}
