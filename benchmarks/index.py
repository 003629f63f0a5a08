"""Flat, product-quantised and inverted-list memory banks: recall, image AUROC, bytes and time, over a sweep of K (Fig. 18).

    python benchmarks/index.py [--unit U] [--clusters 50 100 200 400 1000 2000]

The unit (by default the first of params.yaml) must be fitted up to its text bank and scored; features come from the cache.
For each K (of the patch bank, per layer; the object bank takes ten times as many per class, as in the paper) and each kind
of index both image banks are fitted anew and every test image is scored, fused and compared with the truth.

recall: of the patches of the test images, how many are given the same centroid as by the flat bank; within: how much farther
the centroid is that they are given, on average. bytes: centroids of both banks as saved. us/patch: search alone, one thread.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from tmuad.banks.centroids import nearest
from tmuad.banks.index import array_of
from tmuad.banks.objects import Labelled, ObjectBank
from tmuad.banks.patch_model import PatchImage, PatchModel
from tmuad.banks.patches import MapsOf, PatchBank
from tmuad.banks.remembered import learnt_from
from tmuad.banks.text import TextBank
from tmuad.config import Params, load_params
from tmuad.describe.table import read_descriptions
from tmuad.encode.features import DefectTask, defects_of, object_features, patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import map_images
from tmuad.parquet import read_parquet
from tmuad.score.judge import calibrate, judge
from tmuad.score.score import score_image
from tmuad.score.table import open_regions
from tmuad.stages.common import shape_of, unit_images
from tmuad.workspace import UnitPaths

KINDS = ("flat", "pq", "ivfpq")


class Unit:
    """What does not change from bank to bank."""

    def __init__(self, unit: str, params: Params) -> None:
        self.unit, self.params, paths = unit, params, UnitPaths(unit)
        self.images = {split: unit_images(unit, params, [split]) for split in ("train", "validation", "test")}
        self.descriptions = {d.image_id: d for d in read_descriptions(read_parquet(paths.descriptions))}
        self.text = TextBank(read_descriptions(read_parquet(paths.text_entries)), shape_of(params))
        self.regions = open_regions(read_parquet(paths.segments, ["image_id", "source", "runs"]))
        every = [ref for images in self.images.values() for ref in images]
        records = map_images(feature_task(params, unit), every, params.data)
        self.records = {ref.image_id: record for ref, record in zip(every, records, strict=True)}
        rows = read_parquet(paths.manifest, ["image_id", "kind"]).to_pylist()
        self.kind = {row["image_id"]: row["kind"] for row in rows}
        sample = learnt_from(self.images["train"], params.patch_bank)
        self.sample = [self.patches(ref.image_id) for ref in sample]
        defects = [defects_of(record) for record in map_images(DefectTask(), sample, params.data)]
        self.detecting = PatchModel.fit(self.sample, params.patch_bank, defects)  # the detector depends on no centroid

    def patches(self, image_id: str) -> PatchImage:
        return patch_image(self.records[image_id], self.descriptions[image_id], self.params.data.size)

    def objects(self, split: str, by_class: bool) -> Iterator[Labelled]:
        for ref in self.images[split]:
            record = self.records[ref.image_id]
            yield object_features(record, self.descriptions[ref.image_id], by_class)

    def banks(self, clusters: int, kind: str) -> tuple[ObjectBank, PatchBank]:
        patch = self.params.patch_bank.model_copy(update={"clusters": clusters, "index": kind})
        objects = self.params.object_bank.model_copy(update={"clusters": 10 * clusters, "index": kind})
        model = replace(self.detecting, layers=PatchModel.fit(self.sample, patch).layers)
        patch_bank = PatchBank.placed(model, self.maps(model, "train"), patch.distance_weight)
        patch_bank = patch_bank.calibrate(self.maps(model, "validation"))
        by_class = bool(self.text.classes)
        object_bank = ObjectBank.fit(self.objects("train", by_class), objects)
        return object_bank.calibrate(self.objects("validation", by_class)), patch_bank

    def maps(self, model: PatchModel, split: str) -> list[MapsOf]:
        images = [self.patches(ref.image_id) for ref in self.images[split]]
        return [(model(image), image.classes) for image in images]

    def auroc(self, object_bank: ObjectBank, patch_bank: PatchBank) -> dict[str, float]:
        shape = shape_of(self.params)
        results = {
            ref.image_id: score_image(
                self.descriptions[ref.image_id], self.regions.get(ref.image_id, []), self.records[ref.image_id],
                self.text, object_bank, patch_bank.distances(self.patches(ref.image_id)), self.params,
            )
            for split in ("validation", "test") for ref in self.images[split]
        }  # fmt: skip
        held_out = [results[ref.image_id] for ref in self.images["validation"]]
        calibration = calibrate(held_out, shape, self.params.fuse, self.params.decide, object_bank.by_class)
        scores = {
            ref.image_id: judge(
                results[ref.image_id], self.descriptions[ref.image_id], shape, calibration, self.params.fuse
            ).score
            for ref in self.images["test"]
        }
        found = {}
        for wanted in ("logical", "structural"):
            part = [i for i in scores if self.kind[i] in ("good", wanted)]
            found[wanted] = 100 * roc_auc_score([self.kind[i] == wanted for i in part], [scores[i] for i in part])
        return found


def sizes(object_bank: ObjectBank, patch_bank: PatchBank) -> int:
    """Bytes of what `index` changes; portraits stay as they are."""
    parts = [group.centroids for group in object_bank.groups.values()]
    parts += [layer.centroids for layer in patch_bank.model.layers.values()]
    return sum(array_of(part).nbytes for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit")
    parser.add_argument("--clusters", type=int, nargs="*", default=[50, 100, 400, 1600])
    options = parser.parse_args()
    params = load_params(Path("params.yaml"))
    unit = Unit(options.unit or next(iter(params.units)), params)
    import faiss

    faiss.omp_set_num_threads(1)
    queries = [unit.patches(ref.image_id) for ref in unit.images["test"][:10]]
    print(
        f"{unit.unit}: {len(unit.images['test'])} test images, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(
        f"{'K':>5} {'index':6} {'logical':>8} {'struct.':>8} {'mean':>7} {'recall':>7} {'within':>7} {'bytes':>9} "
        f"{'us/patch':>9}"
    )
    for clusters in options.clusters:
        flat: PatchBank | None = None
        for kind in KINDS:
            object_bank, patch_bank = unit.banks(clusters, kind)
            flat = flat or patch_bank
            recall, farther, seconds, count = [], [], 0.0, 0
            for name, layer in patch_bank.model.layers.items():
                exact = flat.model.layers[name].centroids
                for image in queries:
                    rows = layer.whitening(image.features[name].reshape(-1, image.features[name].shape[-1]))
                    start = time.thread_time()
                    _, number = nearest(rows, layer.centroids)
                    seconds, count = seconds + time.thread_time() - start, count + len(rows)
                    distance, best = nearest(rows, exact)
                    recall.append(np.mean(number == best))
                    farther.append(np.mean(1 - (rows * exact[number]).sum(axis=1)) / max(distance.mean(), 1e-9) - 1)
            auroc = unit.auroc(object_bank, patch_bank)
            both = (auroc["logical"] + auroc["structural"]) / 2
            print(
                f"{clusters:5} {kind:6} {auroc['logical']:8.1f} {auroc['structural']:8.1f} {both:7.1f} {np.mean(recall):7.1%} "
                f"{np.mean(farther):+7.1%} {sizes(object_bank, patch_bank):9,} {1e6 * seconds / count:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
