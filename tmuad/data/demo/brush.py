"""The hand that draws one part: a window of the canvas in the part's own frame."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tmuad.data.demo.shading import Canvas, Material, Window, clip_window
from tmuad.data.demo.shapes import Field
from tmuad.data.demo.textures import Atlas


@dataclass(frozen=True)
class Chip:
    """A piece broken off a part: a ragged disc about (u, v) in the part's frame."""

    u: float
    v: float
    radius: float
    phase: float

    def distance(self, u: Field, v: Field) -> Field:
        """Negative where the material is gone."""
        x, y = u - np.float32(self.u), v - np.float32(self.v)
        angle = np.arctan2(y, x)
        ragged = 1 + 0.16 * np.cos(3 * angle + self.phase) + 0.10 * np.cos(7 * angle + 2.3 * self.phase)
        distance: Field = np.hypot(x, y) - np.float32(self.radius) * ragged
        return distance


@dataclass(frozen=True)
class Part:
    """One object of a scene. Lengths are shares of the image side."""

    kind: str  # names its painter in parts.KINDS
    x: float
    y: float
    angle: float  # radians
    look: int  # seed of its surface: the same part elsewhere looks the same
    scale: float = 1.0
    chip: Chip | None = None

    def to_frame(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Image coordinates in the part's frame, at scale 1."""
        c, s = np.float32(np.cos(self.angle) / self.scale), np.float32(np.sin(self.angle) / self.scale)
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        return c * dx + s * dy, c * dy - s * dx

    def from_frame(self, u: float, v: float) -> tuple[float, float]:
        """The image coordinates of a point of the part."""
        c, s = float(np.cos(self.angle)) * self.scale, float(np.sin(self.angle)) * self.scale
        return self.x + c * u - s * v, self.y + s * u + c * v


class Brush:
    """Paints in a part's frame: `u`, `v` (h, w) in shares of the side at scale 1, `pixel` the size of a pixel there."""

    def __init__(self, canvas: Canvas, window: Window, part: Part, atlas: Atlas) -> None:
        x, y = canvas.coordinates(window)
        self.u, self.v = part.to_frame(x, y)
        self.pixel = np.float32(1 / (canvas.side * part.scale))
        self.rng = np.random.default_rng(part.look)
        self._canvas, self._window, self._part, self._atlas = canvas, window, part, atlas
        self._gone = None if part.chip is None else part.chip.distance(self.u, self.v)
        self._shift = (float(self.rng.uniform()), float(self.rng.uniform()))
        lean = self.rng.uniform(-0.05, 0.05, 2).astype(np.float32)  # no part lies quite level
        self._lean = lean[0] * self.u + lean[1] * self.v
        self._shade = np.float32(self.rng.uniform(0.88, 1.12))  # nor are two of quite the same tone

    def near(self, u: float, v: float, reach: float) -> "Brush":
        """A brush for a detail about (u, v), which becomes the origin: small details should not cost a whole window."""
        x, y = self._part.from_frame(u, v)
        reach = reach * self._part.scale
        window = clip_window(self._canvas.window(x, y, reach, reach), self._window)
        rows, columns = (slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, self._window, strict=True))
        detail = copy.copy(self)
        detail._window = window
        detail.u, detail.v = self.u[rows, columns] - np.float32(u), self.v[rows, columns] - np.float32(v)
        detail._lean = self._lean[rows, columns]
        detail._gone = None if self._gone is None else self._gone[rows, columns]
        return detail

    def texture(self, name: str, u: Field | None = None, v: Field | None = None) -> Field:
        """A texture of the atlas, along the part's frame or along other coordinates."""
        return self._atlas.sample(name, self.u if u is None else u, self.v if v is None else v, self._shift)

    def paint(
        self,
        distance: Field,
        height: Field | float,
        material: Material,
        tone: Field | float = 1.0,
        bump: Field | float = 0.0,
    ) -> None:
        """Cover the pixels where `distance` is negative.

        Args:
            distance: (h, w), to the outline, at scale 1.
            height: of the surface above the bench, at scale 1.
            tone: factor on the material's colour, (h, w) or (3, h, w).
            bump: fine relief added to the height, in canvas pixels, so that it looks the same at every image size.
        """
        if self._gone is not None:
            distance = np.maximum(distance, -self._gone)
        relief = (height + self._lean + bump * self.pixel) * np.float32(self._part.scale)
        cover = np.clip(np.float32(0.5) - distance / self.pixel, 0, 1)
        rows, columns = self._window
        _lay(self._canvas.height[rows, columns], relief, cover)
        tones: Field = np.asarray(tone, dtype=np.float32) * self._shade
        if self._gone is not None:  # a fresh fracture is paler than the worn surface
            tones = tones * (1 + np.exp(-np.maximum(self._gone, 0) / np.float32(0.003)))
        for channel, albedo in enumerate(material.color):
            color = np.float32(albedo) * (tones[channel] if tones.ndim == 3 else tones)
            _lay(self._canvas.color[channel, rows, columns], color, cover)
        for channel, value in enumerate((material.metal, material.gloss, material.sheen)):
            _lay(self._canvas.surface[channel, rows, columns], np.float32(value), cover)


def _lay(layer: Field, value: Field | np.float32, cover: Field) -> None:
    """Blend `value` into `layer`, in place, as far as `cover` says."""
    change = value - layer
    change *= cover
    layer += change


Painter = Callable[[Brush], None]
Footprint = Callable[[Field, Field], Field]
