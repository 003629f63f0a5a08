"""The object classifier: C_k = CLIP(I_seg^k, C), the class whose prompt is nearest to the masked crop of object k.

The model is what `finetune.py` trained and saved. torch and open_clip take seconds to import, so only training builds
their model; the trained one is asked in numpy.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from tmuad.describe.small_clip import SmallClip
from tmuad.errors import ArtifactError, ParameterError
from tmuad.parallel import one_thread

if TYPE_CHECKING:
    import torch

PROMPT = "a photo of a {}"
FORMAT = "tmuad-object-classifier"
VERSION = 1
BATCH = 128  # crops of one forward; bounds the memory

Weights = Mapping[str, NDArray[np.generic]]


class ObjectClassifier(Protocol):
    """Tells which object class a masked crop shows."""

    crop_size: int  # px

    def classify(self, crops: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float32]]:
        """Class names (N) and their probabilities (N), in [0, 1], of `crops` (N, size, size, 3)."""

    def fingerprint(self) -> str:
        """Hex digest of everything a result depends on: part of the key of every cached result."""


def settled(
    said: Sequence[str], probability: NDArray[np.float32], segmenter: Sequence[str], confident: float
) -> list[str]:
    """The class of each object: what the classifier `said` (Alg. 1, line 5), where it is `confident`; else the segmenter's.

    A small classifier is unsure where two classes look alike on a crop, and the segmenter has told them apart by measures
    the crop does not show. The paper has no such rule: `confident` 0 switches it off.
    """
    pairs = zip(said, probability.tolist(), segmenter, strict=True)
    return [mine if sure >= confident else theirs for mine, sure, theirs in pairs]


class ClipClassifier:
    """A fine-tuned CLIP: softmax over the scaled cosines between a crop and the prompts of the classes.

    With one class every crop is of that class with probability 1. With none, because the normal images show no object,
    every crop is of class "" with probability 0.
    """

    def __init__(self, spec: dict[str, Any], weights: Weights, source: str = "the classifier") -> None:
        """`spec` as `model_spec` returns it; `weights` by the names of open_clip's CLIP; `source` for messages."""
        self.classes: list[str] = list(spec["classes"])
        self.crop_size: int = int(spec["crop_size"])
        self._fingerprint = digest(spec, weights)
        self._spec, self._weights, self._source = spec, weights, source

    @classmethod
    def load(cls, path: Path) -> "ClipClassifier":
        """The classifier that `finetune.save` wrote to `path`.

        Raises:
            ArtifactError: the file is missing, damaged, not a classifier of ours, or of another version.
        """
        spec, weights = _read(path)
        try:
            return cls(spec, weights, str(path))
        except (TypeError, KeyError, ValueError) as error:
            raise _misfit(str(path), error) from error

    @cached_property
    def _model(self) -> tuple[SmallClip, NDArray[np.float32]]:
        """The model and its prompts (K, embed_dim), times the scale of the logits."""
        model = SmallClip(self._spec["config"], self._weights)
        return model, model.encode_text(self._spec["tokens"]) * model.logit_scale

    def classify(self, crops: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float32]]:
        """See `ObjectClassifier`.

        Raises:
            ValueError: the crops are not uint8 of the size the model was trained on.
            ArtifactError: the weights are not those of the model.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != (self.crop_size, self.crop_size, 3):
            raise ValueError(
                f"crops are {crops.dtype} {crops.shape}, expected uint8 (N, {self.crop_size}, {self.crop_size}, 3)"
            )
        if not self.classes or len(crops) == 0:
            return [""] * len(crops), np.zeros(len(crops), dtype=np.float32)
        try:
            with one_thread():
                model, prompts = self._model
                logits = np.concatenate(
                    [
                        model.encode_image(crops[start : start + BATCH].astype(np.float32) / np.float32(127.5) - 1)
                        @ prompts.T
                        for start in range(0, len(crops), BATCH)
                    ]
                )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise _misfit(self._source, error) from error
        sure = softmax(logits, axis=1)
        return [self.classes[index] for index in logits.argmax(axis=1).tolist()], sure.max(axis=1)

    def fingerprint(self) -> str:
        return self._fingerprint


def model_spec(classes: Sequence[str], crop_size: int) -> dict[str, Any]:
    """All but the weights, as JSON types: class names, prompt tokens (K, context_length) and open_clip's configuration.

    The image tower is CLIP's ModifiedResNet, eight channels wide: from a thousand crops of parts that differ in outline
    and size alone it learnt in seconds what vision transformers of like cost did not in as many epochs. The text
    tower's vocabulary holds the prompts' tokens alone: all 49,408 would be eight times the rest of the model.

    Raises:
        ParameterError: a class has an empty name, or two names are the same to the tokenizer.
    """
    spec: dict[str, Any] = {"classes": list(classes), "crop_size": crop_size, "tokens": [], "config": {}}
    if not classes:
        return spec
    tokens, vocabulary = _tokenize(classes)
    spec["tokens"] = tokens
    spec["config"] = {
        "embed_dim": 64,
        "init_logit_scale": math.log(5),  # at CLIP's 1 / 0.07 some seeds never leave the first plateau
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": crop_size},
        "text_cfg": {"context_length": len(tokens[0]), "vocab_size": vocabulary, "width": 64, "heads": 2, "layers": 1},
    }
    return spec


def import_open_clip() -> None:
    """Import open_clip without transformers and timm, which it wants for towers that are not used here: 3 s, not 9."""
    if "open_clip" not in sys.modules:
        hidden = [name for name in ("transformers", "timm") if name not in sys.modules]
        sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]  # open_clip takes them for not installed
        try:
            import open_clip  # noqa: F401
        finally:
            for name in hidden:
                del sys.modules[name]


def build_model(spec: dict[str, Any]) -> Any:
    """An open_clip CLIP of the configuration in `spec`, with random weights from torch's global generator."""
    import_open_clip()
    from open_clip.model import CLIP

    return CLIP(**spec["config"])


def as_input(crops: NDArray[np.uint8]) -> "torch.Tensor":
    """uint8 (N, size, size, 3) -> float32 (N, 3, size, size) in [-1, 1]."""
    import torch

    return torch.tensor(crops).permute(0, 3, 1, 2).to(torch.float32).div(127.5).sub(1)


@contextmanager
def reproducible_torch() -> Iterator[None]:
    """One thread and deterministic kernels inside, so that bytes do not depend on the cores; the former settings after.

    One thread is also the fastest here: the models are tiny, and stages run one process per core.
    """
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def digest(spec: dict[str, Any], weights: Weights) -> str:
    """sha256 hex over the specification and every tensor's name, type, shape and bytes."""
    total = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        total.update(f"{name} {value.dtype} {weights[name].shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _misfit(source: str, error: Exception) -> ArtifactError:
    reason = " ".join(str(error).split())  # torch's spans lines
    return ArtifactError(f"{source}: the weights do not fit the model they name ({reason}); {_REMEDY}")


_REMEDY = "delete it and run `dvc repro` to train it anew"


def _read(path: Path) -> tuple[dict[str, Any], Weights]:
    """Specification and weights in the file `path`; see `ClipClassifier.load`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; run `dvc repro`, whose finetune stage writes it") from None
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: not readable as safetensors ({error}); {_REMEDY}") from None
    try:
        header = json.loads(metadata.get(FORMAT, "null"))
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        raise ArtifactError(f"{path}: these weights are not of an object classifier of tmuad; {_REMEDY}")
    if header.get("version") != VERSION:
        raise ArtifactError(f"{path}: version {header.get('version')!r}, but this tmuad reads {VERSION}; {_REMEDY}")
    spec = header.get("spec")
    if not isinstance(spec, dict) or header.get("digest") != digest(spec, weights):
        raise ArtifactError(f"{path}: damaged: the weights do not have the digest they were saved with; {_REMEDY}")
    return spec, weights


def _tokenize(classes: Sequence[str]) -> tuple[list[list[int]], int]:
    """Prompt tokens (K, context_length), renumbered 0, 1, ... without gaps, and how many there are."""
    import_open_clip()
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    bare = [tuple(tokenizer.encode(name)) for name in classes]
    owner: dict[tuple[int, ...], str] = {}
    for name, ids in zip(classes, bare, strict=True):
        if not ids:
            raise ParameterError(f"the object class {name!r} has no readable name; give it one with letters or digits")
        if ids in owner:
            raise ParameterError(f"the object classes {owner[ids]!r} and {name!r} have the same prompt; rename one")
        owner[ids] = name
    prompts = [PROMPT.format(name) for name in classes]
    length = max(len(tokenizer.encode(prompt)) for prompt in prompts) + 2  # start and end of text
    ids = tokenizer(prompts, context_length=length).numpy()
    # Order is kept: CLIP takes its text feature at the largest token, which is the end of text.
    vocabulary, compact = np.unique(ids, return_inverse=True)
    return compact.reshape(ids.shape).tolist(), len(vocabulary)
