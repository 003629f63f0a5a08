"""Sheets of pictures side by side, as the paper's qualitative figures: a row per image, a column per view of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tmuad import masks
from tmuad.masks import Runs
from tmuad.parquet import write_artifact
from tmuad.report.overlay import Picture
from tmuad.report.panels import _FAINT, _GAP, _INK, _PAPER, _fit, _font, _png, _tile

SIDE = 176  # px of a picture
_LABEL = 44  # px below a row: what the image is, and a reason
_HEAD = 34
TINTS = np.array(
    [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75], [227, 119, 194],
     [188, 189, 34], [23, 190, 207]], dtype=np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One image: its views in the order of the columns, and two lines of words."""

    pictures: tuple[Picture, ...]
    title: str
    words: str = ""


def write_sheet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """The sheet as a PNG."""
    width = len(columns) * (SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _HEAD + len(rows) * (SIDE + _LABEL + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(columns):
        draw.text((_GAP + i * (SIDE + _GAP), 10), _fit(name, _font(13), SIDE), fill=_FAINT, font=_font(13))
    for number, row in enumerate(rows):
        y = _HEAD + number * (SIDE + _LABEL + _GAP)
        for i, picture in enumerate(row.pictures):
            sheet.paste(_tile(picture, SIDE), (_GAP + i * (SIDE + _GAP), y))
        draw.text((_GAP, y + SIDE + 4), _fit(row.title, _font(13), width - 2 * _GAP), fill=_INK, font=_font(13))
        draw.text((_GAP, y + SIDE + 22), _fit(row.words, _font(13), width - 2 * _GAP), fill=_FAINT, font=_font(13))
    write_artifact(path, _png(sheet))


def tinted(image: Picture, segments: Sequence[Runs]) -> Picture:
    """`image` (S, S, 3) under its segments, each in a colour of its own; the largest lie below."""
    shape = (image.shape[0], image.shape[1])
    result: NDArray[np.float32] = image.astype(np.float32)
    order = sorted(range(len(segments)), key=lambda i: (-masks.area(segments[i]), i))
    for number, index in enumerate(order):
        mask = masks.decode(segments[index], shape)
        result[mask] = 0.45 * image[mask] + 0.55 * TINTS[number % len(TINTS)]
    return np.rint(result).astype(np.uint8)
