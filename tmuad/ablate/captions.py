"""Words for what an image or a segment looks like, without any object class: the embedded counterpart of a caption.

A language model that is shown a whole photograph says what is in it at large: colours, light, how much is going on. This
task says that much from colour and edges, and the same of single segments, in words that a text encoder can be given.
"""

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad import color, masks
from tmuad.cache import Record, fingerprint, packed_text
from tmuad.color import rgb_to_lab
from tmuad.engine import Task
from tmuad.segment.scene import unpack_scene

HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "violet", "magenta")
HUE_ANGLES = np.array([35, 65, 100, 145, 200, 270, 310, 345])  # degrees in the a, b plane
GREYS = ("black", "dark grey", "grey", "light grey", "white")
NAMES = (*HUES, *GREYS)
STEP = 4  # px: colours are sampled
GREY_BELOW = 9.0  # chroma, Lab units: less is no colour
LIGHT = (35.0, 65.0)  # lightness: below dark, above bright
AMOUNTS = ((0.5, "mostly"), (0.2, "much"), (0.05, "some"), (0.01, "a little"))  # share of the pixels, from
BUSY = (1.5, 4.0)  # mean difference of neighbouring pixels, Lab units: below smooth, above busy
SIZES = ((0.1, "huge"), (0.03, "large"), (0.01, "medium"), (0.003, "small"), (0.0, "tiny"))  # share of the image, from


@dataclass(frozen=True)
class CaptionTask:
    """See `tmuad.engine.Task`: the words of the image and of each candidate of the scene, as UTF-8 bytes."""

    after: Task
    name: str = "captions"

    @property
    def fingerprint(self) -> str:
        return fingerprint(sys.modules[__name__], color, masks, self.after.fingerprint)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        lab = rgb_to_lab(image)
        scene = unpack_scene(prior)
        shape = (image.shape[0], image.shape[1])
        lines = [segment_words(lab, masks.decode(runs, shape)) for runs in scene.candidate_runs]
        return {"image": packed_text(image_words(lab)), "segments": packed_text("\n".join(lines))}


def image_words(lab: NDArray[np.float32]) -> str:
    """Colours by their amount, lightness and busyness of a whole image (H, W, 3) in Lab."""
    counts = np.bincount(_colours(lab[::STEP, ::STEP].reshape(-1, 3)), minlength=len(NAMES))
    order = np.argsort(-counts, kind="stable")
    shares = counts[order] / counts.sum()
    parts = []
    for name, share in zip(np.array(NAMES)[order], shares, strict=True):
        amount = next((word for least, word in AMOUNTS if share >= least), None)
        if amount:
            parts.append(f"{amount} {name}")
    steps = np.abs(np.diff(lab[..., 0], axis=1)).mean() + np.abs(np.diff(lab[..., 0], axis=0)).mean()
    parts += [_level(float(lab[..., 0].mean()), LIGHT, ("dark", "lit", "bright"))]
    parts += [_level(float(steps), BUSY, ("smooth", "structured", "busy"))]
    return ", ".join(parts)


def segment_words(lab: NDArray[np.float32], mask: masks.Mask) -> str:
    """Colour, size and form of the segment under `mask` (H, W) of an image (H, W, 3) in Lab; empty for no pixel."""
    if not mask.any():
        return ""
    inside = lab[::STEP, ::STEP][mask[::STEP, ::STEP]]
    colour = NAMES[int(_colours(np.median(inside if len(inside) else lab[mask], axis=0, keepdims=True))[0])]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    size = next(word for least, word in SIZES if mask.mean() >= least)
    long = max(height, width) / min(height, width)
    form = ("upright" if height > width else "lying") if long > 1.6 else "compact"
    return f"{size} {colour} {form} {'solid' if mask.sum() > 0.6 * height * width else 'open'}"


def _level(value: float, bounds: tuple[float, float], words: tuple[str, str, str]) -> str:
    return words[int(np.searchsorted(bounds, value))]


def _colours(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place in NAMES of each colour (n, 3) in Lab."""
    chroma = np.hypot(rows[:, 1], rows[:, 2])
    angle = np.degrees(np.arctan2(rows[:, 2], rows[:, 1])) % 360
    apart = np.abs(angle[:, None] - HUE_ANGLES)
    hue = np.minimum(apart, 360 - apart).argmin(axis=1)
    grey = np.clip(rows[:, 0] // 20, 0, 4).astype(int)
    return np.asarray(np.where(chroma < GREY_BELOW, len(HUES) + grey, hue))
