"""Which classifier a unit has."""

from pathlib import Path

from tmuad.config_models import ComputeParams
from tmuad.describe.classifier import ClipClassifier, ObjectClassifier


def load_classifier(path: Path, compute: ComputeParams) -> ObjectClassifier:
    """The classifier in `path`, whichever backend wrote it.

    Raises:
        ArtifactError: the file is missing, damaged, or no classifier.
    """
    from tmuad.describe import clip_classifier

    if clip_classifier.is_clip_classifier(path):
        return clip_classifier.load(path, compute)
    return ClipClassifier.load(path)
