"""From light to a photograph: lens, exposure, sensor noise, tone curve."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tmuad.data.demo.shading import Radiance
from tmuad.data.demo.shapes import Field

Photo = NDArray[np.uint8]  # (S, S, 3)
_LEVELS = 4096
# Linear to display: a soft shoulder keeps highlights from clipping flat, then the usual gamma.
_LINEAR = np.linspace(0, 1.6, _LEVELS, dtype=np.float32)
_CURVE = (255 * np.clip(1.12 * _LINEAR**1.12 / (1 + 0.28 * _LINEAR), 0, 1) ** (1 / 2.2)).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """The settings of one exposure, and the seed of its noise."""

    exposure: float
    warmth: float  # above 0 redder, below 0 bluer
    blur: float  # pixels at a size of 384
    vignette: float  # loss of light in the corners
    grain: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Shot":
        return cls(
            exposure=float(rng.uniform(0.94, 1.06)),
            warmth=float(rng.normal(0, 0.012)),
            blur=float(rng.uniform(0.45, 0.7)),
            vignette=float(rng.uniform(0.14, 0.2)),
            grain=int(rng.integers(2**31)),
        )


def develop(light: Radiance, shot: Shot) -> Field:
    """The noiseless photograph, (S, S, 3), 0..255 before rounding."""
    return _tone(_expose(light, shot))


def photograph(light: Radiance, shot: Shot) -> Photo:
    """The photograph with shot and read noise."""
    exposed = _expose(light, shot)
    noise = np.random.default_rng(shot.grain).standard_normal(exposed.shape, dtype=np.float32)
    noisy = exposed + np.sqrt(np.float32(1.1e-4) * exposed + np.float32(6e-6)) * noise
    return np.rint(_tone(noisy)).astype(np.uint8)


def _expose(light: Radiance, shot: Shot) -> Radiance:
    size = light.shape[0]
    sigma = shot.blur * size / 384
    blurred = ndimage.gaussian_filter(light, (sigma, sigma, 0), truncate=3, mode="nearest")
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    falloff = np.float32(shot.exposure) * (
        1 - np.float32(shot.vignette / 2) * (axis[None, :] ** 2 + axis[:, None] ** 2)
    )
    tint = np.array([1 + shot.warmth, 1, 1 - shot.warmth], dtype=np.float32)
    exposed: Radiance = blurred * falloff[..., None] * tint
    return exposed


def _tone(linear: Radiance) -> Field:
    index = np.clip(linear * np.float32((_LEVELS - 1) / 1.6), 0, _LEVELS - 1).astype(np.int32)
    shown: Field = _CURVE[index]
    return shown
