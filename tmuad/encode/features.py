"""Task of the feature stages: patch features of all encoders and object features of the open segments, per image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Record, fingerprint
from tmuad.config import Params
from tmuad.encode import ObjectFeatures, PatchFeatures
from tmuad.encode.filters import FilterBank, FilterEncoder
from tmuad.segment.scene import SceneTask, unpack_scene


@dataclass(frozen=True)
class FeatureTask:
    """See `tmuad.engine.Task`; builds on the segments of `SceneTask`."""

    after: SceneTask
    encoder: FilterEncoder
    name: str = "features"

    @classmethod
    def of(cls, params: Params) -> "FeatureTask":
        return cls(SceneTask(params.segment, params.finetune.crop_size), FilterEncoder())

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.encoder.fingerprint(), self.after.fingerprint)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        bank = FilterBank(image)  # one forward serves patches and objects
        patches = self.encoder.encode_patches(image, bank)
        objects = self.encoder.encode_objects(image, unpack_scene(prior).regions, bank)
        return {**{f"patches.{layer}": values for layer, values in patches.items()}, "objects": objects}


def patch_features(record: Record) -> PatchFeatures:
    return {name.removeprefix("patches."): values for name, values in record.items() if name.startswith("patches.")}


def object_features(record: Record) -> ObjectFeatures:
    return record["objects"]
