"""The kits: which parts a good image shows, where, and how much of that is left to chance."""

import math
from dataclasses import dataclass, replace

import numpy as np

from tmuad.data.demo.blemishes import Blemish, blemish
from tmuad.data.demo.brush import Part
from tmuad.data.demo.parts import KINDS, draw, gap
from tmuad.data.demo.shading import Canvas, Light, Material, Radiance, shade
from tmuad.data.demo.shapes import Field
from tmuad.data.demo.textures import Atlas

TOUCHING = 0.2  # share of the good images in which two neighbours touch
_MIN_GAP = 0.022


@dataclass(frozen=True)
class Slot:
    """A place of the kit. `kind` may name one of the kit's variants as "{metal}_bolt"."""

    kind: str
    x: float
    y: float
    angle: float = 0.0  # degrees
    spin: float = 180.0  # degrees either way
    row: str = ""  # neighbours in one row may touch


@dataclass(frozen=True)
class Ground:
    """The surface the kit lies on."""

    material: Material
    color_texture: str
    color_depth: float
    relief_texture: str
    relief: float  # canvas pixels


@dataclass(frozen=True)
class Kit:
    """A category: slots, the variants that go together, and the bench under its camera."""

    slots: tuple[Slot, ...]
    variants: tuple[dict[str, str], ...]  # each image is one of these throughout
    bound: str  # the slots whose kind must follow the variant of the rest: changed for a wrong combination
    swaps: tuple[tuple[str, str], ...]  # pairs of kinds (or prefixes) that a packer could confuse
    sized: tuple[str, ...]  # kinds delivered in several sizes
    roam: tuple[str, ...]  # kinds that can turn up twice or elsewhere
    smallest_part: float  # area, share of the image
    jitter: float  # largest displacement, share of the side
    ground: Ground
    light: Light

    def parts_expected(self, variant: dict[str, str]) -> dict[str, int]:
        """How many of each kind a good image of `variant` shows."""
        counts: dict[str, int] = {}
        for slot in self.slots:
            kind = slot.kind.format(**variant)
            counts[kind] = counts.get(kind, 0) + 1
        return counts


KITS: dict[str, Kit] = {
    "hardware_kit": Kit(
        slots=(
            Slot("bracket", 0.30, 0.19, spin=5),
            Slot("knob", 0.78, 0.20),
            *(Slot("{metal}_bolt", 0.16 + 0.13 * k, 0.64, 90, 6, "bolts") for k in range(3)),
            *(Slot("{metal}_nut", 0.59 + 0.145 * k, 0.51, 0, 180, "nuts") for k in range(3)),
            *(Slot("washer", 0.64 + 0.185 * k, 0.79, 0, 180, "washers") for k in range(2)),
        ),
        variants=({"metal": "steel"}, {"metal": "brass"}),
        bound="{metal}_nut",
        swaps=(("knob", "washer"), ("knob", "nut"), ("washer", "nut")),
        sized=("bolt", "nut", "washer", "knob"),
        roam=("nut", "washer", "bolt", "knob"),
        smallest_part=0.007,
        jitter=0.020,
        ground=Ground(Material((0.036, 0.044, 0.056), gloss=5.0, sheen=0.012), "mottle", 0.10, "cells", 0.55),
        light=Light(azimuth=math.radians(-128), elevation=math.radians(46), power=1.5, ambient=0.30),
    ),
    "electronics_tray": Kit(
        slots=(
            Slot("{mask}_board", 0.265, 0.315, spin=4),
            Slot("heat_sink", 0.20, 0.80, spin=5),
            *(Slot("capacitor", 0.585 + 0.160 * k, 0.155, 0, 10, "capacitors") for k in range(3)),
            *(Slot("{plastic}_connector", 0.72, 0.355 + 0.125 * k, 0, 6, "connectors") for k in range(2)),
            *(Slot("resistor", 0.465 + 0.105 * k, 0.77, 90, 7, "resistors") for k in range(4)),
        ),
        variants=({"mask": "green", "plastic": "black"}, {"mask": "blue", "plastic": "ivory"}),
        bound="{plastic}_connector",
        swaps=(("capacitor", "resistor"), ("resistor", "connector")),
        sized=("capacitor", "connector", "resistor"),
        roam=("capacitor", "resistor", "connector"),
        smallest_part=0.006,
        jitter=0.014,
        ground=Ground(Material((0.36, 0.37, 0.355), gloss=7.0, sheen=0.02), "mottle", 0.045, "dimples", 1.1),
        light=Light(azimuth=math.radians(-38), elevation=math.radians(50), power=1.12, ambient=0.30),
    ),
}


@dataclass(frozen=True)
class Scene:
    """All that a photograph shows, before a camera sees it."""

    kit: str
    variant: dict[str, str]
    parts: tuple[Part, ...]
    light: Light
    ground_look: int
    blemishes: tuple[Blemish, ...] = ()


def good_scene(name: str, rng: np.random.Generator) -> Scene:
    """A faultless scene of the kit `name`."""
    kit = KITS[name]
    variant = kit.variants[int(rng.integers(len(kit.variants)))]
    parts = [_place(slot, variant, kit.jitter, rng) for slot in kit.slots]
    touch = _touching_pair(kit, rng) if rng.random() < TOUCHING else None
    if touch is not None:
        a, b = touch
        parts[a], parts[b] = _bring_together(parts[a], parts[b])
    for _ in range(12):
        if not _separate(parts, touch):
            break
    light = replace(
        kit.light,
        azimuth=kit.light.azimuth + float(rng.normal(0, 0.09)),
        elevation=kit.light.elevation + float(rng.normal(0, 0.03)),
        power=kit.light.power * float(rng.uniform(0.93, 1.07)),
    )
    return Scene(name, variant, tuple(parts), light, int(rng.integers(2**31)))


def _place(slot: Slot, variant: dict[str, str], jitter: float, rng: np.random.Generator) -> Part:
    dx, dy = rng.uniform(-jitter, jitter, 2)
    turn = float(rng.uniform(-slot.spin, slot.spin))
    return Part(
        kind=slot.kind.format(**variant),
        x=slot.x + float(dx),
        y=slot.y + float(dy),
        angle=math.radians(slot.angle + turn),
        look=int(rng.integers(2**31)),
    )


def _touching_pair(kit: Kit, rng: np.random.Generator) -> tuple[int, int]:
    pairs = [
        (k, k + 1) for k in range(len(kit.slots) - 1) if kit.slots[k].row and kit.slots[k].row == kit.slots[k + 1].row
    ]
    return pairs[int(rng.integers(len(pairs)))]


def _bring_together(a: Part, b: Part) -> tuple[Part, Part]:
    """Both moved, by the same way, until their outlines meet."""
    for _ in range(8):
        room = gap(a, b)
        a, b = _shift(a, b, -room / 2), _shift(b, a, -room / 2)
    return a, b


def _separate(parts: list[Part], touch: tuple[int, int] | None) -> bool:
    """Push apart, in place, whatever lies closer than _MIN_GAP, but for the touching pair. Whether anything moved."""
    moved = False
    for b in range(len(parts)):
        for a in range(b):
            room = gap(parts[a], parts[b])
            if room >= _MIN_GAP or (a, b) == touch:
                continue
            first = KINDS[parts[a].kind].reach < KINDS[parts[b].kind].reach  # the smaller one gives way
            mover, anchor = (a, b) if first else (b, a)
            step = _MIN_GAP - room + 0.001
            before = parts[mover]
            parts[mover] = _shift(before, parts[anchor], step)
            if touch is not None and mover in touch:  # the pair moves as one
                other = touch[0] if mover == touch[1] else touch[1]
                dx, dy = parts[mover].x - before.x, parts[mover].y - before.y
                parts[other] = replace(parts[other], x=parts[other].x + dx, y=parts[other].y + dy)
            moved = True
    return moved


def _shift(part: Part, anchor: Part, step: float) -> Part:
    """`part` moved by `step` away from `anchor`."""
    dx, dy = part.x - anchor.x, part.y - anchor.y
    length = max(math.hypot(dx, dy), 1e-6)
    return replace(part, x=part.x + step * dx / length, y=part.y + step * dy / length)


def lay_out(scene: Scene, size: int, atlas: Atlas) -> Canvas:
    """The canvas of a scene: the ground, then its parts in order."""
    canvas = Canvas(size)
    ground = KITS[scene.kit].ground
    rng = np.random.default_rng(scene.ground_look)

    def spread(texture: Field) -> Field:
        return np.roll(texture, tuple(int(k) for k in rng.integers(0, canvas.side, 2)), axis=(0, 1))

    tone = 1 + np.float32(ground.color_depth) * spread(getattr(atlas, ground.color_texture))
    for plane, albedo in zip(canvas.color, ground.material.color, strict=True):
        np.multiply(tone, np.float32(albedo), out=plane)
    canvas.height[...] = np.float32(ground.relief / canvas.side) * spread(getattr(atlas, ground.relief_texture))
    for plane, value in zip(
        canvas.surface, (ground.material.metal, ground.material.gloss, ground.material.sheen), strict=True
    ):
        plane[...] = value
    for part in scene.parts:
        draw(canvas, part, atlas)
    for mark in scene.blemishes:
        blemish(canvas, mark, atlas)
    return canvas


def render(scene: Scene, size: int, atlas: Atlas) -> Radiance:
    """The scene as light, (size, size, 3) linear."""
    return shade(lay_out(scene, size, atlas), scene.light)
