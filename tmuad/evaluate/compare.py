"""Is a difference between two runs more than noise? A paired test on the bootstrap replicates of both.

Replicates of two runs on the same test images are resampled alike (see `bootstrap`), so their differences vary only by
what the runs disagree on. The p-value is two-sided: how often resampling alone turns the sign of the difference round.
Many figures are compared at once, and one in twenty of those that are equal will look different.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.evaluate.bootstrap import LEVEL
from tmuad.evaluate.cells import INTERVAL_DIGITS, Cells, Key

AGAINST = (("image", "auroc"), ("image", "auroc_logical"), ("image", "auroc_structural"), ("pixel", "auroc"))


@dataclass(frozen=True)
class Difference:
    """How much a figure changed from one run to another, `after` less `before`."""

    metric: str
    difference: float
    low: float  # of the 95 % interval of the difference
    high: float
    p: float

    @property
    def within_noise(self) -> bool:
        return bool(self.p > 1 - LEVEL)


def paired_difference(
    metric: str, before: float, after: float, replicates_before: NDArray[Any], replicates_after: NDArray[Any]
) -> Difference | None:
    """The difference of one figure, or None where either run has none or too few resamples define it.

    Args:
        replicates_before: (1 + B,) as in `Cell`; the same resamples of the same images as `replicates_after`.
    """
    coarse = replicates_after.astype(np.float64) - replicates_before
    drawn = coarse[1:]
    if not np.isfinite(after - before) or drawn.size == 0 or np.isnan(drawn).mean() > 0.5:
        return None
    drawn = drawn[~np.isnan(drawn)] + (after - before - coarse[0])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Counting the figure itself keeps p above zero: B resamples cannot show less than 1 / (B + 1).
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (1 + int(tail)) / (1 + drawn.size))
    return Difference(metric, float(after - before), float(low), float(high), p)


def against(cells: Cells, banks: Sequence[str]) -> list[dict[str, Any]]:
    """Each bank, alone or in a pair, against all of them fused, as entries of metrics.json."""
    entries = []
    for bank in banks:
        for key in AGAINST:
            mine: Key = ("banks", bank, *key)
            if mine in cells and key in cells:
                fused, alone = cells[key], cells[mine]
                name = ".".join(mine)
                found = paired_difference(name, fused.value, alone.value, fused.replicates, alone.replicates)
                if found is not None:
                    rounded = {
                        k: round(v, INTERVAL_DIGITS) if isinstance(v, float) else v for k, v in asdict(found).items()
                    }
                    entries.append(rounded | {"within_noise": found.within_noise})
    return entries
