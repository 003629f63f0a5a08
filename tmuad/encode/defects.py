"""What simulated defects look like to the filter bank: the positive examples of the patch bank's detector."""

import numpy as np
from numpy.typing import NDArray

from tmuad.encode.filters import STRIDE, FilterBank, smooth, with_surround
from tmuad.encode.simulate import deface

COPIES = 6  # of each image get defects: what few images lack in number, they make up in defects
CHANGED = 0.05  # a patch counts as defective if a simulated defect changed this share of its pixels


def encode_defects(image: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """`with_surround` (m, 2 D) of the patches that simulated defects on a normal image touch, and where they lie.

    About 200 rows a copy; their places (m,) are indices of the flat grid of the layer `detail`.
    """
    rows, cells = [], []
    for copy in range(COPIES):
        defaced, changed = deface(image, copy)
        bank = FilterBank(defaced)
        share = smooth(changed.astype(np.float32), 0.3 * STRIDE, bank.grid)
        touched = share > CHANGED
        rows.append(with_surround(bank.detail)[touched].astype(np.float16))
        cells.append(np.flatnonzero(touched).astype(np.int32))
    return np.concatenate(rows), np.concatenate(cells)
