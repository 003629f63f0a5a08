"""The object and patch memory banks: K-means of the training split, calibrated on held-out normal images."""

from collections.abc import Iterator

from tmuad.banks.cosine import CosinePatchBank
from tmuad.banks.learn import learn_patches, placed_on
from tmuad.banks.objects import Labelled
from tmuad.banks.patch_model import PatchImage
from tmuad.banks.patches import PatchBank
from tmuad.banks.slots import AnyPatchBank, fit_object_bank
from tmuad.cache import Record
from tmuad.config import Params
from tmuad.describe.description import ImageDescription
from tmuad.describe.table import read_descriptions
from tmuad.encode.features import object_features, patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, records_of
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet
from tmuad.stages.common import unit_images
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, task = UnitPaths(unit), feature_task(params, unit)
    # All images first: worker processes must not be forked once faiss has started its threads.
    read = records_of(task, unit_images(unit, params, ["train", "validation"]), params.data)
    train, held_out = (unit_images(unit, params, [split]) for split in ("train", "validation"))
    descriptions = {d.image_id: d for d in read_descriptions(read_parquet(paths.descriptions))}

    def described(images: list[ImageRef]) -> Iterator[tuple[Record, ImageDescription]]:
        return ((read(ref), descriptions[ref.image_id]) for ref in images)

    def objects_of(images: list[ImageRef], by_class: bool) -> Iterator[Labelled]:
        for record, description in described(images):
            yield object_features(record, description, by_class)

    def patches_of(images: list[ImageRef]) -> Iterator[PatchImage]:
        return (patch_image(record, description, params.data.size) for record, description in described(images))

    patches: AnyPatchBank
    if params.patch_bank.distance == "cosine":
        patches = CosinePatchBank.fit(patches_of(train), params.patch_bank)
    else:
        learnt = learn_patches(params, task, train, patches_of)
        normals, others = (list(fork_map(learnt.maps_of, placed_on(refs), read.workers)) for refs in (train, held_out))
        patches = PatchBank.placed(learnt.model, normals, params.patch_bank.distance_weight).calibrate(others)
    patches.save(paths.patch_bank)

    objects = fit_object_bank(objects_of, train, params.object_bank)
    normal = objects_of(held_out, objects.by_class)
    objects.calibrate(normal, params.object_bank.max_memory).save(paths.object_bank)
