"""Figures of a variant, with their intervals: AUROC of images and, where maps are looked at, of pixels."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad.evaluate.bootstrap import Bootstrap, image_weights
from tmuad.evaluate.cells import Cell, Cells, by_kind, trusted
from tmuad.evaluate.groups import Maps, Masks, pixel_figures_of
from tmuad.evaluate.image_metrics import image_figures
from tmuad.score.fuse import Maps as BankMaps
from tmuad.score.fuse import total

KEPT = ("auroc", "auroc_logical", "auroc_structural", "average")


def test_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """The test images in the order in which the stage `evaluate` looks at them."""
    test = manifest[manifest["split"] == "test"]
    return test.sort_values("path", kind="stable").reset_index(drop=True)


def image_cells(test: pd.DataFrame, scores: Mapping[str, float], bootstrap: Bootstrap) -> Cells:
    """Image figures of `scores` (image_id -> score): ("image", "auroc") and the other names of KEPT."""
    weights = image_weights(list(test["image_id"]), bootstrap)
    values = np.array([scores[image_id] for image_id in test["image_id"]], dtype=np.float64)

    def figures(kinds: Sequence[str]) -> dict[str, Cell]:
        chosen = test["kind"].isin(["good", *kinds]).to_numpy()
        anomalous = (test["kind"] != "good").to_numpy()[chosen]
        found = image_figures(values[chosen], anomalous, weights[chosen])
        cells = {name: Cell(float(drawn[0]), drawn) for name, drawn in found.items()}
        return trusted(cells, int(anomalous.sum()), int((~anomalous).sum()))

    return {("image", name): cell for name, cell in by_kind(figures).items() if name in KEPT}


def pixel_cells(test: pd.DataFrame, maps: Maps, masks: Masks, bootstrap: Bootstrap) -> dict[str, Cells]:
    """Pixel figures of every map that `maps` gives of an image, by the map's name; images without masks are left out."""
    weights = image_weights(list(test["image_id"]), bootstrap)
    masked = np.array([kind == "good" or len(m) > 0 for kind, m in zip(test["kind"], test["masks"], strict=True)], bool)
    found = pixel_figures_of(test[masked], weights[masked], maps, masks, bootstrap)
    return {
        name: {("pixel", key): cell for key, cell in figures.cells.items() if key in KEPT}
        for name, figures in found.maps.items()
    }


def subset_map(maps: BankMaps, terms: BankMaps, banks: Sequence[str]) -> NDArray[np.float32]:
    """The map (S, S) of some of the banks: a bank's own where it is alone, else the sum of their `weighted` terms."""
    return maps[banks[0]] if len(banks) == 1 else total(terms, banks)
