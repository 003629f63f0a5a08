"""DINOv2 as encoder: hidden states of several blocks for the patch bank, the class token of masked crops for the object bank.

The model is that of transformers.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import weights
from tmuad.cache import fingerprint
from tmuad.config_models import ComputeParams, DinoEncoderParams
from tmuad.describe import crops as crops_module
from tmuad.encode import ObjectFeatures, PatchFeatures
from tmuad.encode import clip as clip_module
from tmuad.encode.clip import CROPS, check_layers, check_size, encode_cut, standardised
from tmuad.masks import Runs
from tmuad.models.runtime import device_of, in_batches, inference, loaded, precision_of

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_COMMON: dict[str, Any] = {"image_size": 518, "patch_size": 14, "mlp_ratio": 4, "layerscale_value": 1.0}
PRESETS: dict[str, dict[str, Any]] = {
    "giant": _COMMON
    | {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
    "large": _COMMON | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "base": _COMMON | {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "small": _COMMON | {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "tiny": _COMMON
    | {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 40, "patch_size": 8},
}


class DinoEncoder:
    """Patch and object encoder; see `tmuad.encode`. Everything is done for many images at once."""

    name = "dinov2"

    def __init__(self, params: DinoEncoderParams, compute: ComputeParams) -> None:
        self.params, self.compute = params, compute
        self.model = load_dino(params.model, params.weights, compute)
        self.layers = tuple(f"dinov2-{layer}" for layer in params.layers)
        check_layers("encode.dinov2", params.layers, self.model.config.num_hidden_layers)
        check_size("encode.dinov2.size", params.size, self.model.config.patch_size)
        check_size("encode.dinov2.crop_size", params.crop_size, self.model.config.patch_size)

    def encode_patches(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Features (h, w, D) float16 per layer of each image (S, S, 3); one forward serves all layers."""
        return in_batches(self._patches, list(images), self.compute.batch, "DINOv2 patches")

    def _patches(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        size = self.params.size
        side = size // self.model.config.patch_size
        wanted = dict(zip(self.params.layers, self.layers, strict=True))
        found: dict[str, NDArray[np.float16]] = {}
        with inference(self.compute):
            x = self.model.embeddings(standardised(images, size, MEAN, STD).to(device_of(self.compute)))
            for depth, block in enumerate(self.model.encoder.layer, 1):  # only the wanted states are kept
                x = _first(block(x))
                if depth in wanted:
                    found[wanted[depth]] = x[:, 1:].half().cpu().numpy().reshape(len(images), side, side, -1)
                if len(found) == len(wanted):
                    break
        return [{name: layer[i] for name, layer in found.items()} for i in range(len(images))]

    def encode_crops(self, crops: NDArray[np.uint8]) -> ObjectFeatures:
        """Class tokens (n, D), after the last norm, of crops (n, size, size, 3)."""
        if not len(crops):
            return np.zeros((0, self.model.config.hidden_size), dtype=np.float32)
        return np.stack(in_batches(self._pooled, list(crops), CROPS * self.compute.batch, "DINOv2 crops"))

    def _pooled(self, crops: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        pixels = standardised(crops, self.params.crop_size, MEAN, STD).to(device_of(self.compute))
        with inference(self.compute):
            pooled = self.model(pixels).pooler_output
        return list(pooled.float().cpu().numpy())

    def encode_objects(
        self, images: Sequence[NDArray[np.uint8]], segments: Sequence[Sequence[Runs]]
    ) -> list[ObjectFeatures]:
        """Features (n, D) of the `segments` of each image; the crops of all images share their batches."""
        return encode_cut(self.encode_crops, images, segments, self.params.crop_size)


def dino_fingerprint(params: DinoEncoderParams, compute: ComputeParams) -> str:
    here = sys.modules[__name__]
    digest = weights.digest(params.weights, compute)
    return fingerprint(here, clip_module, crops_module, params, digest, precision_of(compute))


def load_dino(model: str, weights_name: str, compute: ComputeParams) -> Any:
    """The model on its device, loaded once per process."""
    key = ("dinov2", model, weights_name, compute.device)
    return loaded(key, lambda: build_dino(model, weights_name, compute).to(device_of(compute)).eval())


def build_dino(model: str, weights_name: str = "", compute: ComputeParams | None = None) -> Any:
    """A `Dinov2Model` on the CPU; without a weight name its tensors are whatever torch made them (or meta)."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    seed = weights.random_seed(weights_name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        dino = Dinov2Model(Dinov2Config(**PRESETS[model], attn_implementation="sdpa"))
    if weights_name and seed is None:
        path = weights.paths(weights_name, compute or ComputeParams())[0]
        weights.load_into(dino, weights.read_state(path), path, ignored=("embeddings.mask_token",))
    return dino


def _first(output: "torch.Tensor | tuple[torch.Tensor, ...]") -> "torch.Tensor":
    """Blocks return a tuple in some versions of transformers, a tensor in others."""
    return output[0] if isinstance(output, tuple) else output
