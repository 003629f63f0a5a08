"""Encoders: an image becomes feature vectors per patch (Eq. 4) and per segment (Eq. 3).

A backend is one file that implements one protocol or both. Features come out compact (float16, a coarse grid), because
they are cached per image: a re-fit after one new image encodes that image alone.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tmuad.masks import Runs

PatchFeatures = dict[str, NDArray[np.float16]]  # layer -> (h, w, D); h, w may differ between layers
ObjectFeatures = NDArray[np.float32]  # (n, D), one row per segment


class PatchEncoder(Protocol):
    """What gives every patch of an image a vector, in one or more layers."""

    name: str
    layers: tuple[str, ...]

    def fingerprint(self) -> str:
        """Digest of everything but the image that the features depend on."""
        ...

    def encode_patches(self, image: NDArray[np.uint8]) -> PatchFeatures:
        """Features of `image` (S, S, 3) uint8 RGB per layer."""
        ...


class ObjectEncoder(Protocol):
    """What gives every segment of an image a vector."""

    name: str

    def fingerprint(self) -> str:
        """Digest of everything but the image and its segments that the features depend on."""
        ...

    def encode_objects(self, image: NDArray[np.uint8], segments: Sequence[Runs]) -> ObjectFeatures:
        """Features (n, D) of the `segments` (run-length masks) of `image` (S, S, 3); (0, D) for no segments."""
        ...
