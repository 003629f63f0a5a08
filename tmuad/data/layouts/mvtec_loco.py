"""MVTec LOCO AD: train/good, validation/good, test/{good,logical_anomalies,structural_anomalies}.

Each anomalous image has a folder ground_truth/<kind>/<stem>/ with one mask file for each defect in it. The value of a
mask's pixels leads to the defect's name, and to how much of it has to be found, in defects_config.json.
"""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tmuad.data.layouts.entries import Kind, Listing, Problem
from tmuad.data.layouts.splits import read_category
from tmuad.errors import DataError

CONFIG = "defects_config.json"
FAULTS = "test_faults.csv"  # the demo says in it which fault each test image shows
KINDS: dict[str, Kind] = {"logical_anomalies": "logical", "structural_anomalies": "structural"}


class Saturation(BaseModel):
    """When a defect counts as found: the area at which the saturated per-region overlap (sPRO) is 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    defect_name: str = Field(min_length=1)
    pixel_value: int = Field(ge=1, le=255)  # of this defect in the mask files
    saturation_threshold: float = Field(gt=0)  # pixels, or a share of the defect's area
    relative_saturation: bool  # whether it is a share


def read(root: Path) -> Listing:
    """The category in `root`.

    Raises:
        DataError: no training image, a defects_config.json that is not as it should be; see also `read_category`.
    """
    listing = read_category(root, "mvtec_loco", KINDS.get, _owner, extra=(CONFIG, FAULTS))
    if saturation_config(root) is not None:
        return listing
    problem = Problem(CONFIG, "missing", "a defect counts as found when all of its area is")
    return replace(listing, problems=tuple(sorted((*listing.problems, problem))))


def saturation_config(root: Path) -> list[Saturation] | None:
    """The entries of defects_config.json, or None where the file is missing.

    Raises:
        DataError: the file is not JSON, a key is missing, unknown or out of range, or a pixel value stands twice.
    """
    path = root / CONFIG
    if not path.exists():
        return None
    try:
        entries = TypeAdapter(list[Saturation]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # a ValidationError and a JSONDecodeError are ValueErrors
        raise DataError(f"{path}: {_explain(error)}; copy the file from the data set again") from None
    values = [entry.pixel_value for entry in entries]
    if len(set(values)) < len(values):
        twice = sorted({value for value in values if values.count(value) > 1})
        raise DataError(f"{path}: the pixel value {twice[0]} stands for two defects; give each its own")
    return entries


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"not readable as JSON ({error})"
    details = error.errors()[0]
    place = ".".join(str(part) for part in details["loc"])
    return f"entry {place}: {details['msg']}" if place else details["msg"]


def _owner(mask: PurePosixPath) -> tuple[str, str] | None:
    match mask.parts:
        case "ground_truth", kind, stem, _:
            return kind, stem
        case _:
            return None
