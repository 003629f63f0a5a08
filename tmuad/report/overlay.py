"""Heat map and contours on a photograph: what `tmuad score` writes and the panels show."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

Picture = NDArray[np.uint8]  # (S, S, 3)

# Dark violet over red to pale yellow: lightness rises evenly, so that strength reads in grey and to colour-blind eyes.
_STOPS = np.array(
    [[66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84], [221, 81, 58], [243, 120, 25], [252, 165, 10],
     [246, 215, 70], [252, 255, 164]], dtype=np.float32,
)  # fmt: skip
_SHADES = 4096  # looked up; a colour is off by less than a fifth of a level
_OPAQUE = 0.72  # the photograph always shines through
CONTOUR = (0, 220, 255)  # cyan: on no stop of the heat map
TRUTH = (70, 235, 70)


def heat_overlay(
    image: Picture,
    anomaly_map: NDArray[np.floating],
    threshold: float,
    low: float = 0.0,
    high: float | None = None,
) -> Picture:
    """`image` (S, S, 3) under the heat of `anomaly_map` (S, S), with a contour around what lies above `threshold`.

    Heat starts at `low`, where nothing is drawn, and is full at `high`; by default the threshold lies half-way. Colour
    and opacity both follow strength. A threshold of infinity draws no contour and scales to the map's own maximum.

    Raises:
        ValueError: the map is not of the image's size, or holds NaN or infinity.
    """
    if anomaly_map.shape != image.shape[:2]:
        raise ValueError(f"a map of {anomaly_map.shape} does not lie on an image of {image.shape[:2]}")
    if not np.isfinite(anomaly_map).all():
        raise ValueError("the map holds NaN or infinity")
    if high is None:
        high = 2 * threshold - low if np.isfinite(threshold) and threshold > low else float(anomaly_map.max())
    span = max(high - low, 1e-9)
    strength = np.clip((anomaly_map.astype(np.float32) - np.float32(low)) / np.float32(span), 0, 1)
    shade = np.rint(strength * _SHADES).astype(np.int32)
    shown, heat = _layers()
    blended = image * shown.take(shade)[..., None]
    blended += heat.take(shade, axis=0)
    result = np.rint(blended, out=blended).astype(np.uint8)
    return outline(result, anomaly_map > threshold, CONTOUR) if np.isfinite(threshold) else result


def outline(image: Picture, mask: NDArray[np.bool_], colour: tuple[int, int, int], width: int = 2) -> Picture:
    """A copy of `image` with a line `width` px wide inside the edge of `mask`, and a dark one outside to set it off."""
    result = image.copy()
    if mask.any():
        result[binary_dilation(mask) & ~mask] = (20, 20, 20)
        result[mask & ~binary_erosion(mask, iterations=width)] = colour
    return result


def heat_palette(levels: int) -> Picture:
    """The colours of the heat map from none to full, (levels, 3)."""
    shade = np.rint(np.linspace(0, 1, levels, dtype=np.float32) * _SHADES).astype(np.int32)
    colours: Picture = np.rint(_palette()[shade]).astype(np.uint8)
    return colours


@cache
def _palette() -> NDArray[np.float32]:
    """Colours from none to full, (_SHADES + 1, 3)."""
    place = np.linspace(0, len(_STOPS) - 1, _SHADES + 1)
    return np.stack([np.interp(place, np.arange(len(_STOPS)), row) for row in _STOPS.T], axis=1).astype(np.float32)


@cache
def _layers() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per shade, how much of the photograph shows through (_SHADES + 1,), and what is laid upon it (_SHADES + 1, 3)."""
    opacity = np.float32(_OPAQUE) * np.sqrt(np.linspace(0, 1, _SHADES + 1, dtype=np.float32))
    return 1 - opacity, _palette() * opacity[:, None]
