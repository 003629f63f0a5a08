"""The crops that a fine-tuned classifier learns from, and the models that units share."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import scratch_folder
from tmuad.config import Params
from tmuad.config_models import ClipFinetuneParams
from tmuad.data.object_names import data_set_of
from tmuad.describe.clip_finetune import TunedClip, finetune_clip, sample
from tmuad.engine import map_images
from tmuad.errors import ParameterError
from tmuad.parquet import read_parquet
from tmuad.segment.slots import names_of, scene_task
from tmuad.stages.common import unit_images
from tmuad.workspace import MODELS, UnitPaths

ALL = "all"  # the group of the scope `unified`


@dataclass(frozen=True)
class Crop:
    """One object of the training split, and its place among its image's candidates."""

    unit: str
    image_id: str
    candidate: int
    label: str

    @property
    def key(self) -> str:
        return f"{self.unit}:{self.image_id}:{self.candidate}"


def group_of(unit: str, tuned: ClipFinetuneParams) -> str:
    """The units that share a model with `unit` go by this name."""
    return ALL if tuned.scope == "unified" else data_set_of(unit)[0]


def groups(params: Params, tuned: ClipFinetuneParams) -> dict[str, list[str]]:
    """Group -> its units, in the order of params.yaml."""
    found: dict[str, list[str]] = {}
    for unit in params.units:
        found.setdefault(group_of(unit, tuned), []).append(unit)
    return found


def shared_model(group: str) -> Path:
    return MODELS / f"{group}.safetensors"


def classes_of(params: Params, unit: str) -> list[str]:
    """Object classes of `unit`: those that were looked for, else those that were found, in sorted order."""
    return sorted(names_of(params, unit) or {crop.label for crop in training_crops([unit])})


def training_crops(units: Sequence[str]) -> list[Crop]:
    """The named objects of the training splits of `units`."""
    found = []
    for unit in units:
        manifest = read_parquet(UnitPaths(unit).manifest, ["image_id", "split"]).to_pylist()
        train = {row["image_id"] for row in manifest if row["split"] == "train"}
        segments = read_parquet(UnitPaths(unit).segments, ["image_id", "source", "candidate", "label"]).to_pylist()
        found += [
            Crop(unit, row["image_id"], row["candidate"], row["label"])
            for row in segments
            if row["source"] == "grounded" and row["image_id"] in train
        ]
    return found


def tune(params: Params, units: Sequence[str]) -> TunedClip:
    """Fine-tune one model on the objects of `units`."""
    tuned = params.finetune
    if not isinstance(tuned, ClipFinetuneParams):
        raise ParameterError("finetune.backend: only a fine-tuned CLIP (backend: clip) can be shared between units")
    found = training_crops(units)
    classes = sorted({name for unit in units for name in classes_of(params, unit)})
    keys = [crop.key for crop in found]
    sampled = sample([crop.label for crop in found], keys, classes, tuned.crops_per_class)
    pixels = _load(params, [found[i] for i in sampled.chosen])
    # Not the keys alone: another segmenter may find other pixels under the same number.
    mark = hashlib.sha256(sampled.digest(keys).encode() + pixels.tobytes()).hexdigest()
    return finetune_clip(pixels, sampled, mark, tuned, params.compute, scratch_folder(params.data.cache) / "finetune")


def _load(params: Params, crops: Sequence[Crop]) -> NDArray[np.uint8]:
    """Pixels (n, size, size, 3) of `crops`, in their order; only the images that hold one are read."""
    size = params.finetune.crop_size
    pixels = np.zeros((len(crops), size, size, 3), dtype=np.uint8)
    places: dict[str, dict[str, list[int]]] = {}
    for i, crop in enumerate(crops):
        places.setdefault(crop.unit, {}).setdefault(crop.image_id, []).append(i)
    for unit, by_image in places.items():
        refs = [ref for ref in unit_images(unit, params, ["train"]) if ref.image_id in by_image]
        records = map_images(scene_task(params, unit), refs, params.data)
        for ref, record in zip(refs, records, strict=True):
            for i in by_image[ref.image_id]:
                pixels[i] = record["crops"][crops[i].candidate]
    return pixels
