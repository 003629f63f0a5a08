"""What stands around a verdict: when an image arrived, and which normal image it looks most like."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tmuad.banks.likeness import Likeness
from tmuad.config import Params
from tmuad.data.arrivals import arrival
from tmuad.encode import PatchFeatures
from tmuad.encode.features import patch_features
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, map_images
from tmuad.parquet import read_parquet, write_parquet
from tmuad.stages.common import unit_images
from tmuad.tables import CONTEXT_SCHEMA
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, root = UnitPaths(unit), Path(params.unit(unit).root)
    task = feature_task(params, unit)
    train = unit_images(unit, params, ["train"])

    def features(images: list[ImageRef]) -> Iterator[PatchFeatures]:
        return (patch_features(record) for record in map_images(task, images, params.data))

    likeness = Likeness.fit([ref.image_id for ref in train], lambda: features(train))
    likeness.save(paths.likeness)
    columns = read_parquet(paths.manifest, ["image_id", "path"]).to_pydict()
    images = unit_images(unit, params)
    rows = []
    for image_id, path, found in zip(columns["image_id"], columns["path"], features(images), strict=True):
        came = arrival(root, path)
        nearest, distance = likeness.nearest(found, ignore=image_id)
        rows.append(
            {
                "image_id": image_id,
                "arrived": came.when,
                "arrived_from": came.source,
                "nearest_by_patch": nearest,
                "patch_distance": round(distance, 6) if nearest else None,
            }
        )
    write_parquet(pa.Table.from_pylist(rows, schema=CONTEXT_SCHEMA), paths.context, CONTEXT_SCHEMA)
