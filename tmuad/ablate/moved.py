"""How far a camera may move before positions are said to be wrong (Figure 13).

The good test images are compared once more with every object moved alike, by a few shares of the side to each of the four
sides. A way of saying positions that is too fine calls moved scenes wrong; the grid's words change where a part
crosses the edge of a cell, however small the step. What a language model says of a moved scene is not known without asking,
so its words have no such figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tmuad.banks.text import TextBank
from tmuad.config import TextScoreParams
from tmuad.describe.description import ImageDescription
from tmuad.evaluate.bootstrap import Bootstrap, image_weights
from tmuad.evaluate.cells import Cell, Cells, Key
from tmuad.score.text import find_differences

STEPS = (0, 1, 2, 3, 4, 6)  # per cent of the image's side
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))


def moved_key(step: int) -> Key:
    """The figure's name: the share of good images, moved by `step` per cent, of which no position is said to be wrong."""
    return "good", "moved", str(step)


def moved_cells(
    good: Sequence[str],
    descriptions: Mapping[str, ImageDescription],
    bank: TextBank,
    params: TextScoreParams,
    bootstrap: Bootstrap,
) -> Cells:
    """`moved_key` of every step; nothing without good images, and step 0 alone where a model said where things are."""
    if not good:
        return {}
    weights = image_weights(good, bootstrap)  # (n, draws)
    total = weights.sum(axis=0, dtype=np.float64)
    images = [descriptions[image_id] for image_id in good]
    said = any(c.said for image in images for c in image.classes)
    cells: dict[Key, Cell] = {}
    for step in STEPS[:1] if said and params.position == "words" else STEPS:
        sides = SIDES if step else SIDES[:1]
        right = [
            np.mean([_placed(moved(image, step * x / 100, step * y / 100), bank, params) for x, y in sides])
            for image in images
        ]
        drawn = np.divide(np.array(right) @ weights, total, out=np.full_like(total, np.nan), where=total > 0)
        cells[moved_key(step)] = Cell(float(drawn[0]), drawn)
    return cells


def moved(image: ImageDescription, dx: float, dy: float) -> ImageDescription:
    """`image` with the centres of all objects moved by (dx, dy), in shares of the sides; they stay within the image."""

    def within(value: float) -> float:
        return min(max(value, 0.0), 1.0)

    classes = tuple(
        replace(c, objects=tuple(replace(o, x=within(o.x + dx), y=within(o.y + dy)) for o in c.objects))
        for c in image.classes
    )
    return replace(image, classes=classes)


def _placed(image: ImageDescription, bank: TextBank, params: TextScoreParams) -> bool:
    return all(finding.attribute != "position" for finding in find_differences(image, bank, params)[0])
