"""The patch model of a unit and what it says of images: learnt once, remembered, and asked by whoever needs it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tmuad.banks.patch_model import PatchImage, PatchModel
from tmuad.banks.patches import MapsOf
from tmuad.banks.remembered import Remembered, learnt_from
from tmuad.config import Params
from tmuad.encode.features import DefectTask, FeatureTask, defects_of
from tmuad.encode.model_features import ModelFeatureTask
from tmuad.engine import ImageRef, map_images

PatchesOf = Callable[[list[ImageRef]], Iterable[PatchImage]]


@dataclass(frozen=True)
class LearntPatches:
    model: PatchModel
    maps_of: Callable[[ImageRef], MapsOf]  # the model's maps of an image, and the classes of its patches


def learn_patches(
    params: Params, task: FeatureTask | ModelFeatureTask, train: list[ImageRef], patches_of: PatchesOf
) -> LearntPatches:
    """The whitened model of the training images `train`, with a detector where there is a filter bank to train it on.

    Raises:
        DataError: there is no image.
    """
    remembered = Remembered(task, params.data)
    simulate = DefectTask() if "filters" in params.patch_bank.encoders else None
    sample = learnt_from(train, params.patch_bank)
    images = list(patches_of(sample))

    def learn() -> PatchModel:
        defects = [defects_of(r) for r in map_images(simulate, sample, params.data)] if simulate else []
        return PatchModel.fit(images, params.patch_bank, defects)

    simulation = simulate.fingerprint if simulate else ""
    model = remembered.model(list(zip(sample, images, strict=True)), params.patch_bank, simulation, learn)

    def maps_of(ref: ImageRef) -> MapsOf:
        (image,) = patches_of([ref])
        return remembered.maps(model, ref, image), image.classes

    return LearntPatches(model, maps_of)
