"""What pixels tell of a set of normal images: near-duplicates, and images with a place unlike all others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.audit.remark import Remark
from tmuad.banks.likeness import GRID, Likeness
from tmuad.cache import Record, fingerprint
from tmuad.describe.position import cell
from tmuad.score.sentences import at

SIDE = 64  # px of the small pictures that are compared
# Root mean square difference, in grey levels, of two exposures of one scene without a change; distinct parts: above 10.
SAME = 4.0
STEADY = 0.15  # of the median difference in the set, which caps SAME where all images are nearly equal
OUTLIER = 6.0  # robust standard deviations from which an image is the odd one out
MIN_SPREAD = 0.05  # of the median: smallest spread that is believed
BLOCK = 256


@dataclass(frozen=True)
class SmallTask:
    """See `tmuad.engine.Task`: a picture small enough to keep that of every image in memory."""

    name: str = "small pictures"
    after: None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint("box", SIDE)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
        return {"small": np.asarray(small)}


def near_duplicates(image_ids: Sequence[str], small: NDArray[np.uint8]) -> list[Remark]:
    """Groups of images that are the same scene; `small` (N, SIDE, SIDE, 3) are their small pictures."""
    n = len(image_ids)
    if n < 2:
        return []
    rows = small.reshape(n, -1).astype(np.float32)
    pairs, sample = [], []
    for start in range(0, n, BLOCK):
        block = rows[start : start + BLOCK]
        squared = (block**2).sum(axis=1)[:, None] - 2 * block @ rows.T + (rows**2).sum(axis=1)
        distance = np.sqrt(np.maximum(squared, 0) / rows.shape[1])
        later = np.arange(n)[None] > np.arange(start, start + len(block))[:, None]
        sample.append(distance[later][:: max(1, n // 500)])
        close_rows, close_columns = np.nonzero(later & (distance <= SAME))
        pairs += [
            (start + i, j, float(distance[i, j]))
            for i, j in zip(close_rows.tolist(), close_columns.tolist(), strict=True)
        ]
    limit = min(SAME, STEADY * float(np.median(np.concatenate(sample)))) if n > 3 else SAME
    close = [(i, j, d) for i, j, d in pairs if d <= limit]
    groups = _components(n, [(i, j) for i, j, _ in close])
    remarks = []
    for group in groups:
        widest = max(d for i, j, d in close if i in group)
        levels = f"{len(group)} images differ by no more than {widest:.1f} grey levels"
        what = f"{levels}: the same part, photographed or saved again."
        remarks.append(
            Remark("near-duplicates", tuple(image_ids[i] for i in sorted(group)), what, len(group) - widest / 100)
        )
    return sorted(remarks, key=lambda remark: (-remark.weight, remark.images))


def odd_places(likeness: Likeness) -> list[Remark]:
    """Images with a place that no other image of the set looks like, compared with how alike the others are there."""
    if len(likeness.image_ids) < 4:
        return []
    distance = likeness.place_distances()  # (N, P)
    centre = np.median(distance, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(distance - centre), axis=0), MIN_SPREAD * centre + 1e-6)
    excess = (distance - centre) / spread
    worst = excess.max(axis=1)
    middle = float(np.median(worst))
    deviation = max(1.4826 * float(np.median(np.abs(worst - middle))), MIN_SPREAD * middle)
    remarks = []
    for i in np.flatnonzero(worst > middle + OUTLIER * deviation):
        place = int(excess[i].argmax())
        row, column = divmod(place, GRID)
        where = at(cell((column + 0.5) / GRID, (row + 0.5) / GRID))
        times = distance[i, place] / centre[place]
        what = (
            f"It looks unlike all others {where}: {times:.1f} times as far from the nearest as normal images are there."
        )
        box = (column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID)
        weight = float((worst[i] - middle) / deviation)
        remarks.append(Remark("odd one out", (likeness.image_ids[i],), what, weight, box))
    return sorted(remarks, key=lambda remark: (-remark.weight, remark.images))


def _components(n: int, pairs: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Groups of two and more that `pairs` connect."""
    group = list(range(n))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, j in pairs:
        group[root(j)] = root(i)
    members: dict[int, set[int]] = {}
    for i in range(n):
        members.setdefault(root(i), set()).add(i)
    return [m for m in members.values() if len(m) > 1]
