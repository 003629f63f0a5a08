"""The two towers of a small open_clip CLIP in numpy, for what a fit trained and everybody else only asks.

`open_clip.model.CLIP` with a ModifiedResNet, evaluated on its own weights by their own names. A few crops take
milliseconds, and nobody who scores an image waits the three seconds in which torch, torchvision and timm are imported.
tests/test_small_clip.py holds it against open_clip.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import erf, softmax

Array = NDArray[np.float32]
Weights = Mapping[str, NDArray[np.generic]]

EPSILON = np.float32(1e-5)  # of torch's normalisations
STAGES = 4


class SmallClip:
    """Unit-length features of crops and of prompts."""

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        """`config` are open_clip's arguments; `weights` have the names of its model.

        All methods raise ValueError where a weight is missing or does not fit, and name it.
        """
        self._weights = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}
        vision, text = config["vision_cfg"], config["text_cfg"]
        self._heads = vision["width"] * 32 // vision["head_width"]
        self._blocks = [int(count) for count in vision["layers"]]
        if len(self._blocks) != STAGES:
            raise ValueError(f"the image tower has {len(self._blocks)} stages, expected {STAGES}")
        self._text_heads, self._text_blocks = int(text["heads"]), int(text["layers"])

    @property
    def logit_scale(self) -> np.float32:
        return np.float32(np.exp(self._of("logit_scale")))

    def encode_image(self, images: Array) -> Array:
        """(N, size, size, 3) in [-1, 1] -> (N, E)."""
        x = images
        for i, stride in ((1, 2), (2, 1), (3, 1)):
            x = _relu(self._norm(self._convolve(x, f"visual.conv{i}", stride), f"visual.bn{i}"))
        x = _pooled(x, 2)
        for stage in range(STAGES):
            for block in range(self._blocks[stage]):
                x = self._bottleneck(x, f"visual.layer{stage + 1}.{block}.", 2 if stage and not block else 1)
        return _unit(self._attention_pool(x.reshape(len(x), -1, x.shape[-1])))

    def encode_text(self, tokens: Sequence[Sequence[int]]) -> Array:
        """(K, L) token numbers -> (K, E)."""
        numbers = np.asarray(tokens)
        embedding = self._of("token_embedding.weight", -1, -1)
        if numbers.max() >= len(embedding):
            raise ValueError(f"token_embedding.weight has {len(embedding)} rows, but there is a token {numbers.max()}")
        x = embedding[numbers] + self._of("positional_embedding", numbers.shape[1], embedding.shape[1])
        mask = np.triu(np.full((numbers.shape[1],) * 2, -np.inf, dtype=np.float32), 1)  # a token sees those before it
        for i in range(self._text_blocks):
            name = f"transformer.resblocks.{i}."
            q, k, v = np.split(self._linear(self._layer_norm(x, f"{name}ln_1"), f"{name}attn.in_proj_"), 3, axis=-1)
            x = x + self._linear(_attention(q, k, v, self._text_heads, mask), f"{name}attn.out_proj.")
            hidden = self._linear(self._layer_norm(x, f"{name}ln_2"), f"{name}mlp.c_fc.")
            hidden = np.asarray(hidden * (1 + erf(hidden / np.float32(np.sqrt(2)))) / 2, dtype=np.float32)
            x = x + self._linear(hidden, f"{name}mlp.c_proj.")
        ends = self._layer_norm(x, "ln_final")[np.arange(len(x)), numbers.argmax(axis=1)]
        return _unit(ends @ self._of("text_projection", ends.shape[-1], -1))

    def _of(self, name: str, *shape: int) -> Array:
        """The weights `name`, which are to have this shape; -1 stands for any length."""
        if (found := self._weights.get(name)) is None:
            raise ValueError(f"there is no {name}")
        if len(found.shape) != len(shape) or any(a not in (b, -1) for a, b in zip(shape, found.shape, strict=True)):
            raise ValueError(f"{name} has the shape {found.shape}, expected {shape}")
        return found

    def _linear(self, x: Array, name: str) -> Array:
        weight = self._of(f"{name}weight", -1, x.shape[-1])
        return x @ weight.T + self._of(f"{name}bias", len(weight))

    def _layer_norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        result: Array = scaled * self._of(f"{name}.weight", x.shape[-1]) + self._of(f"{name}.bias", x.shape[-1])
        return result

    def _norm(self, x: Array, name: str) -> Array:
        """Batch normalisation by the statistics of the training."""
        parts = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (self._of(f"{name}.{part}", x.shape[-1]) for part in parts)
        result: Array = (x - mean) * (weight / np.sqrt(variance + EPSILON)) + bias
        return result

    def _convolve(self, x: Array, name: str, stride: int = 1) -> Array:
        """(N, H, W, C) by kernels (O, C, k, k), with a margin of zeros that keeps the size."""
        kernels = self._of(f"{name}.weight", -1, x.shape[-1], -1, -1)
        side = kernels.shape[-1]
        margin = side // 2
        padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        windows = sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]  # (N, H', W', C, k, k)
        rows = windows.reshape(*windows.shape[:3], -1)
        return rows @ kernels.reshape(len(kernels), -1).T

    def _bottleneck(self, x: Array, name: str, stride: int) -> Array:
        out = _relu(self._norm(self._convolve(x, f"{name}conv1"), f"{name}bn1"))
        out = _pooled(_relu(self._norm(self._convolve(out, f"{name}conv2"), f"{name}bn2")), stride)
        out = self._norm(self._convolve(out, f"{name}conv3"), f"{name}bn3")
        if f"{name}downsample.0.weight" in self._weights:
            x = self._norm(self._convolve(_pooled(x, stride), f"{name}downsample.0"), f"{name}downsample.1")
        return _relu(out + x)

    def _attention_pool(self, x: Array) -> Array:
        """(N, places, C) -> (N, E): what the mean of all places attends to."""
        x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        x = x + self._of("visual.attnpool.positional_embedding", *x.shape[1:])
        q, k, v = (
            self._linear(part, f"visual.attnpool.{p}_proj.") for p, part in (("q", x[:, :1]), ("k", x), ("v", x))
        )
        return self._linear(_attention(q, k, v, self._heads), "visual.attnpool.c_proj.")[:, 0]


def _attention(q: Array, k: Array, v: Array, heads: int, mask: Array | None = None) -> Array:
    """Scaled dot products of queries (N, Q, C) with keys and values (N, L, C), in so many heads; `mask` (Q, L) is added."""

    def split(x: Array) -> Array:  # (N, heads, length, C / heads)
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    logits = split(q) @ split(k).swapaxes(2, 3) / np.float32(np.sqrt(q.shape[-1] // heads))
    weights = softmax(logits if mask is None else logits + mask, axis=-1)
    return np.asarray((weights @ split(v)).transpose(0, 2, 1, 3).reshape(q.shape), dtype=np.float32)


def _pooled(x: Array, side: int) -> Array:
    """(N, H, W, C): means over squares of `side`; what is left over at the end is dropped."""
    if side == 1:
        return x
    n, height, width, channels = x.shape
    high, wide = height // side, width // side
    squares = x[:, : high * side, : wide * side].reshape(n, high, side, wide, side, channels)
    result: Array = squares.mean(axis=(2, 4))
    return result


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _unit(x: Array) -> Array:
    result: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.float32(1e-12))
    return result
