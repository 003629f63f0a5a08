"""The patch model of a unit and what it says of images: learnt once, remembered, and asked by whoever needs it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tmuad.banks.patch_model import Defects, PatchImage, PatchModel
from tmuad.banks.patches import PLACED, MapsOf
from tmuad.banks.remembered import Remembered, learnt_from
from tmuad.config import DataParams, Params, PatchBankParams
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
    sample = learnt_from(train, params.patch_bank)
    model = learn_model(params, remembered, sample, list(patches_of(sample)))

    def maps_of(ref: ImageRef) -> MapsOf:
        (image,) = patches_of([ref])
        return remembered.maps(model, ref, image), image.classes

    return LearntPatches(model, maps_of)


def learn_model(
    params: Params, remembered: Remembered, sample: Sequence[ImageRef], images: Sequence[PatchImage]
) -> PatchModel:
    """The model in force, from the patches `images` of the `sample` of training images."""
    simulation = DefectTask().fingerprint if "filters" in params.patch_bank.encoders else ""

    def learn() -> PatchModel:
        return PatchModel.fit(images, params.patch_bank, simulated(params.patch_bank, sample, params.data))

    return remembered.model(list(zip(sample, images, strict=True)), params.patch_bank, simulation, learn)


def simulated(params: PatchBankParams, sample: Sequence[ImageRef], data: DataParams) -> list[Defects]:
    """Simulated defects on each image of the `sample`; none where no filter bank could describe them."""
    if "filters" not in params.encoders:
        return []
    return [defects_of(record) for record in map_images(DefectTask(), sample, data)]


def placed_on(train: Sequence[ImageRef]) -> list[ImageRef]:
    """The images that tell what is normal where: as many as it takes, drawn by their digests."""
    return sorted(train, key=lambda ref: ref.image_id)[:PLACED]
