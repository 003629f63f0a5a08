"""The pictures of a card: the photograph with its regions, the heat map, and the normal images it was compared with."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tmuad import masks
from tmuad.cards.card import Card
from tmuad.report.overlay import Picture, heat_overlay, outline
from tmuad.report.panels import _font

# One colour per reason, told apart by colour-blind eyes as well (Okabe and Ito); the number stands beside it.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
_BADGE = 20  # px


@dataclass(frozen=True)
class CardPictures:
    """JPEG files; None where there is no such image."""

    marked: bytes
    heat: bytes
    nearest_by_text: bytes | None
    nearest_by_patch: bytes | None


def card_pictures(
    card: Card,
    image: Picture,
    fused: NDArray[np.floating],
    nearest_by_text: Picture | None,
    nearest_by_patch: Picture | None,
) -> CardPictures:
    """All pictures of `card`, whose photograph is `image` (S, S, 3) and whose fused map is (S, S)."""
    threshold = np.inf if card.threshold is None else card.threshold
    return CardPictures(
        marked=jpeg(mark_regions(image, card)),
        heat=jpeg(heat_overlay(image, fused, threshold)),
        nearest_by_text=None if nearest_by_text is None else jpeg(nearest_by_text),
        nearest_by_patch=None if nearest_by_patch is None else jpeg(nearest_by_patch),
    )


def mark_regions(image: Picture, card: Card) -> Picture:
    """`image` with an outline around the region of every reason and the reason's number at its corner."""
    shape = (image.shape[0], image.shape[1])
    marked = image
    for number, reason in reversed(list(enumerate(card.reasons, start=1))):  # the strongest is drawn last, on top
        marked = outline(marked, masks.decode(reason.region, shape), colour_of(number), 2)
    canvas = Image.fromarray(marked)
    draw = ImageDraw.Draw(canvas)
    taken: list[tuple[int, int]] = []
    for number, reason in enumerate(card.reasons, start=1):
        x, y = reason.box[0], max(0, reason.box[1] - _BADGE)
        while any(abs(x - a) < _BADGE and abs(y - b) < _BADGE for a, b in taken):
            x += _BADGE
        x = min(x, shape[1] - _BADGE)
        taken.append((x, y))
        draw.rectangle((x, y, x + _BADGE - 2, y + _BADGE - 2), fill=colour_of(number), outline=(20, 20, 20))
        draw.text(
            (x + _BADGE // 2 - 1, y + _BADGE // 2 - 1), str(number), fill=(20, 20, 20), font=_font(13), anchor="mm"
        )
    return np.asarray(canvas)


def colour_of(number: int) -> tuple[int, int, int]:
    """Of the reason `number`, from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def jpeg(picture: Picture, quality: int = 88) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
