"""Which images teach what is costly to learn: drawn by a lot that anybody can repeat, so that a new one changes little.

An image's digest is its lot: neither order nor other images matter. But every lot is as likely to be drawn as another, so
a model that learns from a third of the images would be learnt again for every third one that comes. Therefore only the
`settled` images are drawn from: those before the last step of growth by a fourth, in the order of their names. Cameras
count or date their files, so what is new is last and waits for the next step, when all is learnt anew: over a unit's
growth that costs a constant factor. Where names say nothing of age, results are as good and only time is lost.
"""

import re
from collections.abc import Sequence

GROWTH = 1.25  # from step to step


def drawn(image_ids: Sequence[str], share: float, least: int, most: int) -> int:
    """How many of `image_ids` (sha256 hex, ascending) take part: those in the lowest `share` of all digests, within bounds."""
    low = sum(int(image_id[:16], 16) < share * 2**64 for image_id in image_ids)
    return min(max(low, least), most)


def settled(names: Sequence[str]) -> list[int]:
    """Positions of the names that may be drawn, ascending: those up to the last step; all of few names.

    Numbers within names count as numbers: "9.png" stands before "10.png".
    """
    ordered = sorted(range(len(names)), key=lambda i: (_natural(names[i]), names[i]))
    return sorted(ordered[: _last_step(len(names))])


def _last_step(count: int) -> int:
    step = 0
    while (following := max(step + 1, int(step * GROWTH))) <= count:
        step = following
    return step


def _natural(name: str) -> list[str | int]:
    """Text and numbers by turns, text first."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
