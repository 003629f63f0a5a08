"""The object classifier of the paper: a fine-tuned CLIP, kept as safetensors.

A unit that shares its model with others ("-I": those of its data set, "-U": all) has a small file of its own that names
the classes and the shared file with its digest.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import weights
from tmuad.config_models import ClipFinetuneParams, ComputeParams
from tmuad.describe.classifier import PROMPT
from tmuad.encode.clip import CROPS, as_input, build_clip, clip_config
from tmuad.errors import ArtifactError, ParameterError
from tmuad.models.runtime import device_of, in_batches, inference
from tmuad.parquet import write_artifact

if TYPE_CHECKING:
    import torch

FORMAT = "tmuad-clip-classifier"
VERSION = 1
_REMEDY = "delete it and run `dvc repro` to train it anew"


class TunedClipClassifier:
    """See `tmuad.describe.classifier.ObjectClassifier`."""

    def __init__(
        self, spec: Mapping[str, Any], state: "dict[str, torch.Tensor]", path: Path, compute: ComputeParams
    ) -> None:
        self.classes = list(spec["classes"])
        self.crop_size = int(spec["crop_size"])
        self._compute, self._digest = compute, weights.sha256_of(path)
        if not self.classes:
            return
        model = build_clip(str(spec["model"]))
        weights.load_into(model, state, path)
        self._model = model.to(device_of(compute)).eval()
        with inference(compute):
            prompts = self._model.encode_text(prompt_tokens(self.classes).to(device_of(compute)), normalize=True)
            self._prompts = (prompts * self._model.logit_scale.exp()).float()

    def classify(self, crops: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float32]]:
        """Class names (N) and their probabilities (N) of `crops` (N, size, size, 3)."""
        if crops.dtype != np.uint8 or crops.shape[1:] != (self.crop_size, self.crop_size, 3):
            raise ValueError(
                f"crops are {crops.dtype} {crops.shape}, expected uint8 (N, {self.crop_size}, {self.crop_size}, 3)"
            )
        if not self.classes or len(crops) == 0:
            return [""] * len(crops), np.zeros(len(crops), dtype=np.float32)
        found = in_batches(self._classify, list(crops), CROPS * self._compute.batch, "CLIP classifier")
        return [self.classes[i] for i, _ in found], np.array([p for _, p in found], dtype=np.float32)

    def _classify(self, crops: Sequence[NDArray[np.uint8]]) -> list[tuple[int, float]]:
        with inference(self._compute):
            images = as_input(crops, self.crop_size).to(device_of(self._compute))
            features = self._model.encode_image(images, normalize=True).float()
            best = (features @ self._prompts.T).float().softmax(dim=1).max(dim=1)
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def fingerprint(self) -> str:
        return self._digest


def clip_spec(classes: Sequence[str], params: ClipFinetuneParams, digest: str) -> dict[str, Any]:
    """All but the weights, as JSON types; `digest` is that of the pre-trained weights.

    Raises:
        ParameterError: there is no such model, or it takes crops of another size.
    """
    side = clip_config(params.model)["vision_cfg"]["image_size"]
    if params.crop_size != side:
        raise ParameterError(
            f"finetune.crop_size: {params.crop_size}, but {params.model} was trained on {side} px; give that"
        )
    return {"classes": list(classes), "crop_size": params.crop_size, "model": params.model, "pretrained": digest}


def prompt_tokens(classes: Sequence[str]) -> "torch.Tensor":
    """Prompt tokens (K, 77).

    Raises:
        ParameterError: a class has an empty name, or two names are the same to the tokenizer.
    """
    import torch
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    owner: dict[tuple[int, ...], str] = {}
    for name in classes:
        ids = tuple(tokenizer.encode(name))
        if not any(character.isalnum() for character in name):
            raise ParameterError(f"the object class {name!r} has no readable name; give it one with letters or digits")
        if (twin := owner.setdefault(ids, name)) != name:
            raise ParameterError(f"the object classes {twin!r} and {name!r} have the same prompt; rename one")
    if not classes:
        return torch.zeros((0, 77), dtype=torch.long)
    tokens: torch.Tensor = tokenizer([PROMPT.format(name) for name in classes], context_length=77)
    return tokens


def save(spec: Mapping[str, Any], state: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Write a classifier to `path`, whole or not at all."""
    _write({"version": VERSION, "spec": dict(spec)}, {n: v.contiguous().cpu() for n, v in state.items()}, path)


def save_reference(classes: Sequence[str], shared: Path, path: Path) -> None:
    """Write to `path` that its unit has the `classes` and the model in `shared`.

    Raises:
        ArtifactError: the shared model is missing, damaged, or does not know a class.
    """
    spec, _ = _read(shared)
    unknown = sorted(set(classes) - set(spec["classes"]))
    if unknown:
        raise ArtifactError(
            f"{shared}: does not know {', '.join(unknown)}; train it again with `dvc repro models/dvc.yaml`"
        )
    base = {"path": shared.as_posix(), "digest": weights.sha256_of(shared)}
    _write({"version": VERSION, "spec": {**spec, "classes": list(classes)}, "base": base}, {}, path)


def load(path: Path, compute: ComputeParams) -> TunedClipClassifier:
    """The classifier in `path`, its shared model included.

    Raises:
        ArtifactError: a file is missing, damaged, no classifier, or the shared model is another than it was.
    """
    spec, base = _read(path)
    if base:
        shared = Path(base["path"])
        if not shared.exists() or weights.sha256_of(shared) != base["digest"]:
            raise ArtifactError(f"{shared}: not the model that {path} refers to; run `dvc repro`")
        return TunedClipClassifier(spec, weights.read_state(shared), shared, compute)
    return TunedClipClassifier(spec, weights.read_state(path), path, compute)


def is_clip_classifier(path: Path) -> bool:
    """Whether `path` holds a fine-tuned CLIP, rather than a model trained from scratch or nothing of use."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return FORMAT in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _write(header: dict[str, Any], state: "dict[str, torch.Tensor]", path: Path) -> None:
    from safetensors.torch import save as to_bytes

    write_artifact(path, to_bytes(state, metadata={FORMAT: json.dumps(header, sort_keys=True)}))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Specification, and the shared model it refers to, if any."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(FORMAT, "null"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{path}: no such classifier; run `dvc repro`. Models that units share need `tmuad classifiers` once before"
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as safetensors ({error}); {_REMEDY}") from None
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise ArtifactError(f"{path}: these weights are not of a fine-tuned classifier of this version; {_REMEDY}")
    return header["spec"], header.get("base", {})
