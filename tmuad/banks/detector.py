"""Which deviations matter: a small network that tells simulated defects from normal patches.

Distances to the bank treat every deviation alike. The network has seen, on this very surface, what harmless variation
looks like and what a scratch, spot or graft would change, and weighs the channels accordingly.
It is eight fully connected nets of two hidden layers in numpy, on the principal axes of the features: a fit takes half a
minute and its bytes follow from the seed. Axes along which patches vary little are stretched: a fault need not be large to be
unusual, and a net finds sooner what all its inputs say alike loudly.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.parallel import fork_map

Matrix = NDArray[np.float32]

HIDDEN = (128, 32)
NETS = 8  # averaged: a single one's AUROC differs by some 3 points from start to start
BATCH = 1024
EPOCHS, STEPS = 12, 5000  # passes over all patches, in so many batches at most: with fewer they are far from done
RATE = 4e-3  # peak of the learning rate, which rises and falls once
DECAY = 1e-2
AXES = 192  # principal axes that are kept, of some 600 features
STRETCH = 0.5  # 0 keeps the axes' variances, 1 makes them equal
NOISE = 0.1  # variance of a standardised feature below which an axis is stretched no further
ROWS = 10_000  # patches of either kind that the axes are found from
CLIP = 6.0  # standard deviations: beyond, a channel says no more
BLOCK = 512  # rows standardised and projected at once: they stay in the processor's cache
SCORED = 65536  # rows scored at once
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Detector:
    """log-odds of a patch being defective, as far as simulated defects can teach it."""

    mean: Matrix  # (D,)
    scale: Matrix  # (D,)
    axes: Matrix  # (D, R) of the standardised features
    nets: tuple[tuple[Matrix, ...], ...]  # per net: W1, b1, W2, b2, W3, b3

    @classmethod
    def fit(cls, defects: Matrix, normals: Matrix, seed: int) -> "Detector":
        """From features of patches with simulated defects (M, D) and of normal patches (N, D), both non-empty."""
        mean = normals.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = (1 / (normals.std(axis=0, dtype=np.float64) + 0.02)).astype(np.float32)
        axes = _principal_axes(
            np.concatenate([_standardised(x[:: -(-len(x) // ROWS)], mean, scale) for x in (defects, normals)])
        )
        positive, negative = (_projected(x, mean, scale, axes) for x in (defects, normals))
        nets = fork_map(lambda i: _train(positive, negative, seed + i), range(NETS), chunk=1)
        return cls(mean, scale, axes, tuple(nets))

    def __call__(self, features: Matrix) -> Matrix:
        """(N, D) -> (N,)."""
        logits = np.empty(len(features), dtype=np.float32)
        for start in range(0, len(features), SCORED):
            rows = _projected(features[start : start + SCORED], self.mean, self.scale, self.axes)
            logits[start : start + SCORED] = np.mean([_forward(net, rows)[-1][:, 0] for net in self.nets], axis=0)
        return logits


def _standardised(features: Matrix, mean: Matrix, scale: Matrix, out: Matrix | None = None) -> Matrix:
    """(N, D) in standard deviations."""
    rows: Matrix = np.subtract(features, mean, out=out)
    rows *= scale
    np.minimum(rows, np.float32(CLIP), out=rows)  # half the time of `clip`
    return np.maximum(rows, np.float32(-CLIP), out=rows)


def _projected(features: Matrix, mean: Matrix, scale: Matrix, axes: Matrix) -> Matrix:
    """(N, D) -> (N, R) on the principal axes, block by block: whole, the standardised features would cross memory thrice."""
    result = np.empty((len(features), axes.shape[1]), dtype=np.float32)
    block = np.empty((BLOCK, features.shape[1]), dtype=np.float32)
    for start in range(0, len(features), BLOCK):
        rows = features[start : start + BLOCK]
        np.matmul(_standardised(rows, mean, scale, out=block[: len(rows)]), axes, out=result[start : start + len(rows)])
    return result


def _principal_axes(rows: Matrix) -> Matrix:
    """(D, R) that takes features to their principal axes, the stretched ones larger; R is AXES, or D if that is less."""
    centred = rows - rows.mean(axis=0)
    variances, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(rows))
    variances, vectors = variances[::-1][:AXES], vectors[:, ::-1][:, :AXES]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    stretched = vectors * np.sign(largest) / (np.maximum(variances, 0) + NOISE) ** (STRETCH / 2)
    return np.ascontiguousarray(stretched, dtype=np.float32)


def _forward(net: tuple[Matrix, ...], rows: Matrix) -> list[Matrix]:
    """Activations of every layer, the logits (N, 1) last."""
    first = np.maximum(rows @ net[0] + net[1], 0)
    second = np.maximum(first @ net[2] + net[3], 0)
    return [rows, first, second, second @ net[4] + net[5]]


def _gradient(net: tuple[Matrix, ...], rows: Matrix, target: Matrix) -> list[NDArray[Any]]:
    """Of the mean cross-entropy to `target` (N, 1) in {0, 1}, per array of the net."""
    *activations, logits = _forward(net, rows)
    error = (1 / (1 + np.exp(-logits)) - target) / np.float32(len(rows))
    gradients: list[NDArray[Any]] = []
    for layer in (2, 1, 0):
        gradients = [activations[layer].T @ error, error.sum(axis=0), *gradients]
        if layer:
            error = (error @ net[2 * layer].T) * (activations[layer] > 0)
    return gradients


def _train(positive: Matrix, negative: Matrix, seed: int) -> tuple[Matrix, ...]:
    """AdamW on batches of half defects, half normal patches."""
    rng = np.random.default_rng(seed)
    sizes = (positive.shape[1], *HIDDEN, 1)
    net: list[Matrix] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        net += [rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)).astype(np.float32), np.zeros(fan_out, np.float32)]
    moments = [(np.zeros_like(array), np.zeros_like(array)) for array in net]
    half = BATCH // 2
    steps = min(max(1, EPOCHS * (len(positive) + len(negative)) // BATCH), STEPS)
    target = np.repeat(np.array([1, 0], dtype=np.float32), half)[:, None]
    for step in range(steps):
        rows = np.concatenate(
            [positive[rng.integers(0, len(positive), half)], negative[rng.integers(0, len(negative), half)]]
        )
        progress = (step + 1) / steps
        rate = np.float32(RATE * min(progress / 0.3, 0.5 * (1 + np.cos(np.pi * max(0.0, progress - 0.3) / 0.7)) + 1e-3))
        for array, gradient, (first, second) in zip(net, _gradient(tuple(net), rows, target), moments, strict=True):
            first[...] += (1 - BETAS[0]) * (gradient - first)
            second[...] += (1 - BETAS[1]) * (gradient**2 - second)
            unbiased = first / (1 - BETAS[0] ** (step + 1))
            size = np.sqrt(second / (1 - BETAS[1] ** (step + 1))) + 1e-8
            array[...] -= rate * (unbiased / size + np.float32(DECAY) * array)
    return tuple(net)
