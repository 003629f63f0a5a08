"""Which foundation models the parameters put into which slots."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmuad import weights
from tmuad.config import Params
from tmuad.config_models import ClipFinetuneParams, GroundedSamParams, SamParams
from tmuad.errors import WeightsError

GROUPS = ("segment", "finetune", "encode", "vlm")  # of stages, by which weights are listed in artifacts/params.yaml
TEXTS = "texts"  # beside them: the models of Table VI's texts, which no stage of the pipeline uses


@dataclass(frozen=True)
class ModelSlot:
    """A model in its place. Two slots with the same `kind`, `model` and `weights` share one loaded model."""

    name: str  # for people
    group: str  # one of GROUPS, or TEXTS
    kind: str
    model: str
    weights: str
    build: Callable[[], Any]  # without weights, wherever torch's default device is
    files: tuple[str, ...] = ()  # further entries of weights.yaml that it needs

    @property
    def names(self) -> tuple[str, ...]:
        """All entries of weights.yaml that it needs."""
        return self.weights, *self.files


def model_slots(params: Params) -> list[ModelSlot]:
    """The models that the parameters use, in the order of the stages; none in the embedded profile."""
    slots: list[ModelSlot] = []
    grounded, opened, tuned = params.segment.grounded, params.segment.open, params.finetune
    if isinstance(grounded, GroundedSamParams):
        from tmuad.segment.grounding_dino import build_detector

        files = (grounded.text_encoder,) if weights.random_seed(grounded.detector_weights) is None else ()
        slots.append(
            ModelSlot(
                "grounded segmenter: detector", "segment", "Grounding DINO", grounded.detector,
                grounded.detector_weights, lambda: build_detector(grounded, empty=True), files,
            )
        )  # fmt: skip
        slots.append(_sam("grounded segmenter: masks", grounded.segmenter, grounded.segmenter_weights))
    if isinstance(opened, SamParams):
        slots.append(_sam("open segmenter", opened.model, opened.weights))
    if isinstance(tuned, ClipFinetuneParams):
        slots.append(_clip("object classifier", "finetune", tuned.model, tuned.weights))
    encoders = {*params.patch_bank.encoders, params.object_bank.encoder}
    if "clip" in encoders:
        slots.append(_clip("encoder", "encode", params.encode.clip.model, params.encode.clip.weights))
    if "dinov2" in encoders:
        dino = params.encode.dinov2

        def build() -> Any:
            from tmuad.encode.dinov2 import build_dino

            return build_dino(dino.model)

        slots.append(ModelSlot("encoder", "encode", "DINOv2", dino.model, dino.weights, build))
    if params.describe.position == "vlm":
        slots.append(_qwen("position", "vlm", params))
    return slots


def text_slots(params: Params, encoder: str, by_vlm: bool) -> list[ModelSlot]:
    """The models of texts that are compared as vectors: who writes them, and their encoder (clip or t5; others have none)."""
    slots = [_qwen("captions", TEXTS, params)] if by_vlm else []
    if encoder == "clip":
        slots.append(_clip("text encoder", TEXTS, params.encode.clip.model, params.encode.clip.weights))
    if encoder == "t5":
        t5 = params.texts.t5

        def build() -> Any:
            from tmuad.encode.texts import build_t5

            return build_t5(t5.model)

        slots.append(ModelSlot("text encoder", TEXTS, "T5", t5.model, t5.weights, build))
    return slots


def weight_names(slots: list[ModelSlot]) -> list[str]:
    """The entries of weights.yaml that the slots need, each once."""
    names = [name for slot in slots for name in slot.names]
    return [name for name in dict.fromkeys(names) if weights.random_seed(name) is None]


def weight_digests(params: Params) -> dict[str, dict[str, str]]:
    """Group -> weight name -> digest of what the parameters use.

    Raises:
        WeightsError: a file is missing or of the wrong size.
    """
    digests: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    for slot in model_slots(params):
        for name in slot.names:
            digests[slot.group][name] = weights.digest(name, params.compute)
    return digests


def text_weight_digests(params: Params) -> dict[str, str]:
    """Weight name -> digest of the text encoders that lie here. Variants of Table VI alone need them: none has to."""
    digests = {}
    for encoder in ("clip", "t5"):
        for name in weight_names(text_slots(params, encoder, by_vlm=False)):
            with contextlib.suppress(WeightsError):
                digests[name] = weights.digest(name, params.compute)
    return digests


def _qwen(name: str, group: str, params: Params) -> ModelSlot:
    def build() -> Any:
        from tmuad.describe.qwen import build_qwen

        return build_qwen(params.vlm, empty=True)

    return ModelSlot(name, group, "Qwen", params.vlm.model, params.vlm.weights, build)


def _sam(name: str, model: str, weights_name: str) -> ModelSlot:
    def build() -> Any:
        from tmuad.segment.sam import build_sam

        return build_sam(model)

    return ModelSlot(name, "segment", "SAM", model, weights_name, build)


def _clip(name: str, group: str, model: str, weights_name: str) -> ModelSlot:
    def build() -> Any:
        from tmuad.encode.clip import build_clip

        return build_clip(model)

    return ModelSlot(name, group, "CLIP", model, weights_name, build)
