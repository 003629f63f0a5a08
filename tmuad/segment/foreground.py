"""Background against foreground, from one image alone.

What lies along the border of a photograph of parts is background, but for the few parts that reach it. The colours and
fine texture of that border form the background model of this very image, so that a lamp that ages or a camera that drifts
moves the model with it. A pixel is foreground when it is far from every mode of the model.
"""

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad.color import rgb_to_lab

RING = 0.06  # width of the border that is taken for background, as a share of the side
MODES = 4  # colours the background may have
MIN_MODE = 0.1  # a mode with less of the border than this is a part that reaches the border
FLOOR = np.array([2.0, 1.0, 1.0, 0.25], dtype=np.float64)  # smallest standard deviations: L, a, b, log texture
TRIM = 9.0  # squared Mahalanobis distance from which a border pixel is an outlier of its mode
SAMPLE = 3000  # border pixels the modes are found from


def pixel_features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Smoothed Lab and log local contrast at half size: (S, S, 3) uint8 -> (S/2, S/2, 4) float32."""
    half = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.uint16)
    half = (half[0::2, 0::2] + half[1::2, 0::2] + half[0::2, 1::2] + half[1::2, 1::2] + 2) // 4
    lab = rgb_to_lab(half.astype(np.uint8))
    smooth = ndi.gaussian_filter(lab, (0.8, 0.8, 0))
    lightness = lab[..., 0]
    variance = ndi.uniform_filter(lightness**2, 5) - ndi.uniform_filter(lightness, 5) ** 2
    contrast = np.log(np.sqrt(np.maximum(variance, 0)) + 0.5)
    # The window sees an object's edge from outside too; the minimum over a window takes that halo back.
    contrast = ndi.gaussian_filter(ndi.minimum_filter(contrast, 5), 1.5)
    return np.concatenate((smooth, contrast[..., None]), axis=2)


def background_distance(features: NDArray[np.float32], region: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Mahalanobis distance of every pixel (h, w) to the nearest background mode; 0 outside `region`.

    The border is that of `region`, by default of the whole image.
    """
    h, w, channels = features.shape
    width = max(2, round(RING * min(h, w)))
    inside = np.ones((h, w), dtype=np.bool_) if region is None else region
    ring = inside & ~ndi.binary_erosion(inside, iterations=width, border_value=0)
    border = features[ring].astype(np.float64)
    sample = border[:: max(1, len(border) // SAMPLE)]
    assigned = _modes(sample / FLOOR[:channels])
    distance = np.full((h, w), np.inf)
    for mode in range(MODES):
        members = sample[assigned == mode]
        if len(members) < max(MIN_MODE * len(sample), channels + 1):
            continue
        mean, precision = _gaussian(members, FLOOR[:channels])
        delta = features - mean
        distance = np.minimum(distance, np.einsum("hwi,ij,hwj->hw", delta, precision, delta, optimize=True))
    distance = np.sqrt(np.maximum(distance, 0))
    distance[~inside] = 0
    result: NDArray[np.float32] = distance.astype(np.float32)
    return result


def _gaussian(
    members: NDArray[np.float64], floor: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and precision of `members` (N, D) without their outliers: a few pixels of a part must not widen a mode."""
    for _ in range(3):
        mean = members.mean(axis=0)
        precision = np.linalg.inv(np.cov(members.T) + np.diag(floor**2))
        delta = members - mean
        kept = np.einsum("ni,ij,nj->n", delta, precision, delta) < TRIM
        if kept.all() or kept.sum() <= 2 * members.shape[1]:
            break
        members = members[kept]
    return np.asarray(mean), np.asarray(precision)


def _modes(points: NDArray[np.float64], rounds: int = 12) -> NDArray[np.int64]:
    """Cluster index (N,) of `points` (N, D) by K-means; the start is the farthest-point rule, so nothing is random."""
    centres = [np.median(points, axis=0)]
    for _ in range(MODES - 1):
        gap = np.min([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=0)
        # The 95th percentile rather than the farthest point: a lone speck is no mode.
        centres.append(points[np.argsort(gap, kind="stable")[int(0.95 * (len(points) - 1))]])
    centre = np.array(centres)
    assigned = np.full(len(points), -1)
    for _ in range(rounds):
        before, assigned = assigned, ((points[:, None] - centre[None]) ** 2).sum(axis=2).argmin(axis=1)
        if (assigned == before).all():
            break
        for mode in range(MODES):
            if (members := points[assigned == mode]).size:
                centre[mode] = members.mean(axis=0)
    return assigned
