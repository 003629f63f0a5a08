"""Which task encodes the images of a unit: the embedded one, or one with models in its slots."""

from tmuad.config import Params
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
