"""Which task segments the images of a unit: the embedded one, or one with models in its slots."""

from pathlib import Path

import numpy as np

from tmuad.config import ComponentsParams, Params, RegionsParams
from tmuad.config_models import ClipFinetuneParams, GroundedSamParams
from tmuad.data.object_names import object_names
from tmuad.describe.crops import FILL, Colour
from tmuad.segment.classes import ObjectClasses
from tmuad.segment.components import DESCRIPTOR
from tmuad.segment.grounded_sam import ModelSceneTask
from tmuad.segment.scene import SceneTask
from tmuad.workspace import CATALOG

BLACK: Colour = (0, 0, 0)  # what surrounds an object for a model pre-trained on photographs: I_m * I_n in the paper


def scene_task(params: Params, unit: str) -> SceneTask | ModelSceneTask:
    """The segment stage's task for the images of `unit`.

    Raises:
        ParameterError: objects are to be found by name, and nobody has named any.
    """
    segment = params.segment
    if isinstance(segment.grounded, ComponentsParams) and isinstance(segment.open, RegionsParams):
        return SceneTask(segment, params.finetune.crop_size)
    fill = BLACK if isinstance(params.finetune, ClipFinetuneParams) else FILL
    return ModelSceneTask(segment, names_of(params, unit), params.finetune.crop_size, fill, params.compute)


def names_of(params: Params, unit: str, catalog: Path = CATALOG) -> tuple[str, ...]:
    """Object names of `unit`: those of the catalogue, else those of the parameters; empty for the embedded segmenter."""
    grounded = params.segment.grounded
    if not isinstance(grounded, GroundedSamParams):
        return ()
    return object_names(unit, catalog) or grounded.objects


def named_classes(names: tuple[str, ...]) -> ObjectClasses:
    """Classes that a person named, as the segment stage keeps them."""
    nothing = np.zeros((0, len(DESCRIPTOR)))
    return ObjectClasses(nothing, nothing, names)
