"""What patch banks worked out before: models, and their maps of each image, in the per-image cache.

A model is learnt from some of the training images. When an image comes that is not among them, the model is the same,
and so is all it ever said of the images it has seen.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tmuad.banks import centroids, context, detector, grid, index, patch_model
from tmuad.banks.patch_model import PatchImage, PatchMaps, PatchModel
from tmuad.cache import fingerprint, open_cache
from tmuad.config import DataParams, PatchBankParams
from tmuad.engine import ImageRef, Task
from tmuad.lot import drawn, settled

MODEL = "patch model"  # stands for the image in the cache's keys


def learnt_from(images: Sequence[ImageRef], params: PatchBankParams) -> list[ImageRef]:
    """The images that a model is learnt from: of the settled ones, those whose digest lies in the lowest `share`.

    At least `least_images` and at most `most_images` are taken, by the smallest digests; see tmuad/lot.py.
    """
    chosen = settled([ref.path.as_posix() for ref in images])
    ordered = sorted((images[i] for i in chosen), key=lambda ref: ref.image_id)
    return ordered[: drawn([r.image_id for r in ordered], params.share, params.least_images, params.most_images)]


class Remembered:
    """The cache of one unit's patch models; `task` and `data` say what the features are."""

    def __init__(self, task: Task, data: DataParams) -> None:
        self._cache = open_cache(data.cache)
        code = fingerprint(centroids, context, detector, grid, index, patch_model)
        self._kind = f"{data.size}:{data.bits}:{task.fingerprint}:{code}"

    def model(
        self,
        sample: Sequence[tuple[ImageRef, PatchImage]],
        params: PatchBankParams,
        simulation: str,
        learn: Callable[[], PatchModel],
    ) -> PatchModel:
        """The model that `learn` gives for these images and the fingerprint of their `simulation` of defects."""
        learnt_by = [(ref.image_id, _digest(image.classes)) for ref, image in sample]
        kind = f"{MODEL}:{self._kind}:{fingerprint(params, simulation, learnt_by)}"
        if (known := self._cache.get(MODEL, kind)) is not None:
            return PatchModel.from_tensors(known, self._cache.root)
        model = learn()
        self._cache.put(MODEL, kind, model.tensors())
        return model

    def maps(self, model: PatchModel, ref: ImageRef, image: PatchImage) -> PatchMaps:
        """What `model` says of `image`, which is that of `ref`."""
        kind = f"patch maps:{self._kind}:{model.digest}:{_digest(image.classes)}"
        if (known := self._cache.get(ref.image_id, kind)) is not None:
            return known
        maps = model(image)
        self._cache.put(ref.image_id, kind, dict(maps))
        return maps


def _digest(classes: NDArray[np.str_]) -> str:
    return fingerprint(classes.dtype.str, classes.shape, hashlib.sha256(classes.tobytes()).hexdigest())
