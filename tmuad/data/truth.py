"""The ground truth of an anomalous image: its marked pixels, and its single defects where a saturation is defined."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tmuad.data.images import read_labels, shrink_mask
from tmuad.data.layouts.mvtec_loco import Saturation
from tmuad.evaluate.regions import Defect, Truth


def read_truth(
    root: Path, masks: Sequence[str], shape: tuple[int, int], size: int, config: Mapping[int, Saturation] | None
) -> Truth:
    """What the mask files `masks` below `root` say of an image of `shape` (H, W) pixels, at (size, size).

    With `config` (pixel value -> when the defect counts as found), each value in a file is a defect of its own. How much
    of a defect has to be found is worked out at the size of the file, as a share of its area, and holds at any size.

    Raises:
        ImageError: a file is unreadable, or of another size than its image.
    """
    union = np.zeros(shape, dtype=np.bool_)
    defects: list[Defect] = []
    missing: list[str] = []
    for file in masks:
        labels = read_labels(root / file, shape)
        union |= labels > 0
        if config is None:
            continue
        for value in np.unique(labels[labels > 0]).tolist():
            if value not in config:
                missing.append(
                    f"{file}: the pixel value {value} has no entry in defects_config.json, so sPRO is undefined"
                )
                continue
            channel = labels == value
            share = _saturation(config[value], int(channel.sum()))
            defects.append(Defect(config[value].defect_name, shrink_mask(channel, size), share))
    return Truth(shrink_mask(union, size), () if missing else tuple(defects), "; ".join(missing))


def _saturation(entry: Saturation, area: int) -> float:
    """Share of a defect of `area` pixels from which it counts as found, as MVTec's script rounds it; one pixel at least."""
    threshold = entry.saturation_threshold
    pixels = int(threshold * area) if entry.relative_saturation else min(threshold, area)
    return min(max(pixels, 1), area) / area
