"""Segments as a table: one row per object (grounded) and per region (open)."""

from collections.abc import Sequence
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
    found = []
    for component in scene.components:
        for index, o in classes.resolve(component):
            confidence = 1 / (1 + float(classes.distances(o.descriptor).min()))
            found.append((classes.names[index], confidence, o))
    return found


def segment_rows(image_id: str, scene: Scene, classes: ObjectClasses, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of SEGMENTS_SCHEMA for one image."""
    rows = [
        _row(image_id, "grounded", i, o.index, label, confidence, o.runs, shape)
        for i, (label, confidence, o) in enumerate(resolve_objects(scene, classes))
    ]
    regions = zip(scene.regions, scene.region_scores.tolist(), strict=True)
    rows += [_row(image_id, "open", i, -1, "", score, runs, shape) for i, (runs, score) in enumerate(regions)]
    return rows


def _row(
    image_id: str,
    source: str,
    index: int,
    candidate: int,
    label: str,
    score: float,
    runs: Runs,
    shape: Sequence[int],
) -> dict[str, Any]:
    x0, y0, x1, y1 = masks.box(runs, (shape[0], shape[1]))
    return {
        "image_id": image_id, "source": source, "index": index, "candidate": candidate, "label": label, "score": score,
        "x0": x0, "y0": y0, "x1": x1, "y1": y1, "area": masks.area(runs), "runs": runs.tolist(),
    }  # fmt: skip
