"""What the patch bank tells of a set of normal images: which surfaces look most defective to it.

The model is learnt from a part of the images and asked about all. That a scratch is among those it learnt from costs
little: one image in many moves neither centroids nor the detector of simulated defects much. It is the model that the
stage feature_banks learns, so whichever of the two comes first does the work for both.
"""

from collections.abc import Sequence

import numpy as np

from tmuad.audit.remark import Remark
from tmuad.banks.centroids import Matrix
from tmuad.banks.patch_model import PatchModel
from tmuad.banks.patches import PLACED, MapsOf, PatchBank
from tmuad.describe.position import cell
from tmuad.score.sentences import at

SHARE = 0.05  # of the images are shown, the most defective-looking ones first
LEAST, MOST = 3, 20  # images shown, whatever the share
FEWEST = 8  # images; with fewer, what is usual is not known
SIDE = 0.06  # of the image's: half the box around the place


def unusual_maps(model: PatchModel, normals: Sequence[MapsOf], distance_weight: float) -> list[Matrix]:
    """One map (h, w) per image: how unusual its patches are among those of all."""
    bank = PatchBank.placed(model, normals[:PLACED], distance_weight)
    return [bank.unusual(maps, classes) for maps, classes in normals]


def odd_surfaces(image_ids: Sequence[str], maps: Sequence[Matrix]) -> list[Remark]:
    """The images with the most unusual patches, by the maxima of their `maps`: a list to look through, not a finding.

    Faint defects do not stand out of the normal images' own spread, yet they gather at its upper end.
    """
    if len(maps) < FEWEST:
        return []
    worst = np.array([float(m.max()) for m in maps])
    count = min(MOST, max(LEAST, int(np.ceil(SHARE * len(maps)))))
    remarks = []
    for rank, i in enumerate(np.argsort(-worst, kind="stable")[:count].tolist()):
        row, column = np.unravel_index(int(maps[i].argmax()), maps[i].shape)
        y, x = (row + 0.5) / maps[i].shape[0], (column + 0.5) / maps[i].shape[1]
        what = f"Number {rank + 1} of {len(maps)} by its most unusual patch, which is {at(cell(x, y))}."
        box = (max(0.0, x - SIDE), max(0.0, y - SIDE), min(1.0, x + SIDE), min(1.0, y + SIDE))
        remarks.append(Remark("look first", (image_ids[i],), what, float(worst[i]), box))
    return remarks
