"""Small images and settings for the tests of the models' adapters."""

import numpy as np
from drawing import BLUE, RED, YELLOW, Photo, bar, board, disc, photographed

from tmuad.config_models import ComputeParams

CPU = ComputeParams(device="cpu", batch=8)
ONE = ComputeParams(device="cpu", batch=1)


def photos(number: int, side: int = 64) -> list[Photo]:
    """Photographs of two or three parts each, all different."""
    found = []
    for i in range(number):
        rng = np.random.default_rng(i)
        image = board(side)
        disc(image, *(side * rng.uniform(0.2, 0.4, 2)), side * 0.14, RED)
        bar(image, *(side * rng.uniform(0.6, 0.8, 2)), side * 0.3, side * 0.12, BLUE, degrees=float(rng.uniform(0, 90)))
        if i % 2:
            disc(image, side * 0.75, side * 0.25, side * 0.08, YELLOW)
        found.append(photographed(image, seed=i))
    return found
