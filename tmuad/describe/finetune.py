"""Fine-tuning of the object classifier: a small open_clip model, trained on masked crops and their classes' prompts.

The training is contrastive as CLIP's, with targets that are right when a batch holds many crops of one class: a crop is
matched against one prompt per class, and a prompt against all crops of its class alike.

The same crops in any order give the same bytes: they are sorted, sampled and held out by their keys' hashes, and one
generator with the seed of the parameters draws everything else. A new image therefore changes neither which other crops
are sampled (but for the last, where a class is full) nor which are held out.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tmuad.config import FinetuneParams
from tmuad.describe.classifier import FORMAT, VERSION, as_input, build_model, digest, model_spec, reproducible_torch
from tmuad.errors import ParameterError
from tmuad.parquet import write_artifact

HELD_OUT = 0.2  # share of the crops of a class that are held out
MIN_TO_HOLD_OUT = 5  # a class with fewer crops needs them all for training
CROPS_PER_EPOCH = 512  # as many of each class; what a small class lacks it repeats, under other augmentations
WARM_UP = 40  # steps until the learning rate is reached
# Augmentation, at most: radians; shares of half the side, of the contrast, of half the range of values.
TURN, SHIFT, GAIN, TINT = 0.25, 0.06, 0.2, 0.05
CHANCE = 0.5  # share of the loss of a guess; above it, a loss that stands still is still on its first plateau
SOLVED = 0.02  # a held-out loss below this is as good as 0
CURVE = ["epoch", "loss", "held_out_loss", "held_out_accuracy"]


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier, as `save` writes it."""

    spec: dict[str, Any]  # see classifier.model_spec
    weights: dict[str, NDArray[np.generic]]  # empty if there were no crops
    params: FinetuneParams
    curve: pd.DataFrame  # one row per epoch; columns CURVE
    held_out_accuracy: float | None  # share of 1; None if every class is too small to hold crops out

    @property
    def classes(self) -> list[str]:
        return list(self.spec["classes"])


@dataclass(frozen=True)
class _Split:
    images: Tensor  # (N, 3, size, size), sorted by class and hash of the key
    targets: Tensor  # (N,) class index
    train: list[Tensor]  # per class, the crops to train on
    held_out: Tensor  # crops held out, of all classes
    watch: list[Tensor]  # per class, the crops that tell when to stop: held out, or trained on if none is


def finetune(crops: NDArray[np.uint8], labels: Sequence[str], keys: Sequence[str], params: FinetuneParams) -> Finetuned:
    """Train a classifier on `crops` (N, size, size, 3) of the classes `labels` (N); `keys` (N) name the crops for good.

    The weights are those of the epoch with the least held-out loss. No crop at all gives a classifier without classes,
    one class a classifier that knows only that.

    Raises:
        ParameterError: a class name cannot be used (see `model_spec`), or the training diverged.
        ValueError: crops, labels and keys do not belong together, or a key stands twice.
    """
    size = params.crop_size
    if crops.dtype != np.uint8 or crops.shape != (len(labels), size, size, 3) or len(keys) != len(labels):
        raise ValueError(
            f"crops {crops.dtype} {crops.shape}, {len(labels)} labels and {len(keys)} keys: "
            f"expected uint8 (N, {size}, {size}, 3), N and N"
        )
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice; each crop needs a key of its own")
    spec = model_spec(sorted(set(labels)), size)
    if not spec["classes"]:
        return Finetuned(spec, {}, params, pd.DataFrame({name: [] for name in CURVE}), None)
    with reproducible_torch(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        split = _split(crops, labels, keys, spec["classes"], params.crops_per_class)
        weights, curve = _train(build_model(spec), split, torch.tensor(spec["tokens"]), params)
    best = int(np.argmin(curve["held_out_loss"].to_numpy()))
    accuracy = float(curve["held_out_accuracy"].iloc[best]) if len(split.held_out) else None
    return Finetuned(spec, weights, params, curve, accuracy)


def save(finetuned: Finetuned, path: Path) -> None:
    """Write the classifier to `path`, whole or not at all."""
    write_artifact(path, packed(finetuned))


def packed(finetuned: Finetuned) -> bytes:
    """The classifier as safetensors; the same classifier gives the same bytes."""
    from safetensors.numpy import save as to_bytes

    header = {
        "version": VERSION,
        "digest": digest(finetuned.spec, finetuned.weights),
        "spec": finetuned.spec,
        "params": finetuned.params.model_dump(mode="json"),
        "held_out_accuracy": finetuned.held_out_accuracy,
    }
    # One key: safetensors writes several in an order that differs from process to process.
    data: bytes = to_bytes(dict(finetuned.weights), metadata={FORMAT: json.dumps(header, sort_keys=True)})
    return data


def contrastive_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """CLIP's symmetric loss for repeated captions: `logits` (B, K) of crops against class prompts, `targets` (B,).

    A crop's target is its class. A prompt's target is spread evenly over the crops of its class; a class that is not in
    the batch has none. Both are Kullback-Leibler divergences, so that a perfect model has loss 0.
    """
    match = functional.one_hot(targets, logits.shape[1]).to(logits.dtype).T  # (K, B)
    present = match.sum(dim=1) > 0
    spread = match[present] / match[present].sum(dim=1, keepdim=True)
    to_crops = functional.kl_div(functional.log_softmax(logits.T[present], dim=1), spread, reduction="batchmean")
    return (functional.cross_entropy(logits, targets) + to_crops) / 2


def _split(
    crops: NDArray[np.uint8], labels: Sequence[str], keys: Sequence[str], classes: list[str], limit: int
) -> _Split:
    """Sample up to `limit` crops per class and hold some out, both by the keys' hashes."""
    chosen: list[int] = []
    train, watch, held_out = [], [], []
    hashes = [hashlib.sha256(key.encode()).digest() for key in keys]
    for name in classes:
        members = sorted((i for i, label in enumerate(labels) if label == name), key=lambda i: hashes[i])[:limit]
        # Sampled by the head of the hash, held out by its tail: the two must not depend on one another.
        out = np.array([int.from_bytes(hashes[i][-4:], "big") < HELD_OUT * 2**32 for i in members])
        if len(members) < MIN_TO_HOLD_OUT or out.all():
            out[:] = False
        rank = len(chosen) + np.arange(len(members))
        train.append(torch.tensor(rank[~out]))
        held_out.append(torch.tensor(rank[out]))
        watch.append(held_out[-1] if out.any() else train[-1])
        chosen += members
    targets = torch.tensor([classes.index(labels[i]) for i in chosen])
    return _Split(as_input(crops[chosen]), targets, train, torch.cat(held_out), watch)


def _train(
    model: Any, split: _Split, tokens: Tensor, params: FinetuneParams
) -> tuple[dict[str, NDArray[np.generic]], pd.DataFrame]:
    """Weights of the epoch with the least held-out loss, and the curve."""
    generator = torch.Generator().manual_seed(params.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    epochs = params.epochs if len(split.train) > 1 else 1  # one class leaves nothing to tell apart
    total = epochs * max(1, CROPS_PER_EPOCH // params.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / total))
    )
    rows: list[tuple[int, float, float, float]] = []
    best, stale, weights = math.inf, 0, {}
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for batch in _batches(split.train, params.batch_size, generator):
            features = model.encode_image(_augment(split.images[batch], generator), normalize=True)
            prompts = model.encode_text(tokens, normalize=True)
            loss = contrastive_loss(model.logit_scale.exp() * features @ prompts.T, split.targets[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))  # as CLIP
            losses.append(loss.item())
        _settle_norms(model, split, generator)
        held_out_loss, accuracy = _evaluate(model, split, tokens)
        rows.append((epoch, float(np.mean(losses)), held_out_loss, accuracy))
        if not math.isfinite(losses[-1] + held_out_loss):
            raise ParameterError(
                f"finetune.learning_rate: the training diverged in epoch {epoch} at {params.learning_rate}; lower it"
            )
        learning = held_out_loss > CHANCE * math.log(max(2, len(split.train)))
        stale = 0 if learning or (held_out_loss < 0.9 * best and best > SOLVED) else stale + 1
        if held_out_loss < best:
            best = held_out_loss
            weights = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
        if stale >= (1 if best <= SOLVED else params.patience):  # one more epoch tells a lucky one from a solved task
            break
    return weights, pd.DataFrame(rows, columns=CURVE)


def _batches(train: list[Tensor], batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Crop indices of an epoch, in batches: all classes equally often, and within a class all crops."""
    total = max(batch_size, CROPS_PER_EPOCH)
    draws = []
    for members in train:
        wanted = math.ceil(total / len(train))
        rounds = math.ceil(wanted / len(members))
        order = torch.cat([members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)])
        draws.append(order[:wanted])
    epoch = torch.cat(draws)
    epoch = epoch[torch.randperm(len(epoch), generator=generator)]
    return list(epoch[: total // batch_size * batch_size].reshape(-1, batch_size))


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """`images` (B, 3, size, size), each flipped, turned, shifted, dimmed and tinted a little, at random.

    Not scaled: an object's size is part of its class.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    count = len(images)
    turn, flip = TURN * uniform(count), uniform(count, 2).sign()
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 0, 1] = turn.cos() * flip[:, 0], -turn.sin() * flip[:, 1]
    affine[:, 1, 0], affine[:, 1, 1] = turn.sin() * flip[:, 0], turn.cos() * flip[:, 1]
    affine[:, :, 2] = SHIFT * uniform(count, 2)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * (1 + GAIN * uniform(count, 1, 1, 1)) + TINT * uniform(count, 3, 1, 1)


@torch.no_grad()
def _settle_norms(model: Any, split: _Split, generator: torch.Generator) -> None:
    """Give the batch norms the statistics of the present weights; their running mean lags an epoch or more behind."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches that follow
    model.train()
    for batch in _batches(split.train, 128, generator)[:2]:
        model.encode_image(_augment(split.images[batch], generator))
    for norm in norms:
        norm.momentum = 0.1


@torch.inference_mode()
def _evaluate(model: Any, split: _Split, tokens: Tensor) -> tuple[float, float]:
    """Cross entropy of the watched crops, all classes of one weight; accuracy on the held-out ones, NaN if none."""
    model.eval()
    prompts = model.encode_text(tokens, normalize=True)
    logits = model.logit_scale.exp() * model.encode_image(split.images, normalize=True) @ prompts.T
    losses = functional.cross_entropy(logits, split.targets, reduction="none")
    correct = (logits.argmax(dim=1) == split.targets)[split.held_out]
    balanced = float(np.mean([losses[watched].mean().item() for watched in split.watch]))
    return balanced, float(correct.float().mean()) if len(correct) else math.nan
