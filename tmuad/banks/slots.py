"""Which image banks a unit has: with whitened distances and a detector (embedded), or cosines as printed (paper)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tmuad.banks.centroids import Matrix
from tmuad.banks.cosine import CosineObjectBank, CosinePatchBank, is_cosine
from tmuad.banks.objects import Labelled, ObjectBank
from tmuad.banks.patch_model import PatchImage
from tmuad.banks.patches import PatchBank
from tmuad.banks.remembered import Remembered
from tmuad.config import ObjectBankParams
from tmuad.encode.filters import object_channels
from tmuad.engine import ImageRef

AnyObjectBank = ObjectBank | CosineObjectBank
AnyPatchBank = PatchBank | CosinePatchBank


def patch_map(bank: AnyPatchBank, remembered: Remembered) -> Callable[[ImageRef, PatchImage], Matrix]:
    """How unusual each patch (h, w) of an image is to `bank`, from the cache as far as it goes."""
    if isinstance(bank, CosinePatchBank):
        return lambda ref, image: bank.distances(image)
    return lambda ref, image: bank.unusual(remembered.maps(bank.model, ref, image), image.classes)


def fit_object_bank(
    objects_of: Callable[[list[ImageRef], bool], Iterator[Labelled]], train: list[ImageRef], params: ObjectBankParams
) -> AnyObjectBank:
    """From `objects_of(images, by_class)`: the objects of the classes, or the open segments."""
    if params.distance == "cosine":
        if params.segments == "named" and (named := CosineObjectBank.fit(objects_of(train, True), params)).groups:
            return named
        return CosineObjectBank.fit(objects_of(train, False), params)
    if params.channels == "all":
        return _fit_objects(objects_of, train, params)
    kept = object_channels(params.channels)
    fewer = params.model_copy(update={"dimensions": min(params.dimensions, int(kept.sum()))})

    def seen(images: list[ImageRef], by_class: bool) -> Iterator[Labelled]:
        for many in objects_of(images, by_class):
            yield Labelled(many.labels, np.where(kept, many.features, np.float32(0)))  # a portrait shows texture

    bank = _fit_objects(seen, train, fewer)
    # An axis may still point a little into a channel that was hidden; what is asked later shows all channels.
    return ObjectBank(
        {n: replace(g, axes=np.where(kept[:, None], g.axes, np.float32(0))) for n, g in bank.groups.items()}
    )


def _fit_objects(
    objects_of: Callable[[list[ImageRef], bool], Iterator[Labelled]], train: list[ImageRef], params: ObjectBankParams
) -> ObjectBank:
    if params.segments != "open" and (objects := ObjectBank.fit(objects_of(train, True), params)).groups:
        return objects
    return ObjectBank.fit(objects_of(train, False), params)  # no classes in this unit, or regions are asked for


def load_patch_bank(path: Path) -> AnyPatchBank:
    """Raises ArtifactError if the file is missing or not a patch bank."""
    return CosinePatchBank.load(path) if is_cosine(path) else PatchBank.load(path)


def load_object_bank(path: Path) -> AnyObjectBank:
    """Raises ArtifactError if the file is missing or not an object bank."""
    return CosineObjectBank.load(path) if is_cosine(path) else ObjectBank.load(path)
