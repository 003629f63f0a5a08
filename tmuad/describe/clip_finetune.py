"""Fine-tuning of a pre-trained CLIP on masked crops and their classes' prompts.

Sampling, held-out crops, batches and augmentation depend on the keys' hashes and the seed alone, so that the same crops in
any order give the same model (on one CPU the same bytes). After every epoch everything that the rest depends on goes to a
checkpoint; a run that was killed goes on from there and ends with the same weights.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tmuad import weights
from tmuad.config_models import ClipFinetuneParams, ComputeParams
from tmuad.describe.classifier import reproducible_torch
from tmuad.describe.clip_classifier import clip_spec, prompt_tokens
from tmuad.describe.finetune import CURVE, HELD_OUT, MIN_TO_HOLD_OUT, _augment, contrastive_loss
from tmuad.encode.clip import as_input, build_clip
from tmuad.errors import DeviceError, ParameterError
from tmuad.models.runtime import device_errors, device_of, dtype_of, is_out_of_memory, precision_of

log = logging.getLogger(__name__)

CHECKPOINT = "tmuad-finetune-checkpoint"


@dataclass(frozen=True)
class Sample:
    """Which crops take part, as positions in the list they were chosen from."""

    classes: tuple[str, ...]
    chosen: list[int]  # by class, then by the hash of the key
    targets: NDArray[np.int64]  # (n,) class of each chosen crop
    held_out: NDArray[np.bool_]  # (n,)

    def digest(self, keys: Sequence[str]) -> str:
        rows = [f"{keys[i]} {t} {h}" for i, t, h in zip(self.chosen, self.targets, self.held_out, strict=True)]
        return hashlib.sha256("\n".join([*self.classes, *rows]).encode()).hexdigest()


@dataclass
class Progress:
    """Where a training stands after an epoch."""

    epoch: int = 0
    step: int = 0
    best: float = math.inf
    stale: int = 0
    rows: list[list[float]] = field(default_factory=list)  # of CURVE


@dataclass(frozen=True)
class TunedClip:
    """A fine-tuned CLIP, as `clip_classifier.save` writes it."""

    spec: dict[str, Any]
    weights: dict[str, Tensor]
    curve: pd.DataFrame  # one row per epoch; columns CURVE
    held_out_accuracy: float | None


def sample(labels: Sequence[str], keys: Sequence[str], classes: Sequence[str], limit: int) -> Sample:
    """Up to `limit` crops of each class and which of them are held out, both by the keys' hashes.

    A class without a crop stays: the model knows its prompt, as before the training.
    """
    hashes = [hashlib.sha256(key.encode()).digest() for key in keys]
    chosen: list[int] = []
    targets: list[int] = []
    held_out: list[bool] = []
    for index, name in enumerate(classes):
        members = sorted((i for i, label in enumerate(labels) if label == name), key=lambda i: hashes[i])[:limit]
        # Sampled by the head of the hash, held out by its tail: the two must not depend on one another.
        out = [int.from_bytes(hashes[i][-4:], "big") < HELD_OUT * 2**32 for i in members]
        if len(members) < MIN_TO_HOLD_OUT or all(out):
            out = [False] * len(members)
        chosen += members
        targets += [index] * len(members)
        held_out += out
        if not members:
            log.warning("no object of the class '%s' was found; it is told by its prompt alone", name)
    return Sample(tuple(classes), chosen, np.array(targets, dtype=np.int64), np.array(held_out, dtype=np.bool_))


def finetune_clip(
    crops: NDArray[np.uint8],
    sampled: Sample,
    key: str,
    params: ClipFinetuneParams,
    compute: ComputeParams,
    folder: Path,
) -> TunedClip:
    """Train on the sampled `crops` (n, size, size, 3); `key` stands for them in the name of the checkpoint in `folder`.

    The weights are those of the epoch with the least held-out loss. With fewer than two classes that have crops there is
    nothing to tell apart, and the pre-trained weights stay.

    Raises:
        ParameterError: the training diverged, or a class has no readable name.
        DeviceError: the batch does not fit into memory, or the GPU failed.
    """
    spec = clip_spec(sampled.classes, params, weights.digest(params.weights, compute))
    tokens = prompt_tokens(sampled.classes)
    model = build_clip(params.model, params.weights, compute)
    if len(set(sampled.targets.tolist())) < 2:
        return TunedClip(spec, dict(model.state_dict()), pd.DataFrame({name: [] for name in CURVE}), None)
    trainer = _Trainer(model, crops, sampled, tokens, params, compute)
    mark = hashlib.sha256(f"{key} {params!r} {spec} {precision_of(compute)}".encode()).hexdigest()[:32]
    checkpoint = folder / f"{mark}.safetensors"
    with _reproducible(trainer.device), torch.random.fork_rng(devices=[]), device_errors():
        torch.manual_seed(params.seed)
        try:
            trainer.run(checkpoint)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"finetune.batch_size: {params.batch_size} crops of {params.crop_size} px do not fit into memory; lower it"
            ) from error
    checkpoint.unlink(missing_ok=True)
    rows = trainer.progress.rows
    best = min(rows, key=lambda row: row[2])
    accuracy = None if math.isnan(best[3]) else best[3]
    curve = pd.DataFrame(rows, columns=CURVE).astype({"epoch": int})
    return TunedClip(spec, trainer.kept, curve, accuracy)


class _Trainer:
    """One training; `run` is all."""

    def __init__(
        self, model: Any, crops: NDArray[np.uint8], sampled: Sample, tokens: Tensor, params: ClipFinetuneParams,
        compute: ComputeParams,
    ) -> None:  # fmt: skip
        self.device, self.dtype = device_of(compute), dtype_of(compute)
        self.model, self.params, self.crops = model.to(self.device), params, crops
        self.tokens, self.targets = tokens.to(self.device), torch.as_tensor(sampled.targets)
        self.held_out = torch.as_tensor(sampled.held_out)
        self.members = [torch.nonzero((self.targets == c) & ~self.held_out)[:, 0] for c in range(len(sampled.classes))]
        self.members = [m for m in self.members if len(m)]
        self.generator = torch.Generator().manual_seed(params.seed)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=params.learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=params.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        per_epoch = max(params.batch_size, sum(len(m) for m in self.members))
        self.per_class = math.ceil(per_epoch / len(self.members))
        self.steps = per_epoch // params.batch_size
        self.progress, self.kept = Progress(), dict[str, Tensor]()

    def run(self, checkpoint: Path) -> None:
        self._resume(checkpoint)
        while self.progress.epoch < self.params.epochs and self.progress.stale < self.params.patience:
            self._epoch()
            self._save(checkpoint)

    def _epoch(self) -> None:
        self.model.train()
        losses = [self._step(batch) for batch in self._batches()]
        held_out_loss, accuracy = self._evaluate()
        p = self.progress
        p.epoch += 1
        p.rows.append([p.epoch, float(np.mean(losses)), held_out_loss, accuracy])
        if not math.isfinite(losses[-1] + held_out_loss):
            rate = self.params.learning_rate
            raise ParameterError(f"finetune.learning_rate: diverged in epoch {p.epoch} at {rate}; lower it")
        log.info("epoch %d: loss %.4f, held out %.4f, accuracy %.3f", *p.rows[-1])
        p.stale = 0 if held_out_loss < p.best else p.stale + 1
        if held_out_loss < p.best:
            p.best = held_out_loss
            self.kept = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def _step(self, batch: Tensor) -> float:
        total = self.params.epochs * self.steps
        at = self.progress.step
        warm = min(1.0, (at + 1) / self.params.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = self.params.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * at / total))
        images = as_input(list(self.crops[batch.numpy()]), self.params.crop_size)
        images = _augment(images, self.generator).to(self.device)
        with self._mixed():
            features = self.model.encode_image(images, normalize=True)
            prompts = self.model.encode_text(self.tokens, normalize=True)
            logits = self.model.logit_scale.exp() * features @ prompts.T
        loss = contrastive_loss(logits.float(), self.targets[batch].to(self.device))
        self.optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))  # as CLIP
        self.progress.step += 1
        return float(loss.item())

    def _batches(self) -> list[Tensor]:
        """Positions of an epoch's crops: all classes equally often, and within a class all crops."""
        draws = []
        for members in self.members:
            rounds = math.ceil(self.per_class / len(members))
            order = torch.cat([members[torch.randperm(len(members), generator=self.generator)] for _ in range(rounds)])
            draws.append(order[: self.per_class])
        epoch = torch.cat(draws)
        epoch = epoch[torch.randperm(len(epoch), generator=self.generator)]
        return list(epoch[: self.steps * self.params.batch_size].reshape(self.steps, -1))

    @torch.no_grad()
    def _evaluate(self) -> tuple[float, float]:
        """Cross entropy of the watched crops, all classes of one weight; accuracy on the held-out ones, NaN if none.

        Watched are the held-out crops of a class, or those it trains on where none is held out.
        """
        self.model.eval()
        logits = []
        with self._mixed():
            prompts = self.model.encode_text(self.tokens, normalize=True)
            for start in range(0, len(self.crops), self.params.batch_size):
                crops = list(self.crops[start : start + self.params.batch_size])
                features = self.model.encode_image(
                    as_input(crops, self.params.crop_size).to(self.device), normalize=True
                )
                logits.append((self.model.logit_scale.exp() * features @ prompts.T).float().cpu())
        every = torch.cat(logits)
        losses = functional.cross_entropy(every, self.targets, reduction="none")
        balanced = []
        for index in sorted(set(self.targets.tolist())):
            mine = self.targets == index
            watched = mine & self.held_out if bool((mine & self.held_out).any()) else mine
            balanced.append(losses[watched].mean().item())
        correct = (every.argmax(dim=1) == self.targets)[self.held_out]
        return float(np.mean(balanced)), float(correct.float().mean()) if len(correct) else math.nan

    def _mixed(self) -> Any:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _save(self, checkpoint: Path) -> None:
        from safetensors.torch import save_file

        state = {f"model.{name}": value.detach().cpu() for name, value in self.model.state_dict().items()}
        state |= {f"kept.{name}": value for name, value in self.kept.items()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            state |= {
                f"{key}.{name}": moments[key].detach().cpu() for key in ("step", "exp_avg", "exp_avg_sq") if moments
            }
        state["generator"] = self.generator.get_state()
        header = {"progress": asdict(self.progress), "scaler": self.scaler.state_dict()}
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = checkpoint.with_name(f".{checkpoint.name}.part")
        save_file({n: v.clone().contiguous() for n, v in state.items()}, part, {CHECKPOINT: json.dumps(header)})
        part.replace(checkpoint)

    def _resume(self, checkpoint: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(checkpoint, framework="pt") as file:
                header = json.loads((file.metadata() or {})[CHECKPOINT])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except FileNotFoundError:
            return
        except (SafetensorError, OSError, KeyError, ValueError):
            log.warning("%s: not readable; the training starts anew", checkpoint)
            return
        self.model.load_state_dict(_below(state, "model."))
        self.kept = _below(state, "kept.")
        for name, parameter in self.model.named_parameters():
            if f"exp_avg.{name}" in state:
                self.optimizer.state[parameter] = {
                    "step": state[f"step.{name}"],
                    **{key: state[f"{key}.{name}"].to(self.device) for key in ("exp_avg", "exp_avg_sq")},
                }
        self.generator.set_state(state["generator"])
        self.scaler.load_state_dict(header["scaler"])
        self.progress = Progress(**header["progress"])
        log.info("going on after epoch %d", self.progress.epoch)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """On a CPU the same bytes whatever its cores; on a GPU deterministic kernels where there are any."""
    if device.type == "cpu":
        with reproducible_torch():
            yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
