"""Task of the feature stages: patch features of all encoders and object features of the open segments, per image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad.banks.context import class_grid
from tmuad.banks.objects import REGION, Labelled
from tmuad.banks.patch_model import DETAIL, Defects, PatchImage
from tmuad.cache import Record, fingerprint
from tmuad.describe.description import ImageDescription
from tmuad.encode import ObjectFeatures, PatchFeatures, defects, portraits, simulate
from tmuad.encode.filters import FilterBank, FilterEncoder
from tmuad.engine import Task
from tmuad.segment.scene import unpack_scene


@dataclass(frozen=True)
class FeatureTask:
    """See `tmuad.engine.Task`; builds on the segments of the scene task."""

    after: Task
    encoder: FilterEncoder
    name: str = "features"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.encoder.fingerprint(), portraits, self.after.fingerprint)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        bank = FilterBank(image)  # one forward serves patches and objects
        patches = self.encoder.encode_patches(image, bank)
        scene = unpack_scene(prior)
        return {
            **{f"patches.{layer}": values for layer, values in patches.items()},
            "regions": self.encoder.encode_objects(image, scene.regions, bank),
            "candidates": self.encoder.encode_objects(image, scene.candidate_runs, bank),
            "portraits": portraits.portraits(bank.planes, scene.candidate_runs).astype(np.float16),
        }


@dataclass(frozen=True)
class DefectTask:
    """Patches with simulated defects, which only a fit needs; see `tmuad.engine.Task`."""

    name: str = "simulate defects"
    after: None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(FilterEncoder().fingerprint(), defects, simulate)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        features, cells = defects.encode_defects(image)
        return {"features": features, "cells": cells}


def patch_features(record: Record) -> PatchFeatures:
    return {name.removeprefix("patches."): array for name, array in record.items() if name.startswith("patches.")}


def patch_image(record: Record, description: ImageDescription, size: int) -> PatchImage:
    """The patches of an image of `size` px, and the object class each lies on."""
    features = patch_features(record)
    detail = features[DETAIL] if DETAIL in features else max(features.values(), key=len)
    return PatchImage(features, class_grid(description, (size, size), len(detail)))


def defects_of(record: Record) -> Defects:
    """The inverse of `DefectTask`."""
    return Defects(record["features"], record["cells"])


def object_features(record: Record, description: ImageDescription, by_class: bool) -> Labelled:
    """What an object bank learns from or is asked about: the objects of `description` in the order of
    `description.objects`, or, without classes, the regions of the open segmenter.
    """
    if not by_class:
        features: ObjectFeatures = record["regions"]
        return Labelled([REGION] * len(features), features)
    rows = [o.candidate for o in description.objects]
    shown = record["portraits"][rows].astype(np.float32) if "portraits" in record else None
    return Labelled([o.object_class for o in description.objects], record["candidates"][rows], shown)
