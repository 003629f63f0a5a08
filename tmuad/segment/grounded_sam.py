"""The segment stage's task where a model fills one of its slots: Grounding DINO with SAM, SAM's automatic masks, or both.

The record is that of `scene.py`, with the name and the confidence of every object where Grounding DINO found them.
One SAM image embedding serves the box prompts and the automatic masks.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tmuad import masks
from tmuad.cache import Record, fingerprint
from tmuad.config import ComponentsParams, RegionsParams, SegmentParams
from tmuad.config_models import ComputeParams, GroundedSamParams, SamParams
from tmuad.describe import crops
from tmuad.segment import scene
from tmuad.segment.components import DESCRIPTOR, Component, find_components
from tmuad.segment.grounding_dino import Detections, detector_fingerprint, load_detector
from tmuad.segment.regions import RegionSegmenter
from tmuad.segment.sam import kept, load_sam, sam_fingerprint
from tmuad.segment.scene import SceneTask, pack_scene

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Objects of one image, the surest first."""

    components: list[Component]
    labels: NDArray[np.int32]  # (n,) index into the object names
    confidence: NDArray[np.float32]  # (n,) of the detector, 0..1


@dataclass(frozen=True)
class ModelSceneTask:
    """See `tmuad.engine.BatchTask`."""

    params: SegmentParams
    names: tuple[str, ...]  # objects to look for
    crop_size: int
    fill: crops.Colour  # around the object in its crop
    compute: ComputeParams = field(repr=False)
    name: str = "segment"
    after: None = None

    @property
    def batch(self) -> int:
        return self.compute.batch

    @property
    def fingerprint(self) -> str:
        parts: list[str] = []
        grounded, opened = self.params.grounded, self.params.open
        if isinstance(grounded, GroundedSamParams):
            parts.append(detector_fingerprint(grounded, self.compute))
            parts.append(sam_fingerprint(grounded.segmenter, grounded.segmenter_weights, self.compute))
        if isinstance(opened, SamParams):
            parts.append(sam_fingerprint(opened.model, opened.weights, self.compute))
        if isinstance(grounded, ComponentsParams) or isinstance(opened, RegionsParams):
            parts.append(SceneTask(SegmentParams(), self.crop_size).fingerprint)  # the sources of the embedded half
        here = sys.modules[__name__]
        return fingerprint(self.params, self.names, self.crop_size, self.fill, here, scene, crops, masks, parts)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return self.many([image], [prior])[0]

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        grounded, opened = self.params.grounded, self.params.open
        models = {model for slot in (grounded, opened) if (model := _sam_of(slot))}
        embeddings = {model: load_sam(*model, self.compute).embed(images) for model in models}
        objects: list[Found | list[Component]] = []
        if isinstance(grounded, GroundedSamParams):
            detector = load_detector(grounded, self.compute)
            detected = detector.detect(images, self.names, grounded.box_threshold, grounded.text_threshold)
            sam = load_sam(grounded.segmenter, grounded.segmenter_weights, self.compute)
            chosen = [chosen_boxes(found, grounded) for found in detected]
            if crowded := sum(len(rows) > grounded.max_objects for rows in chosen):
                log.warning("%d images show more than %d objects; the surest are kept", crowded, grounded.max_objects)
            chosen = [rows[: grounded.max_objects] for rows in chosen]
            mine = embeddings[grounded.segmenter, grounded.segmenter_weights]
            for image, embedding, found, rows in zip(images, mine, detected, chosen, strict=True):
                side = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float32)
                masked, _ = sam.boxes(image, embedding, found.boxes[rows] * side)
                objects.append(_objects(masked, found, rows, grounded))
        else:
            objects += [find_components(image, grounded) for image in images]
        records = []
        for i, image in enumerate(images):
            if isinstance(opened, SamParams):
                sam = load_sam(opened.model, opened.weights, self.compute)
                regions = [
                    (r.runs, r.score) for r in sam.automatic(image, embeddings[opened.model, opened.weights][i], opened)
                ]
            else:
                regions = [(r.runs, r.score) for r in RegionSegmenter(opened).segment(image)]
            found_here = objects[i]
            components = found_here.components if isinstance(found_here, Found) else found_here
            record = pack_scene(
                image, components, [r[0] for r in regions], [r[1] for r in regions], self.crop_size, self.fill
            )
            if isinstance(found_here, Found):
                record |= {"label": found_here.labels, "confidence": found_here.confidence}
            records.append(record)
        return records


def chosen_boxes(found: Detections, params: GroundedSamParams) -> list[int]:
    """Rows of the boxes to segment, the surest first, without the weaker of two of one name that overlap."""
    import torch
    from torchvision.ops import batched_nms

    boxes, scores = torch.as_tensor(found.boxes), torch.as_tensor(found.scores)
    rows: list[int] = batched_nms(boxes, scores, torch.as_tensor(found.names), params.nms).tolist()
    return rows


def _objects(masked: NDArray[np.bool_], found: Detections, chosen: list[int], params: GroundedSamParams) -> Found:
    """Objects of the masks (n, S, S) that belong to the boxes `chosen`; empty masks and whole images are dropped."""
    pixels = masked.shape[1] * masked.shape[2]
    usable = kept(masked.sum(axis=(1, 2)).tolist(), pixels, params.min_area, params.max_area)
    looks = np.zeros(len(DESCRIPTOR), dtype=np.float32)  # classes have names: nothing is told from looks
    components = [Component(masks.encode(masked[i]), looks) for i in usable]
    rows = [chosen[i] for i in usable]
    return Found(components, found.names[rows].astype(np.int32), found.scores[rows].astype(np.float32))


def _sam_of(params: object) -> tuple[str, str] | None:
    if isinstance(params, GroundedSamParams):
        return params.segmenter, params.segmenter_weights
    return (params.model, params.weights) if isinstance(params, SamParams) else None
