"""Descriptions as a table: one row per image and object class, the objects as lists in the row."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tmuad import masks
from tmuad.describe.description import ClassDescription, ImageDescription, SceneObject, describe
from tmuad.describe.position import READING_ORDER, cells
from tmuad.parquet import rows_of
from tmuad.tables import DESCRIPTIONS_SCHEMA


def descriptions_table(many: Iterable[ImageDescription], shape: tuple[int, int], fuzz: float) -> pa.Table:
    """Rows for `many`, in their order; classes in canonical order."""
    rows = []
    for image in many:
        for c in image.classes or (ClassDescription("", ()),):
            rows.append(
                {
                    "image_id": image.image_id,
                    "object_class": c.object_class,
                    "count": c.count,
                    "position": c.position,
                    "size": c.size,
                    "text": c.text if c.objects else "",
                    "image_text": image.text,
                    "cells": sorted(
                        {n for o in c.objects for n in cells(o.x, o.y, fuzz)}, key=READING_ORDER.__getitem__
                    ),
                    "x": [o.x for o in c.objects],
                    "y": [o.y for o in c.objects],
                    "area": [o.area for o in c.objects],
                    "candidates": [o.candidate for o in c.objects],
                    "object_runs": [o.runs for o in c.objects],
                    "runs": masks.union([o.runs for o in c.objects], shape) if c.objects else [],
                }
            )
    return pa.Table.from_pylist(rows, schema=DESCRIPTIONS_SCHEMA)


def read_descriptions(table: pa.Table) -> list[ImageDescription]:
    """The inverse of `descriptions_table`."""
    grouped: dict[str, list[SceneObject]] = {}
    positions: dict[tuple[str, str], str] = {}
    wanted = ["image_id", "object_class", "position", "x", "y", "area", "candidates", "object_runs"]
    for row in rows_of(table.select(wanted)):
        positions[row["image_id"], row["object_class"]] = row["position"]
        objects = grouped.setdefault(row["image_id"], [])
        columns = (row[name] for name in ("x", "y", "area", "candidates", "object_runs"))
        for x, y, area, candidate, runs in zip(*columns, strict=True):
            mask = np.array(runs, dtype=np.uint32)
            objects.append(SceneObject(row["object_class"], x, y, area, mask, candidate))
    return [_as_said(describe(image_id, objects), positions) for image_id, objects in grouped.items()]


def _as_said(image: ImageDescription, positions: dict[tuple[str, str], str]) -> ImageDescription:
    """`image` with the positions of the table: where they are not the grid's, somebody said so."""
    told = [positions[image.image_id, c.object_class] for c in image.classes]
    if all(words == c.position for words, c in zip(told, image.classes, strict=True)):
        return image
    classes = (
        c if words == c.position else replace(c, said=words) for words, c in zip(told, image.classes, strict=True)
    )
    return ImageDescription(image.image_id, tuple(classes))


def scene_object(name: str, runs: masks.Runs, shape: tuple[int, int], candidate: int = -1) -> SceneObject:
    """Place and area of the object `name` under the mask `runs`, which is not empty."""
    total, along, down = masks.moments(runs, shape)
    return SceneObject(
        name, along / total / shape[1], down / total / shape[0], total / (shape[0] * shape[1]), runs, candidate
    )
