"""Simple photographs of parts, drawn with numpy: enough to know what a segmenter should find."""

import numpy as np
from numpy.typing import NDArray

Photo = NDArray[np.uint8]  # (S, S, 3)
Colour = tuple[int, int, int]

GREY: Colour = (110, 116, 120)
RED: Colour = (190, 50, 40)
BLUE: Colour = (40, 60, 170)
YELLOW: Colour = (220, 190, 40)
STEEL: Colour = (205, 208, 212)


def board(size: int = 448, colour: Colour = GREY) -> Photo:
    """An empty background."""
    return np.full((size, size, 3), colour, dtype=np.uint8)


def disc(image: Photo, x: float, y: float, radius: float, colour: Colour, hole: float = 0.0) -> Photo:
    """Draws a disc, or a ring with a hole of the given radius, into `image`; returns it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    distance = np.hypot(columns - x, rows - y)
    image[(distance < radius) & (distance >= hole)] = colour
    return image


def bar(image: Photo, x: float, y: float, width: float, height: float, colour: Colour, degrees: float = 0.0) -> Photo:
    """Draws a rectangle around the centre (x, y) into `image`; returns it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    turn = np.deg2rad(degrees)
    along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    image[(abs(along) < width / 2) & (abs(across) < height / 2)] = colour
    return image


def photographed(image: Photo, seed: int = 0, noise: float = 3.0, vignette: float = 0.0, light: float = 1.0) -> Photo:
    """As a camera sees it: brightness, fall-off towards the corners (a share), sensor noise (grey levels)."""
    size = image.shape[0]
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    gain = light * (1 - vignette * (rows**2 + columns**2) / 0.5)
    values = image * gain[..., None] + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def woven(image: Photo, amplitude: float, period: float = 9.0) -> Photo:
    """`image` with a fine woven pattern over all of it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    wave = np.sin(2 * np.pi * rows / period) * np.sin(2 * np.pi * columns / period)
    return np.clip(image + amplitude * wave[..., None], 0, 255).astype(np.uint8)
