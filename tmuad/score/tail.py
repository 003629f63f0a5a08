"""How rare a score is among normal images, between the steps that so few of them allow to count.

Of n held-out images, a conformal p-value (`Calibration.p_value`) is a multiple of 1 / (n + 1), and where it steps is left
to the two or three strangest of them. A gamma distribution takes its tail from all n. It promises nothing, but decides at any
level: for a guard, that is worth more. The promise of the verdict stays with the conformal threshold.
"""

from functools import lru_cache

import numpy as np
from scipy.special import gammaincc

from tmuad.score.fuse import Calibration

FEWEST = 8  # normal scores; fewer do not tell the shape of their distribution


def rarity(score: float, calibration: Calibration) -> float:
    """Share of normal images that score this high: the tail of the gamma distribution most likely to give their scores.

    The conformal p-value where there are too few of them, or where they are no positive numbers that differ.
    """
    normal = calibration.normal_scores
    if len(normal) < FEWEST or min(normal) <= 0 or max(normal) - min(normal) <= 1e-6 * max(normal):
        return calibration.p_value(score)
    shape, scale = _gamma(normal)
    return float(gammaincc(shape, max(score, 0.0) / scale))


@lru_cache(maxsize=8)
def _gamma(normal: tuple[float, ...]) -> tuple[float, float]:
    """Shape and scale."""
    from scipy.stats import gamma  # half a second to import, for one function that few commands need

    shape, _, scale = gamma.fit(np.array(normal), floc=0)
    return float(shape), float(scale)
