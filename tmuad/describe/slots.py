"""Which classifier a unit has, and who says where its objects are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmuad.config import Params
from tmuad.config_models import ComputeParams
from tmuad.describe.classifier import ClipClassifier, ObjectClassifier
from tmuad.describe.description import ImageDescription
from tmuad.describe.placing import Positions, place
from tmuad.engine import ImageRef


def load_classifier(path: Path, compute: ComputeParams) -> ObjectClassifier:
    """The classifier in `path`, whichever backend wrote it.

    Raises:
        ArtifactError: the file is missing, damaged, or no classifier.
    """
    from tmuad.describe import clip_classifier

    if clip_classifier.is_clip_classifier(path):
        return clip_classifier.load(path, compute)
    return ClipClassifier.load(path)


def said_positions(
    params: Params, unit: str, images: Sequence[ImageRef], descriptions: Sequence[ImageDescription]
) -> Positions | None:
    """What the vision language model says of the positions; None where nobody is to be asked."""
    if params.describe.position == "nine_grid":
        return None
    from tmuad.describe.vlm_position import ask_positions

    return ask_positions(unit, images, descriptions, params.vlm, params.compute, params.data)


def said_of_image(params: Params, image: NDArray[np.uint8], description: ImageDescription) -> ImageDescription:
    """`description` of a single `image` (S, S, 3) with the positions that the model says, where it is to be asked."""
    if params.describe.position == "nine_grid" or not description.classes:
        return description
    from tmuad.describe.position_words import parse_answer
    from tmuad.describe.qwen import Question, load_qwen
    from tmuad.describe.vlm_position import prompt

    names = [c.object_class for c in description.classes]
    question = Question(image, prompt(description, params.vlm.prompt))
    answer = parse_answer(load_qwen(params.vlm, params.compute).ask([question])[0], names)
    said = {(description.image_id, name): cells for name, cells in answer.items()}
    return place([description], said, {})[0][0]
