"""Task of the feature stages where a model fills an encoder's slot; the record is that of `features.py`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Record, fingerprint
from tmuad.config import Params
from tmuad.config_models import ComputeParams, EncodeParams
from tmuad.encode import portraits
from tmuad.encode.clip import ClipEncoder, clip_fingerprint
from tmuad.encode.dinov2 import DinoEncoder, dino_fingerprint
from tmuad.encode.filters import FilterBank, FilterEncoder
from tmuad.engine import Task
from tmuad.models.runtime import loaded
from tmuad.segment.scene import unpack_scene


@dataclass(frozen=True)
class ModelFeatureTask:
    """See `tmuad.engine.BatchTask`; builds on the segments of the scene task."""

    after: Task
    patches: tuple[str, ...]  # encoders of patches
    objects: str  # encoder of objects
    by_class: bool  # whether the objects of the classes are encoded besides the regions
    encode: EncodeParams
    compute: ComputeParams = field(repr=False)
    name: str = "features"

    @classmethod
    def of(cls, params: Params, after: Task) -> "ModelFeatureTask":
        bank = params.object_bank
        by_class = bank.distance == "whitened" or bank.segments == "named"
        return cls(after, params.patch_bank.encoders, bank.encoder, by_class, params.encode, params.compute)

    @property
    def encoder(self) -> FilterEncoder:
        """What simulated defects are described with."""
        return FilterEncoder()

    @property
    def batch(self) -> int:
        return self.compute.batch

    @property
    def fingerprint(self) -> str:
        named = {*self.patches, self.objects}
        parts = [FilterEncoder().fingerprint(), fingerprint(portraits)] if "filters" in named else []
        parts += [clip_fingerprint(self.encode.clip, self.compute)] if "clip" in named else []
        parts += [dino_fingerprint(self.encode.dinov2, self.compute)] if "dinov2" in named else []
        here = sys.modules[__name__]
        return fingerprint(here, self.patches, self.objects, self.by_class, parts, self.after.fingerprint)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return self.many([image], [prior])[0]

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        records: list[Record] = [{} for _ in images]
        scenes = [unpack_scene(prior) for prior in priors]
        segments = [scene.regions + (scene.candidate_runs if self.by_class else []) for scene in scenes]
        banks = [FilterBank(i) for i in images] if "filters" in {*self.patches, self.objects} else []
        for name in self.patches:
            if name == "filters":
                found = [FilterEncoder().encode_patches(i, bank) for i, bank in zip(images, banks, strict=True)]
            else:
                found = self._model(name).encode_patches(images)
            for record, layers in zip(records, found, strict=True):
                record |= {f"patches.{layer}": values for layer, values in layers.items()}
        if self.objects == "filters":
            triples = zip(images, segments, banks, strict=True)
            features = [FilterEncoder().encode_objects(i, many, bank) for i, many, bank in triples]
            if self.by_class:
                for record, scene, bank in zip(records, scenes, banks, strict=True):
                    record["portraits"] = portraits.portraits(bank.planes, scene.candidate_runs).astype(np.float16)
        else:
            features = self._model(self.objects).encode_objects(images, segments)
        for record, scene, rows in zip(records, scenes, features, strict=True):
            record |= {"regions": rows[: len(scene.regions)], "candidates": rows[len(scene.regions) :]}
        return records

    def _model(self, name: str) -> ClipEncoder | DinoEncoder:
        if name == "clip":
            clip = self.encode.clip
            return loaded(("clip encoder", clip, self.compute), lambda: ClipEncoder(clip, self.compute))
        dino = self.encode.dinov2
        return loaded(("dinov2 encoder", dino, self.compute), lambda: DinoEncoder(dino, self.compute))
