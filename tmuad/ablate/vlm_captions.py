"""What a vision language model says of an image, or of each object in it: the texts of Table VI's rows 1 to 3.

Answers are kept in the per-image cache by model, precision, weights, question and longest answer, and not asked for again.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tmuad import masks, weights
from tmuad.ablate import captions
from tmuad.cache import Record, fingerprint, packed_text
from tmuad.config import Params
from tmuad.config_models import ComputeParams, TextsParams, VlmParams
from tmuad.describe import crops, qwen
from tmuad.describe.qwen import Question, load_qwen
from tmuad.engine import Task
from tmuad.models.runtime import precision_of
from tmuad.segment.scene import unpack_scene
from tmuad.segment.slots import BLACK, scene_task


@dataclass(frozen=True)
class VlmCaptionTask:
    """See `tmuad.engine.BatchTask`; the record is that of `captions.CaptionTask`, for one of its two keys."""

    of: Literal["image", "segments"]
    after: Task | None  # the scene whose candidates are the segments; none for the whole image
    texts: TextsParams
    vlm: VlmParams
    compute: ComputeParams = field(repr=False)
    name: str = "describe"  # placed as the language model is

    @classmethod
    def of_unit(cls, of: Literal["image", "segments"], params: Params, unit: str) -> "VlmCaptionTask":
        scene = scene_task(params, unit) if of == "segments" else None
        return cls(of, scene, params.texts, params.vlm, params.compute)

    @property
    def batch(self) -> int:
        return self.vlm.batch

    @property
    def fingerprint(self) -> str:
        model = (self.vlm.model, weights.digest(self.vlm.weights, self.compute), precision_of(self.compute))
        question: tuple[object, ...] = (self.of, self.texts.max_tokens, self.texts.caption)
        if self.after:
            question = (self.of, self.texts.max_tokens, self.texts.segment_caption, self.texts.crop_size)
        sources = (sys.modules[__name__], captions, qwen, crops, masks)
        return fingerprint(*sources, model, question, self.after.fingerprint if self.after else "")

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return self.many([image], [prior])[0]

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        if self.after is None:
            return [{self.of: packed_text(line)} for line in self._ask(images, self.texts.caption)]
        cut = [self._cut(image, prior) for image, prior in zip(images, priors, strict=True)]
        lines = iter(self._ask([crop for many in cut for crop in many], self.texts.segment_caption))
        return [{self.of: packed_text("\n".join(next(lines) for _ in many))} for many in cut]

    def _ask(self, pictures: Sequence[NDArray[np.uint8]], question: str) -> list[str]:
        """One line per picture."""
        if not pictures:
            return []
        model = load_qwen(self.vlm, self.compute)
        said = model.ask([Question(picture, question) for picture in pictures], self.texts.max_tokens)
        return [" ".join(answer.split()) for answer in said]

    def _cut(self, image: NDArray[np.uint8], prior: Record) -> NDArray[np.uint8]:
        """Pictures (n, crop_size, crop_size, 3) of the candidates on black."""
        shape = (image.shape[0], image.shape[1])
        found = (masks.decode(runs, shape) for runs in unpack_scene(prior).candidate_runs)
        return crops.crops_of(image, found, self.texts.crop_size, BLACK)
