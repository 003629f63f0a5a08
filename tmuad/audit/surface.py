"""What the patch bank tells of a set of normal images: surfaces that look defective to it.

The bank is asked about the images that it was learnt from. That a scratch is among them costs it little: one image in
many moves neither centroids nor the detector of simulated defects much, and each image is held against how high the
others go. It is the model that the stage feature_banks learns, so whichever of the two comes first does the work for both.
"""

from collections.abc import Sequence

import numpy as np

from tmuad.audit.remark import Remark
from tmuad.banks.centroids import Matrix
from tmuad.banks.patch_model import PatchModel
from tmuad.banks.patches import PLACED, MapsOf, PatchBank
from tmuad.describe.position import cell
from tmuad.score.sentences import at

OUTLIER = 3.0  # robust standard deviations of the images' maxima from which an image is the odd one out
FEWEST = 8  # images; with fewer, what is usual is not known
SIDE = 0.06  # of the image's: half the box around the place


def unusual_maps(model: PatchModel, normals: Sequence[MapsOf], distance_weight: float) -> list[Matrix]:
    """One map (h, w) per image: how unusual its patches are among those of all."""
    bank = PatchBank.placed(model, normals[:PLACED], distance_weight)
    return [bank.unusual(maps, classes) for maps, classes in normals]


def odd_surfaces(image_ids: Sequence[str], maps: Sequence[Matrix]) -> list[Remark]:
    """Images whose most unusual patch is more so than that of the others, by far."""
    if len(maps) < FEWEST:
        return []
    worst = np.array([float(m.max()) for m in maps])
    middle = float(np.median(worst))
    # From above alone: below the middle lie the images in which nothing at all stands out.
    deviation = max(1.4826 * float(np.median(np.abs(worst - middle))), 1e-6)
    remarks = []
    for i in np.flatnonzero(worst > middle + OUTLIER * deviation).tolist():
        row, column = np.unravel_index(int(maps[i].argmax()), maps[i].shape)
        y, x = (row + 0.5) / maps[i].shape[0], (column + 0.5) / maps[i].shape[1]
        deviations = (worst[i] - middle) / deviation
        what = (
            f"Its surface looks defective {at(cell(x, y))}: the most unusual patch lies {deviations:.1f} deviations above "
            "that of the median image."
        )
        box = (max(0.0, x - SIDE), max(0.0, y - SIDE), min(1.0, x + SIDE), min(1.0, y + SIDE))
        remarks.append(Remark("odd one out", (image_ids[i],), what, float(deviations), box))
    return sorted(remarks, key=lambda remark: (-remark.weight, remark.images))
