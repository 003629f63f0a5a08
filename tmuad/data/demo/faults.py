"""What can be wrong with a kit. A fault turns a good scene into a faulty one and says which parts it concerns."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tmuad.data.demo.blemishes import Blemish
from tmuad.data.demo.brush import Chip, Part
from tmuad.data.demo.parts import clearance, inside_frame, rim_point, surface_point
from tmuad.data.demo.scenes import KITS, Scene

FaultKind = Literal["logical", "structural"]
_ROOM = 0.014  # clear space around a part that was put where none belongs
_FAR = 0.22  # a part this far from every place of its kind is misplaced beyond doubt
_TOUGH = ("board", "resistor", "connector", "knob")  # they crack or scratch, but do not dent
_WHOLE = ("bolt", "capacitor", "resistor")  # a chip would not show at their outline


@dataclass(frozen=True)
class Fault:
    """A faulty scene. Each region becomes one mask: the silhouettes of its parts and whatever changed about them."""

    scene: Scene
    regions: tuple[tuple[Part, ...], ...]  # empty for damage, whose mask is what changed


Draw = Callable[[Scene, np.random.Generator], Fault | None]  # None: this attempt found no room; try again


def _named(scene: Scene, prefixes: tuple[str, ...]) -> list[int]:
    """Indexes of the parts whose kind holds one of `prefixes`."""
    return [k for k, part in enumerate(scene.parts) if any(prefix in part.kind for prefix in prefixes)]


def _choose(rng: np.random.Generator, options: list[int]) -> int:
    return options[int(rng.integers(len(options)))]


def _without(scene: Scene, *indexes: int) -> tuple[Part, ...]:
    return tuple(part for k, part in enumerate(scene.parts) if k not in indexes)


def _with(scene: Scene, changed: dict[int, Part]) -> Scene:
    return replace(scene, parts=tuple(changed.get(k, part) for k, part in enumerate(scene.parts)))


def _missing(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """One part is not there, at times two."""
    count = 2 if rng.random() < 0.3 else 1
    gone = sorted(int(k) for k in rng.choice(len(scene.parts), count, replace=False))
    return Fault(replace(scene, parts=_without(scene, *gone)), tuple((scene.parts[k],) for k in gone))


def _extra(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """One part too many, somewhere in free space."""
    model = scene.parts[_choose(rng, _named(scene, KITS[scene.kit].roam))]
    added = _free_place(replace(model, look=int(rng.integers(2**31))), scene.parts, rng)
    return None if added is None else Fault(replace(scene, parts=(*scene.parts, added)), ((added,),))


def _misplaced(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """A part lies far from where its kind belongs."""
    index = _choose(rng, _named(scene, KITS[scene.kit].roam))
    part = scene.parts[index]
    moved = _free_place(part, _without(scene, index), rng)
    homes = [other for other in scene.parts if other.kind == part.kind]
    if moved is None or min(math.hypot(moved.x - home.x, moved.y - home.y) for home in homes) < _FAR:
        return None
    return Fault(_with(scene, {index: moved}), ((moved, part),))


def _free_place(part: Part, others: tuple[Part, ...], rng: np.random.Generator) -> Part | None:
    for _ in range(60):
        x, y = rng.uniform(0.06, 0.94, 2)
        moved = replace(part, x=float(x), y=float(y), angle=part.angle + float(rng.uniform(-0.5, 0.5)))
        if inside_frame(moved) and clearance(moved, others) > _ROOM:
            return moved
    return None


def _swapped(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """Two parts of different kinds lie in each other's place."""
    pair = KITS[scene.kit].swaps[int(rng.integers(len(KITS[scene.kit].swaps)))]
    a, b = (_choose(rng, _named(scene, (name,))) for name in pair)
    first, second = scene.parts[a], scene.parts[b]
    moved = {
        a: replace(first, x=second.x, y=second.y, angle=second.angle),
        b: replace(second, x=first.x, y=first.y, angle=first.angle),
    }
    others = _without(scene, a, b)
    clear = all(inside_frame(part) and clearance(part, others) > 0.002 for part in moved.values())
    return Fault(_with(scene, moved), ((moved[b], first), (moved[a], second))) if clear else None


def _wrong_size(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """A part of the next size up or down."""
    index = _choose(rng, _named(scene, KITS[scene.kit].sized))
    part = scene.parts[index]
    changed = replace(part, scale=float(rng.uniform(0.60, 0.72) if rng.random() < 0.5 else rng.uniform(1.38, 1.55)))
    if not inside_frame(changed) or clearance(changed, _without(scene, index)) < 0.002:
        return None
    return Fault(_with(scene, {index: changed}), ((changed, part),))


def _wrong_combination(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """Every part by itself is right, but one, or all of a kind, belong to the other variant of the kit."""
    kit = KITS[scene.kit]
    own, other = kit.bound.format(**scene.variant), next(v for v in kit.variants if v != scene.variant)
    bound = [k for k, part in enumerate(scene.parts) if part.kind == own]
    wrong = bound if rng.random() < 0.5 else [_choose(rng, bound)]
    changed = {k: replace(scene.parts[k], kind=kit.bound.format(**other)) for k in wrong}
    return Fault(_with(scene, changed), tuple((part,) for part in changed.values()))


def _marked(kind: str, low: float, high: float, spare: tuple[str, ...]) -> Draw:
    """Damage of one kind on a part that can show it."""

    def fault(scene: Scene, rng: np.random.Generator) -> Fault | None:
        part = scene.parts[_choose(rng, [k for k, p in enumerate(scene.parts) if not any(s in p.kind for s in spare)])]
        length = float(rng.uniform(low, high))
        x, y, room = surface_point(part, rng)
        if kind == "dent" and room < 0.7 * length:
            return None
        angle = float(rng.uniform(0, math.pi))
        mark = Blemish(kind, x, y, angle, length, int(rng.integers(2**31)), on=part)
        return Fault(replace(scene, blemishes=(mark,)), ())

    return fault


def _break(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """A piece has broken off the rim of a part."""
    sturdy = [k for k, part in enumerate(scene.parts) if not any(name in part.kind for name in _WHOLE)]
    index = _choose(rng, sturdy)
    u, v = rim_point(scene.parts[index].kind, rng)
    chip = Chip(u, v, float(rng.uniform(0.017, 0.030)), float(rng.uniform(0, 2 * math.pi)))
    return Fault(_with(scene, {index: replace(scene.parts[index], chip=chip)}), ())


def _contamination(scene: Scene, rng: np.random.Generator) -> Fault | None:
    """A fibre or grit, on the ground or across parts."""
    x, y = (float(c) for c in rng.uniform(0.12, 0.88, 2))
    if rng.random() < 0.5:
        mark = Blemish(
            "fibre", x, y, float(rng.uniform(0, math.pi)), float(rng.uniform(0.05, 0.09)), int(rng.integers(2**31))
        )
    else:
        mark = Blemish("crumbs", x, y, 0.0, float(rng.uniform(0.015, 0.025)), int(rng.integers(2**31)))
    return Fault(replace(scene, blemishes=(mark,)), ())


LOGICAL: dict[str, Draw] = {
    "missing": _missing,
    "extra": _extra,
    "swapped": _swapped,
    "misplaced": _misplaced,
    "wrong_size": _wrong_size,
    "wrong_combination": _wrong_combination,
}
STRUCTURAL: dict[str, Draw] = {
    "scratch": _marked("scratch", 0.035, 0.075, ("resistor", "nut")),
    "dent": _marked("dent", 0.020, 0.032, _TOUGH),
    "stain": _marked("stain", 0.022, 0.036, ("resistor",)),
    "break": _break,
    "contamination": _contamination,
}
