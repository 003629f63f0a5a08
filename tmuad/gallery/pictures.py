"""Picture files of the gallery: photograph and thumbnail as JPEG, anomaly map and ground truth as transparent PNG."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from tmuad.cache import Record, fingerprint
from tmuad.report.overlay import CONTOUR, TRUTH, heat_palette

THUMB = 160  # px
QUALITY = {"image": 86, "thumb": 80}
LEVELS = 31  # of heat; with so few a PNG stays small, and no eye tells more apart
OUTLINE = 3  # px


@dataclass(frozen=True)
class PictureTask:
    """Photograph and thumbnail of an image as JPEG bytes; see `tmuad.engine.Task`."""

    name: str = "gallery pictures"
    after: None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(THUMB, sorted(QUALITY.items()))

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        photo = Image.fromarray(image)
        thumb = photo.resize((THUMB, THUMB), Image.Resampling.LANCZOS)
        return {"image": _jpeg(photo, QUALITY["image"]), "thumb": _jpeg(thumb, QUALITY["thumb"])}


def map_png(fused: NDArray[np.floating], threshold: float) -> bytes:
    """The map (S, S) as heat to lay over the photograph: clear where nothing is, half-way at the threshold, outlined above.

    A threshold of infinity scales to the map's own maximum and outlines nothing.
    """
    finite = bool(np.isfinite(threshold)) and threshold > 0
    high = 2 * threshold if finite else max(float(fused.max()), 1e-9)
    levels = np.rint(np.clip(fused / high, 0, 1) * LEVELS).astype(np.uint8)
    if finite:
        above = fused > threshold
        levels[above & ~binary_erosion(above, iterations=2)] = LEVELS + 1
    heat = heat_palette(LEVELS + 1)  # (LEVELS + 1, 3)
    alpha = [round(255 * float((level / LEVELS) ** 0.8)) for level in range(LEVELS + 1)]
    return _png(levels, [*heat.tolist(), list(CONTOUR)], [*alpha, 255])


def truth_png(mask: NDArray[np.bool_]) -> bytes:
    """The outline of a ground-truth mask (S, S), clear inside and outside."""
    line = mask & ~binary_erosion(mask, iterations=OUTLINE, border_value=0)
    return _png(line.astype(np.uint8), [[0, 0, 0], list(TRUTH)], [0, 255])


def _jpeg(picture: Image.Image, quality: int) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def _png(indices: NDArray[np.uint8], palette: list[list[int]], alpha: list[int]) -> bytes:
    picture = Image.fromarray(indices)
    picture.putpalette([value for colour in palette for value in colour])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes(alpha), optimize=True)
    return stream.getvalue()
