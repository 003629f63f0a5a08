"""Which task encodes the images of a unit: the embedded one, or one with models in its slots."""

from collections.abc import Sequence
from dataclasses import replace

from tmuad.config import Params
from tmuad.config_models import EncodeParams
from tmuad.encode.features import FeatureTask
from tmuad.encode.filters import FilterEncoder
from tmuad.encode.model_features import ModelFeatureTask
from tmuad.segment.slots import scene_task


def feature_task(params: Params, unit: str) -> FeatureTask | ModelFeatureTask:
    """The feature stages' task for the images of `unit`."""
    scene = scene_task(params, unit)
    if params.object_bank.encoder == "filters" and params.patch_bank.encoders == ("filters",):
        return FeatureTask(scene, FilterEncoder())
    return ModelFeatureTask.of(params, scene)


def object_task(params: Params, unit: str) -> FeatureTask | ModelFeatureTask:
    """The same without patches, for whom objects alone are of interest; filters see both in one look."""
    task = feature_task(params, unit)
    return replace(task, patches=()) if isinstance(task, ModelFeatureTask) else task


def layer_names(encode: EncodeParams, encoders: Sequence[str]) -> tuple[str, ...]:
    """What the layers of these encoders are called among an image's patches."""
    layers = {"clip": encode.clip.layers, "dinov2": encode.dinov2.layers}
    found = (FilterEncoder.layers if name == "filters" else [f"{name}-{n}" for n in layers[name]] for name in encoders)
    return tuple(layer for many in found for layer in many)
