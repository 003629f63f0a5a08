"""Describe every image: classes by the fine-tuned classifier, counts, positions, sizes, one canonical text (Alg. 1)."""

import numpy as np

from tmuad.config import Params
from tmuad.describe.classifier import settled
from tmuad.describe.description import ImageDescription, describe
from tmuad.describe.placing import load_corrections, place, write_placed
from tmuad.describe.slots import load_classifier, said_positions
from tmuad.describe.table import descriptions_table, scene_object
from tmuad.engine import map_images
from tmuad.parquet import read_parquet, write_parquet
from tmuad.segment.slots import scene_task
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import DESCRIPTIONS_SCHEMA
from tmuad.workspace import CORRECTIONS, UnitPaths


def run(params: Params, unit: str) -> None:
    paths, shape = UnitPaths(unit), shape_of(params)
    segments = read_parquet(paths.segments, ["image_id", "source", "candidate", "label", "runs"]).to_pandas()
    grounded = segments[segments["source"] == "grounded"].groupby("image_id", sort=False)
    classifier = load_classifier(paths.classifier, params.compute)
    task = scene_task(params, unit)
    images = unit_images(unit, params)
    described: list[ImageDescription] = []
    for ref, record in zip(images, map_images(task, images, params.data), strict=True):
        if ref.image_id not in grounded.groups:
            described.append(describe(ref.image_id, []))
            continue
        mine = grounded.get_group(ref.image_id)
        said, sure = classifier.classify(record["crops"][mine["candidate"].to_numpy()])
        labels = settled(said, sure, mine["label"].tolist(), params.describe.confident)
        runs = [np.asarray(r, dtype=np.uint32) for r in mine["runs"]]
        rows = zip(labels, runs, mine["candidate"], strict=True)
        objects = [scene_object(label, r, shape, int(candidate)) for label, r, candidate in rows]
        described.append(describe(ref.image_id, objects))
    corrections = load_corrections(CORRECTIONS / f"{unit}.yaml", _ids_by_path(paths))
    described, placed = place(described, said_positions(params, unit, images, described), corrections)
    write_placed(placed, paths.positions)
    table = descriptions_table(described, shape, params.describe.fuzz)
    write_parquet(table, paths.descriptions, DESCRIPTIONS_SCHEMA)


def _ids_by_path(paths: UnitPaths) -> dict[str, str]:
    columns = read_parquet(paths.manifest, ["image_id", "path"]).to_pydict()
    return dict(zip(columns["path"], columns["image_id"], strict=True))
