"""What the three banks say of one image, before any of them is weighed against the others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad.masks import Runs
from tmuad.score.fuse import BANKS, Maps
from tmuad.score.objects import object_map
from tmuad.score.patches import upsample
from tmuad.score.text import Finding, text_map, weigh


@dataclass(frozen=True)
class BankResult:
    """Everything that fusion needs of one image, in compact form."""

    image_id: str
    findings: list[Finding]  # of the text bank, not yet weighed by their reliability
    nearest: str  # image_id of T_sim; empty for an empty bank
    regions: list[Runs]  # what the object bank was asked about: objects, or open segments in a unit without classes
    region_distance: NDArray[np.float32]  # (n,) distance of each to the object bank
    patch_distance: NDArray[np.float32]  # (h, w) distance of each patch to the patch bank

    def maps(self, shape: tuple[int, int], reliability: dict[str, float]) -> Maps:
        """S_T, S_O and S_P as (S, S) float32."""
        return {bank: self.map_of(bank, shape, reliability) for bank in BANKS}

    def map_of(self, bank: str, shape: tuple[int, int], reliability: dict[str, float]) -> NDArray[np.float32]:
        """One of `maps`."""
        if bank == "patches":
            return upsample(self.patch_distance, shape)
        if bank == "objects":
            return object_map(self.regions, self.region_distance, shape)
        return text_map(weigh(self.findings, reliability), shape)
