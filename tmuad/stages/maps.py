"""Maps and ground truth of a scored unit, as evaluation and report look at them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmuad.config import FuseParams, Params
from tmuad.data.images import image_shape, read_mask
from tmuad.data.layouts.mvtec_loco import saturations
from tmuad.data.truth import read_truth
from tmuad.evaluate.evaluate import FUSED
from tmuad.evaluate.regions import Truth
from tmuad.parquet import read_parquet
from tmuad.score.banks import BankResult
from tmuad.score.fuse import BANKS, Calibration, fuse
from tmuad.score.table import read_results
from tmuad.stages.common import shape_of
from tmuad.workspace import UnitPaths

Maps = Callable[[str], Mapping[str, NDArray[np.float32]]]  # image_id -> "fused", "text", "objects", "patches": (S, S)
Masks = Callable[[str], NDArray[np.bool_]]  # path in the manifest -> ground truth (S, S)


def bank_maps(params: Params, unit: str, calibration: Calibration) -> Maps:
    """The maps of an image, made anew from the compact scores at every call."""
    paths, shape = UnitPaths(unit), shape_of(params)
    results = read_results(read_parquet(paths.bank_scores), read_parquet(paths.bank_findings))
    by_id = {result.image_id: result for result in results}

    def maps(image_id: str) -> Mapping[str, NDArray[np.float32]]:
        return _MapsOf(by_id[image_id], shape, calibration, params.fuse)

    return maps


class _MapsOf(Mapping[str, NDArray[np.float32]]):
    """The maps of one image, each made when it is asked for."""

    def __init__(
        self, result: BankResult, shape: tuple[int, int], calibration: Calibration, fusion: FuseParams
    ) -> None:
        self._result, self._shape, self._calibration, self._fusion = result, shape, calibration, fusion

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name != FUSED:
            return self._result.map_of(name, self._shape, self._calibration.reliability)
        banks = self._result.maps(self._shape, self._calibration.reliability)
        return fuse(banks, self._calibration, self._fusion)

    def __iter__(self) -> Iterator[str]:
        return iter((FUSED, *BANKS))

    def __len__(self) -> int:
        return 1 + len(BANKS)


def truth_masks(params: Params, unit: str) -> Masks:
    """The union of an image's mask files."""
    root = Path(params.unit(unit).root)
    columns = read_parquet(UnitPaths(unit).manifest, ["path", "masks"]).to_pydict()
    files = dict(zip(columns["path"], columns["masks"], strict=True))

    def masks(path: str) -> NDArray[np.bool_]:
        original = image_shape(root / path, max_pixels=params.data.max_pixels)
        return read_mask([root / mask for mask in files[path]], original, params.data.size)

    return masks


def truths(params: Params, unit: str) -> Callable[[str], Truth]:
    """As `truth_masks`, with the single defects of an image where the data set says when each counts as found."""
    root, size = Path(params.unit(unit).root), params.data.size
    columns = read_parquet(UnitPaths(unit).manifest, ["path", "masks"]).to_pydict()
    files = dict(zip(columns["path"], columns["masks"], strict=True))
    config = saturations(root) if params.unit(unit).layout == "mvtec_loco" else None

    def truth(path: str) -> Truth:
        original = image_shape(root / path, max_pixels=params.data.max_pixels)
        return read_truth(root, files[path], original, size, config)

    return truth
