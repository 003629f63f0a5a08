"""MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png. Every anomaly is structural.

A validation/good is read where there is one, and so is a mask without the `_mask` in its name: several data sets in
this layout have them.
"""

from pathlib import Path, PurePosixPath

from tmuad.data.layouts.entries import Listing
from tmuad.data.layouts.splits import read_category


def read(root: Path) -> Listing:
    """The category in `root`. Raises DataError; see `read_category`."""
    return read_category(root, "mvtec_ad", lambda defect: "structural", _owner)


def _owner(mask: PurePosixPath) -> tuple[str, str] | None:
    match mask.parts:
        case "ground_truth", defect, _:
            return defect, mask.stem.removesuffix("_mask")
        case _:
            return None
