"""Segments as a table: one row per object (grounded) and per region (open)."""

from typing import Any

from tmuad import masks
from tmuad.masks import Runs
from tmuad.segment.classes import ObjectClasses
from tmuad.segment.components import Component
from tmuad.segment.scene import Scene


def resolve_objects(scene: Scene, classes: ObjectClasses) -> list[tuple[str, float, Component]]:
    """(label, confidence, object) of a scene's objects under `classes`; none where no class was learnt."""
    if not classes.names:
        return []
    if scene.labels is not None and scene.confidence is not None:
        known = zip(scene.labels.tolist(), scene.confidence.tolist(), scene.components, strict=True)
        return [(classes.names[label], confidence, o) for label, confidence, o in known]
    return [
        (classes.names[index], 1 / (1 + distance), o)
        for found in classes.resolve(scene.components)
        for index, distance, o in found
    ]


def segment_rows(image_id: str, scene: Scene, classes: ObjectClasses, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of SEGMENTS_SCHEMA for one image."""
    objects = resolve_objects(scene, classes)
    rows = [("grounded", i, o.index, label, confidence) for i, (label, confidence, o) in enumerate(objects)]
    rows += [("open", i, -1, "", score) for i, score in enumerate(scene.region_scores.tolist())]
    runs: list[Runs] = [*(o.runs for _, _, o in objects), *scene.regions]
    boxes, areas = masks.boxes(runs, shape)
    names = ("source", "index", "candidate", "label", "score", "x0", "y0", "x1", "y1", "area", "runs", "image_id")
    cells = zip(rows, boxes.tolist(), areas.tolist(), runs, strict=True)
    return [dict(zip(names, (*row, *box, area, mask, image_id), strict=True)) for row, box, area, mask in cells]
