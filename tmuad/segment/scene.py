"""Both segmenters on one image, as a record that the per-image cache can keep.

The record lists every candidate of the grounded segmenter: the components, and after each the parts it may fall into.
Which of them are objects is decided later, with the classes in hand (`classes.py`); nothing here depends on other images.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tmuad import color, masks
from tmuad.cache import Record, fingerprint
from tmuad.config import ComponentsParams, RegionsParams, SegmentParams
from tmuad.describe import crops
from tmuad.encode import filters
from tmuad.masks import Runs
from tmuad.segment import components as components_module
from tmuad.segment import foreground, regions
from tmuad.segment.components import DESCRIPTOR, Component, find_components


@dataclass(frozen=True)
class SceneTask:
    """Task of the segment stage; see `tmuad.engine.Task`."""

    params: SegmentParams
    crop_size: int
    name: str = "segment"
    after: None = None

    @property
    def fingerprint(self) -> str:
        here = sys.modules[__name__]
        sources = (here, color, masks, crops, foreground, components_module, regions, filters)
        return fingerprint(self.params, self.crop_size, *sources)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        grounded, opening = self.params.grounded, self.params.open
        assert isinstance(grounded, ComponentsParams) and isinstance(opening, RegionsParams)
        found = find_components(image, grounded)
        opened = regions.RegionSegmenter(opening).segment(image)
        return pack_scene(image, found, [r.runs for r in opened], [r.score for r in opened], self.crop_size)


@dataclass(frozen=True)
class Scene:
    """What the segmenters say of one image."""

    components: list[Component]  # top level, each with its splits; `index` points into `crops`
    crops: NDArray[np.uint8]  # (n, crop_size, crop_size, 3), one per candidate
    candidate_runs: list[Runs]  # mask of each candidate
    regions: list[Runs]  # of the open segmenter
    region_scores: NDArray[np.float32]
    labels: NDArray[np.int32] | None = None  # (n,) class of each candidate where the segmenter knows it
    confidence: NDArray[np.float32] | None = None  # (n,) how sure it is


def pack_scene(
    image: NDArray[np.uint8],
    found: list[Component],
    region_runs: list[Runs],
    region_scores: list[float],
    crop_size: int,
    fill: crops.Colour = crops.FILL,
) -> Record:
    rows: list[tuple[Component, int, int]] = []  # candidate, row of its parent or -1, number of the split it is part of
    for component in found:
        parent = len(rows)
        rows.append((component, -1, 0))
        rows += [(piece, parent, number) for number, split in enumerate(component.splits) for piece in split]
    shape = (image.shape[0], image.shape[1])
    descriptors = [row[0].descriptor for row in rows]
    return {
        **_pack_runs("candidate", [row[0].runs for row in rows]),
        **_pack_runs("region", region_runs),
        "descriptor": np.array(descriptors, dtype=np.float32).reshape(-1, len(DESCRIPTOR)),
        "parent": np.array([row[1] for row in rows], dtype=np.int32),
        "split": np.array([row[2] for row in rows], dtype=np.int32),
        "container": np.array([row[0].container for row in rows], dtype=np.uint8),
        "crops": crops.crops_of(image, (masks.decode(row[0].runs, shape) for row in rows), crop_size, fill),
        "region_score": np.array(region_scores, dtype=np.float32),
    }


def unpack_scene(record: Record) -> Scene:
    """The inverse of `pack_scene`."""
    runs = _unpack_runs("candidate", record)
    candidates = [
        Component(runs[i], record["descriptor"][i], i, (), bool(record["container"][i])) for i in range(len(runs))
    ]
    splits: dict[int, dict[int, list[Component]]] = {}
    for i, (parent, split) in enumerate(zip(record["parent"].tolist(), record["split"].tolist(), strict=True)):
        if parent >= 0:
            splits.setdefault(parent, {}).setdefault(split, []).append(candidates[i])
    top = [
        replace(candidates[i], splits=tuple(tuple(split) for split in splits.get(i, {}).values()))
        for i, parent in enumerate(record["parent"].tolist())
        if parent < 0
    ]
    opened = _unpack_runs("region", record)
    known = (record.get("label"), record.get("confidence"))
    return Scene(top, record["crops"], runs, opened, record["region_score"], *known)


def _pack_runs(name: str, many: list[Runs]) -> Record:
    flat = np.concatenate(many) if many else np.zeros(0)
    return {f"{name}_runs": flat.astype(np.uint32), f"{name}_lengths": np.array([len(r) for r in many], dtype=np.int32)}


def _unpack_runs(name: str, record: Record) -> list[Runs]:
    return masks.cut(record[f"{name}_runs"], record[f"{name}_lengths"])
