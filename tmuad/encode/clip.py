"""CLIP as encoder: intermediate layers of the whole image for the patch bank, pooled masked crops for the object bank.

The model is open_clip's. It was trained at one image size; other sizes get its position embeddings interpolated as
open_clip interpolates them when it loads weights.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import masks, weights
from tmuad.cache import fingerprint
from tmuad.config_models import ClipEncoderParams, ComputeParams
from tmuad.describe.crops import crops_of
from tmuad.encode import ObjectFeatures, PatchFeatures
from tmuad.errors import ParameterError
from tmuad.masks import Runs
from tmuad.models.runtime import device_of, in_batches, inference, loaded, precision_of

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CUTTERS = 4  # threads that cut objects out
CROPS = 16  # crops that take about the memory of one image at 448 px
TINY: dict[str, Any] = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class ClipEncoder:
    """Patch and object encoder; see `tmuad.encode`. Everything is done for many images at once."""

    name = "clip"

    def __init__(self, params: ClipEncoderParams, compute: ComputeParams) -> None:
        self.params, self.compute = params, compute
        self.visual = load_visual(params.model, params.weights, compute)
        self.layers = tuple(f"clip-{layer}" for layer in params.layers)
        depth, patch = len(self.visual.transformer.resblocks), int(self.visual.patch_size[0])
        check_layers("encode.clip", params.layers, depth)
        check_size("encode.clip.size", params.size, patch)
        check_size("encode.clip.crop_size", params.crop_size, patch)
        self._positions = {s: positions(self.visual, s) for s in {params.size, params.crop_size}}

    def encode_patches(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Features (h, w, D) float16 per layer of each image (S, S, 3); one forward serves all layers."""
        return in_batches(self._patches, list(images), self.compute.batch, "CLIP patches")

    def _patches(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        size = self.params.size
        side = size // int(self.visual.patch_size[0])
        with inference(self.compute):
            x = self._embed(as_input(images, size).to(device_of(self.compute)))
            wanted = [layer - 1 for layer in self.params.layers]
            _, found = self.visual.transformer.forward_intermediates(x, indices=wanted, stop_early=True)
        tokens = [layer[:, 1:].half().cpu().numpy().reshape(len(images), side, side, -1) for layer in found]
        order = sorted(range(len(wanted)), key=wanted.__getitem__)  # they come by depth
        names = [self.layers[i] for i in order]
        return [{name: layer[i] for name, layer in zip(names, tokens, strict=True)} for i in range(len(images))]

    def encode_crops(self, crops: NDArray[np.uint8]) -> ObjectFeatures:
        """Pooled features (n, D) of crops (n, size, size, 3)."""
        width = int(self.visual.proj.shape[1])
        if not len(crops):
            return np.zeros((0, width), dtype=np.float32)
        return np.stack(in_batches(self._pooled, list(crops), CROPS * self.compute.batch, "CLIP crops"))

    def _pooled(self, crops: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        with inference(self.compute):
            x = self._embed(as_input(crops, self.params.crop_size).to(device_of(self.compute)))
            pooled, _ = self.visual._pool(self.visual.transformer(x))
            features = pooled @ self.visual.proj
        return list(features.float().cpu().numpy())

    def encode_objects(
        self, images: Sequence[NDArray[np.uint8]], segments: Sequence[Sequence[Runs]]
    ) -> list[ObjectFeatures]:
        """Features (n, D) of the `segments` of each image; the crops of all images share their batches."""
        return encode_cut(self.encode_crops, images, segments, self.params.crop_size)

    def _embed(self, x: "torch.Tensor") -> "torch.Tensor":
        """`VisionTransformer._embeds` with the positions of this size: (n, 3, s, s) -> (n, 1 + h w, D)."""
        import torch

        visual, grid = self.visual, self._positions[x.shape[-1]]
        patches = visual.conv1(x).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        tokens: torch.Tensor = visual.ln_pre(torch.cat([first, patches], dim=1) + grid.to(patches.dtype))
        return tokens


def encode_cut(
    encode: Callable[[NDArray[np.uint8]], ObjectFeatures],
    images: Sequence[NDArray[np.uint8]],
    segments: Sequence[Sequence[Runs]],
    size: int,
) -> list[ObjectFeatures]:
    """What `encode` makes of the `segments` of each image, cut out on black as crops (n, size, size, 3)."""

    def cut(image: NDArray[np.uint8], runs: Sequence[Runs]) -> NDArray[np.uint8]:
        shape = (image.shape[0], image.shape[1])
        return crops_of(image, (masks.decode(r, shape) for r in runs), size, (0, 0, 0))

    if not images:
        return []
    with ThreadPoolExecutor(CUTTERS) as pool:  # Pillow and numpy release the lock for most of a crop
        found = list(pool.map(cut, images, segments))
    return np.split(encode(np.concatenate(found)), np.cumsum([len(c) for c in found])[:-1])


def clip_fingerprint(params: ClipEncoderParams, compute: ComputeParams) -> str:
    from tmuad.describe import crops

    here = sys.modules[__name__]
    return fingerprint(here, crops, params, weights.digest(params.weights, compute), precision_of(compute))


def load_visual(model: str, weights_name: str, compute: ComputeParams) -> Any:
    """CLIP's image tower on its device, loaded once per process; the text tower is let go."""
    key = ("clip", model, weights_name, compute.device)
    return loaded(key, lambda: build_clip(model, weights_name, compute).visual.to(device_of(compute)).eval())


def clip_config(model: str) -> dict[str, Any]:
    """open_clip's configuration `model`.

    Raises:
        ParameterError: there is none.
    """
    if model == "tiny":
        return TINY
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None or "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
        raise ParameterError(
            f"CLIP model {model!r}: not an open_clip configuration of two plain towers, as ViT-L-14-quickgelu"
        )
    return dict(config)


def build_clip(model: str, weights_name: str = "", compute: ComputeParams | None = None) -> Any:
    """An open_clip `CLIP` on the CPU; without a weight name its tensors are whatever torch made them (or meta)."""
    import torch
    from open_clip.model import CLIP

    seed = weights.random_seed(weights_name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        clip = CLIP(**clip_config(model))
    if weights_name and seed is None:
        path = weights.paths(weights_name, compute or ComputeParams())[0]
        weights.load_into(clip, weights.read_state(path), path, ignored=("attn_mask", "input_resolution"))
    return clip


def positions(visual: Any, size: int) -> "torch.Tensor":
    """Position embeddings (1 + h w, D) of an image of `size` px."""
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    side = size // int(visual.patch_size[0])
    state = {"visual.positional_embedding": visual.positional_embedding.detach()}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(side, side))))
    resized: torch.Tensor = state["visual.positional_embedding"]
    return resized


def as_input(images: Sequence[NDArray[np.uint8]], size: int) -> "torch.Tensor":
    """(n, S, S, 3) uint8 -> (n, 3, size, size), standardised as CLIP was trained."""
    return standardised(images, size, MEAN, STD)


def standardised(
    images: Sequence[NDArray[np.uint8]], size: int, mean: Sequence[float], std: Sequence[float]
) -> "torch.Tensor":
    """Images of one size, resized where they have another (bicubic), less `mean`, over `std`."""
    import torch

    pixels = torch.as_tensor(np.stack(list(images))).permute(0, 3, 1, 2).float().div(255)
    if pixels.shape[-1] != size:
        pixels = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def check_layers(section: str, layers: Sequence[int], depth: int) -> None:
    """Raises ParameterError for a layer that the model has not, or one given twice."""
    wrong = [layer for layer in layers if not 1 <= layer <= depth]
    if wrong or len(set(layers)) < len(layers):
        raise ParameterError(
            f"{section}.layers: {list(layers)}; this model has the blocks 1 to {depth}, each at most once"
        )


def check_size(name: str, size: int, patch: int) -> None:
    """Raises ParameterError for a size that is no multiple of the patch's."""
    if size % patch:
        raise ParameterError(
            f"{name}: {size} is no multiple of the model's patches of {patch} px; take {size // patch * patch}"
        )
