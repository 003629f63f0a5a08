"""Segment every image; learn the object classes from the normal images of the training split."""

from dataclasses import replace

import pyarrow as pa

from tmuad.config import ComponentsParams, Params
from tmuad.engine import ImageRef, records_of
from tmuad.parallel import fork_map
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
    paths, grounded = UnitPaths(unit), params.segment.grounded
    images, train = unit_images(unit, params), unit_images(unit, params, ["train"])
    read = records_of(scene_task(params, unit), images, params.data)
    if isinstance(grounded, ComponentsParams):
        looks = fork_map(
            lambda ref: [_without_mask(c) for c in unpack_scene(read(ref)).components], train, read.workers
        )
        classes = learn_classes(list(looks), grounded.max_classes)
    else:
        classes = named_classes(names_of(params, unit))
    classes.save(paths.classes)

    def rows(ref: ImageRef) -> pa.Table:
        found = segment_rows(ref.image_id, unpack_scene(read(ref)), classes, shape_of(params))
        return pa.Table.from_pylist(found, schema=SEGMENTS_SCHEMA)

    tables = [SEGMENTS_SCHEMA.empty_table(), *fork_map(rows, images, read.workers)]
    write_parquet(pa.concat_tables(tables).combine_chunks(), paths.segments, SEGMENTS_SCHEMA)


def _without_mask(component: Component) -> Component:
    """Looks are all that class learning needs; the masks of ten thousand images would not fit in memory."""
    splits = tuple(tuple(_without_mask(piece) for piece in split) for split in component.splits)
    return replace(component, runs=component.runs[:0], splits=splits)
