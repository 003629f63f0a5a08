"""The patch bank of a unit fitted under other parameters: the layers anew, the detector and all features as they are.

What the detector says of an image does not depend on the layers. A variant of K, or of the layers, learns centroids and
compares with them; the bank is the one that a fit from the start gives, which tests hold it to.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tmuad.banks.centroids import Matrix
from tmuad.banks.cosine import CosinePatchBank
from tmuad.banks.learn import learn_model, placed_on, simulated
from tmuad.banks.patch_model import DETECTOR, PatchImage, PatchMaps, PatchModel
from tmuad.banks.patches import PatchBank
from tmuad.banks.remembered import Remembered, learnt_from
from tmuad.banks.slots import AnyPatchBank
from tmuad.config import Params, PatchBankParams
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef

TIMED = 12  # images that a comparison is timed on
DETECTOR_READS = (
    "encoders",
    "share",
    "least_images",
    "most_images",
    "max_patches",
    "seed",
    "detector",
)  # the parameters that the detector depends on


@dataclass(frozen=True)
class Refitted:
    """A patch bank, what it says of every image asked about, and what that took."""

    bank: AnyPatchBank
    distances: dict[str, Matrix]  # image_id -> (h, w)
    seconds: dict[str, float]  # "fit": in all; "compare": per image


@dataclass(frozen=True)
class Patches:
    """The patches of a unit's images under some encoders, and the patch banks that they give."""

    unit: str
    params: Params  # in force, but for the encoders
    train: Sequence[ImageRef]
    held_out: Sequence[ImageRef]
    asked: Sequence[ImageRef]
    shown: Mapping[str, PatchImage]  # image_id -> its patches

    def refitted(self, params: PatchBankParams) -> Refitted:
        """The bank under `params`, as the stage `feature_banks` would fit it."""
        start = time.perf_counter()
        bank = self._cosine(params) if params.distance == "cosine" else self._placed(params)
        fit = time.perf_counter() - start
        if isinstance(bank, CosinePatchBank):
            distances = {ref.image_id: bank.distances(self.shown[ref.image_id]) for ref in self.asked}
        else:
            maps = {ref.image_id: self._maps(bank.model, ref) for ref in self.asked}
            distances = {i: bank.unusual(raw, self.shown[i].classes) for i, raw in maps.items()}
        return Refitted(bank, distances, {"fit": fit, "compare": self.seconds(bank)})

    def seconds(self, bank: AnyPatchBank) -> float:
        """Mean seconds that `bank` takes to compare an image, from its features to its distances."""
        chosen = [self.shown[ref.image_id] for ref in self.asked[:TIMED]]
        bank.distances(chosen[0])
        start = time.perf_counter()
        for image in chosen:
            bank.distances(image)
        return (time.perf_counter() - start) / len(chosen)

    def _cosine(self, params: PatchBankParams) -> CosinePatchBank:
        return CosinePatchBank.fit((self.shown[ref.image_id] for ref in self.train), params)

    def _placed(self, params: PatchBankParams) -> PatchBank:
        model = self._model(params)
        normals = [(self._maps(model, r), self.shown[r.image_id].classes) for r in placed_on(self.train)]
        bank = PatchBank.placed(model, normals, params.distance_weight)
        return bank.calibrate([(self._maps(model, r), self.shown[r.image_id].classes) for r in self.held_out])

    def _model(self, params: PatchBankParams) -> PatchModel:
        sample = learnt_from(self.train, params)
        images = [self.shown[ref.image_id] for ref in sample]
        same = all(getattr(params, name) == getattr(self.params.patch_bank, name) for name in DETECTOR_READS)
        if same and params.detector:
            return replace(self._in_force, layers=PatchModel.fit(images, params).layers)
        return PatchModel.fit(images, params, simulated(params, sample, self.params.data) if params.detector else ())

    def _maps(self, model: PatchModel, ref: ImageRef) -> PatchMaps:
        """What `model` says of an image; of its detector, what is in the cache where that is the one in force."""
        image = self.shown[ref.image_id]
        if model.detector is None or model.detector is not self._in_force.detector:
            return model(image)
        known = self._remembered.maps(self._in_force, ref, image)
        return {**replace(model, detector=None, context=None)(image), DETECTOR: known[DETECTOR]}

    @cached_property
    def _in_force(self) -> PatchModel:
        sample = learnt_from(self.train, self.params.patch_bank)
        return learn_model(self.params, self._remembered, sample, [self.shown[ref.image_id] for ref in sample])

    @cached_property
    def _remembered(self) -> Remembered:
        return Remembered(feature_task(self.params, self.unit), self.params.data)
