"""Describe every image: classes by the fine-tuned classifier, counts, positions, sizes, one canonical text (Alg. 1)."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tmuad import masks
from tmuad.config import Params
from tmuad.describe.classifier import settled
from tmuad.describe.description import ImageDescription, SceneObject, describe
from tmuad.describe.placing import load_corrections, place, write_placed
from tmuad.describe.remembered import Answers
from tmuad.describe.slots import load_classifier, said_positions
from tmuad.describe.table import descriptions_table, scene_object
from tmuad.engine import fill
from tmuad.masks import Runs
from tmuad.parquet import read_parquet, write_parquet
from tmuad.segment.slots import scene_task
from tmuad.stages.common import shape_of, unit_images
from tmuad.tables import DESCRIPTIONS_SCHEMA
from tmuad.workspace import CORRECTIONS, UnitPaths


def run(params: Params, unit: str) -> None:
    paths, shape = UnitPaths(unit), shape_of(params)
    classifier = load_classifier(paths.classifier, params.compute)
    images = unit_images(unit, params)
    answers, found = Answers(classifier, scene_task(params, unit), params.data), _objects(paths)
    unknown = answers.lacking((ref, found[ref.image_id].candidates) for ref in images if ref.image_id in found)
    fill(scene_task(params, unit), unknown, params.data)  # cut out what was lost, each image once
    described: list[ImageDescription] = []
    for ref in images:
        objects: list[SceneObject] = []
        if mine := found.get(ref.image_id):
            labels = settled(*answers(ref, mine.candidates), mine.labels, params.describe.confident)
            rows = zip(labels, mine.runs, mine.candidates.tolist(), strict=True)
            objects = [scene_object(label, runs, shape, candidate) for label, runs, candidate in rows]
        described.append(describe(ref.image_id, objects))
    corrections = load_corrections(CORRECTIONS / f"{unit}.yaml", _ids_by_path(paths))
    described, placed = place(described, said_positions(params, unit, images, described), corrections)
    write_placed(placed, paths.positions)
    table = descriptions_table(described, shape, params.describe.fuzz)
    write_parquet(table, paths.descriptions, DESCRIPTIONS_SCHEMA)


@dataclass
class _Found:
    """The segmenter's objects in one image."""

    candidates: NDArray[np.int32]
    labels: list[str]
    runs: list[Runs]


def _objects(paths: UnitPaths) -> dict[str, _Found]:
    """By image; without those that show none."""
    columns = ["image_id", "source", "candidate", "label", "runs"]
    table = read_parquet(paths.segments, columns)
    # A mask, because an expression would import all of pyarrow's data sets.
    table = table.filter(pc.equal(table["source"], "grounded")).combine_chunks()
    flat, ends = (np.asarray(part) for part in (pc.list_flatten(table["runs"]), pc.list_value_length(table["runs"])))
    runs = masks.cut(flat, ends)
    ids = np.asarray(table["image_id"].to_pylist())
    firsts = [i for i in range(len(ids)) if i == 0 or ids[i] != ids[i - 1]]
    candidates, labels = table["candidate"].to_numpy(), table["label"].to_pylist()
    places = [slice(*ends) for ends in zip(firsts, [*firsts, len(ids)][1:], strict=True)]
    return {str(ids[p.start]): _Found(candidates[p], labels[p], runs[p]) for p in places}


def _ids_by_path(paths: UnitPaths) -> dict[str, str]:
    columns = read_parquet(paths.manifest, ["image_id", "path"]).to_pydict()
    return dict(zip(columns["path"], columns["image_id"], strict=True))
