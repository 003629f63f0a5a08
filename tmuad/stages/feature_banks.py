"""The object and patch memory banks: K-means of the training split, calibrated on held-out normal images."""

from tmuad.banks.objects import ObjectBank
from tmuad.banks.patches import PatchBank
from tmuad.config import Params
from tmuad.encode.features import FeatureTask, object_features, patch_features
from tmuad.engine import map_images
from tmuad.stages.common import unit_images
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, task = UnitPaths(unit), FeatureTask.of(params)
    for _ in map_images(task, unit_images(unit, params, ["train", "validation"]), params.data):
        pass  # all images first: worker processes must not be forked once faiss has started its threads
    train, held_out = (unit_images(unit, params, [split]) for split in ("train", "validation"))
    patches = PatchBank.fit((patch_features(r) for r in map_images(task, train, params.data)), params.patch_bank)
    patches.calibrate(patch_features(r) for r in map_images(task, held_out, params.data)).save(paths.patch_bank)
    objects = ObjectBank.fit((object_features(r) for r in map_images(task, train, params.data)), params.object_bank)
    objects.calibrate(object_features(r) for r in map_images(task, held_out, params.data)).save(paths.object_bank)
