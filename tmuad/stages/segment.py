"""Segment every image; learn the object classes from the normal images of the training split."""

from dataclasses import replace

import pyarrow as pa

from tmuad.config import ComponentsParams, Params
from tmuad.engine import map_images
from tmuad.parquet import write_parquet
from tmuad.segment.classes import learn_classes
from tmuad.segment.components import Component
from tmuad.segment.scene import unpack_scene
from tmuad.segment.slots import named_classes, names_of, scene_task
from tmuad.segment.table import segment_rows
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import SEGMENTS_SCHEMA
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, task, grounded = UnitPaths(unit), scene_task(params, unit), params.segment.grounded
    train = unit_images(unit, params, ["train"])
    if isinstance(grounded, ComponentsParams):
        looks = [[_without_mask(c) for c in unpack_scene(r).components] for r in map_images(task, train, params.data)]
        classes = learn_classes(looks, grounded.max_classes)
    else:
        classes = named_classes(names_of(params, unit))
    classes.save(paths.classes)
    images = unit_images(unit, params)
    rows = [
        row
        for ref, record in zip(images, map_images(task, images, params.data), strict=True)
        for row in segment_rows(ref.image_id, unpack_scene(record), classes, shape_of(params))
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=SEGMENTS_SCHEMA), paths.segments, SEGMENTS_SCHEMA)


def _without_mask(component: Component) -> Component:
    """Looks are all that class learning needs; the masks of ten thousand images would not fit in memory."""
    splits = tuple(tuple(_without_mask(piece) for piece in split) for split in component.splits)
    return replace(component, runs=component.runs[:0], splits=splits)
