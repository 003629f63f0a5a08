"""What stands around a verdict: when an image arrived, and which normal image it looks most like."""

from pathlib import Path

import pyarrow as pa

from tmuad.banks.centroids import Matrix
from tmuad.banks.likeness import SAMPLE, Likeness, Projection
from tmuad.config import Params
from tmuad.data.arrivals import Arrival, arrival
from tmuad.encode.features import patch_features
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, records_of
from tmuad.parallel import fork_map
from tmuad.parquet import write_parquet
from tmuad.stages.common import unit_images
from tmuad.tables import CONTEXT_SCHEMA
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, root = UnitPaths(unit), Path(params.unit(unit).root)
    images, train = unit_images(unit, params), unit_images(unit, params, ["train"])
    read = records_of(feature_task(params, unit), images, params.data)
    projection = Projection.fit(patch_features(read(ref)) for ref in train[:SAMPLE])

    def look(ref: ImageRef) -> tuple[Matrix, Arrival]:
        return projection(patch_features(read(ref))), arrival(root, ref.path.relative_to(root).as_posix())

    looked = list(fork_map(look, images, read.workers))
    signatures = {ref.image_id: signature for ref, (signature, _) in zip(images, looked, strict=True)}
    likeness = Likeness.of(projection, [ref.image_id for ref in train], [signatures[ref.image_id] for ref in train])
    likeness.save(paths.likeness)
    nearest = fork_map(
        lambda ref: likeness.nearest_to(signatures[ref.image_id], ignore=ref.image_id), images, params.data.workers
    )
    rows = [
        {
            "image_id": ref.image_id,
            "arrived": came.when,
            "arrived_from": came.source,
            "nearest_by_patch": normal,
            "patch_distance": round(distance, 6) if normal else None,
        }
        for ref, (_, came), (normal, distance) in zip(images, looked, nearest, strict=True)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=CONTEXT_SCHEMA), paths.context, CONTEXT_SCHEMA)
