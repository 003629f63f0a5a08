"""Descriptions of small scenes, made without an image."""

import numpy as np

from tmuad import masks
from tmuad.describe.description import ImageDescription, SceneObject, describe

SHAPE = (32, 32)


def thing(name: str, x: float, y: float, side: int = 4) -> SceneObject:
    """A square object of `side` px around (x, y)."""
    mask = np.zeros(SHAPE, dtype=np.bool_)
    top, left = round(32 * y - side / 2), round(32 * x - side / 2)
    mask[max(0, top) : top + side, max(0, left) : left + side] = True
    return SceneObject(name, x, y, mask.sum() / mask.size, masks.encode(mask))


def scene(number: int, *objects: SceneObject) -> ImageDescription:
    return describe(f"image-{number}", objects)
