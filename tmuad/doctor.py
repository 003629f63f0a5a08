"""`tmuad doctor`: can this machine run these parameters, how large are their models, what is missing, how long will it take.

Parameters are counted on torch's meta device, so that the largest models are counted on the smallest machine. Memory and
time are estimates; the formulas stand at the lines.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmuad import weights
from tmuad.config import Params
from tmuad.config_models import ClipFinetuneParams, GroundedSamParams, SamParams
from tmuad.errors import TmuadError
from tmuad.models.meta import parameters
from tmuad.models.runtime import device_of, dtype_of, precision_of, use_threads
from tmuad.models.slots import GROUPS, ModelSlot, model_slots, weight_names

REACHED = 0.35  # share of the matrix-multiply rate that a model is taken to reach
REGIONS, OBJECTS = 60, 10  # segments and named objects of an image, for the estimates
WORDS = 80  # tokens of an answer
GB = 1e9


@dataclass(frozen=True)
class Size:
    """A model in its slot, counted."""

    slot: ModelSlot
    parameters: int


def examine(params: Params, measure: bool = True) -> dict[str, Any]:
    """Everything that `tmuad doctor --json` prints; `measure` False leaves out what takes a second to time."""
    sizes = [Size(slot, parameters(slot.build)) for slot in model_slots(params)]
    report: dict[str, Any] = {
        "profile": params.profile,
        "machine": _machine(params),
        "parameters": {
            "models": [_row(s) for s in sizes],
            "without_vlm": sum(s.parameters for s in sizes if s.slot.group != "vlm"),
            "total": sum(s.parameters for s in sizes),
            "loaded_once": sum({_identity(s): s.parameters for s in sizes}.values()),
        },
        "memory": _memory(params, sizes),
        "weights": _weights(params, [s.slot for s in sizes]),
    }
    if measure and sizes:
        report["seconds_per_image"] = _seconds(params, sizes)
    report["ready"] = not report["weights"]["missing"] and not report["memory"]["short"]
    return report


def _row(s: Size) -> dict[str, Any]:
    model = f"{s.slot.kind} {s.slot.model}"
    return {"slot": s.slot.name, "model": model, "weights": s.slot.weights, "count": s.parameters}


def _machine(params: Params) -> dict[str, Any]:
    import torch

    device = device_of(params.compute)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": str(device), "gpu": gpu, "cores": os.cpu_count(), "precision": precision_of(params.compute),
        "memory_gb": round(_total_memory(params) / GB, 1), "disk_free_gb": round(shutil.disk_usage(Path()).free / GB, 1),
    }  # fmt: skip


def _total_memory(params: Params) -> int:
    import torch

    device = device_of(params.compute)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _identity(size: Size) -> tuple[str, str, str]:
    """Slots with the same weights share one loaded model; the classifier is fine-tuned and is one of its own."""
    name = size.slot.weights if size.slot.group != "finetune" else f"fine-tuned {size.slot.weights}"
    return size.slot.kind, size.slot.model, name


def _memory(params: Params, sizes: Sequence[Size]) -> dict[str, Any]:
    """Bytes of each group of stages: weights in fp32 (a language model in the chosen precision) and activations."""
    half = 2 if precision_of(params.compute) != "float32" else 4
    needed: dict[str, float] = {}
    for group in GROUPS:
        mine = {_identity(s): s for s in sizes if s.slot.group == group}.values()
        total = 0.0
        for s in mine:
            each = half if s.slot.group == "vlm" else 4
            total += s.parameters * each * (4 if group == "finetune" else 1)  # gradients and two moments beside
        if mine:
            needed[group] = total + _activations(params, group, half)
    has = _total_memory(params)
    disk = sum(_cache_bytes(params).values())
    return {
        "needed_gb": {group: round(value / GB, 2) for group, value in needed.items()},
        "has_gb": round(has / GB, 2),
        "short": any(value > has for value in needed.values()),
        "cache_mb_per_image": round(disk / 1e6, 2),
    }


def _activations(params: Params, group: str, half: int) -> float:
    """Rough peak of one batch: what the widest layer holds, and SAM's attention with its relative positions."""
    batch = params.compute.batch
    if group == "segment":
        sides = {"vit_h": (16, 4096), "vit_l": (16, 4096), "vit_b": (12, 4096), "tiny": (2, 64)}
        slots = (params.segment.grounded, params.segment.open)
        models = {s.segmenter if isinstance(s, GroundedSamParams) else s.model for s in slots
                  if isinstance(s, GroundedSamParams | SamParams)}  # fmt: skip
        return max((2.0 * batch * h * t * t * half for h, t in (sides[m] for m in models)), default=0.0)
    if group == "finetune" and isinstance(params.finetune, ClipFinetuneParams):
        from tmuad.encode.clip import clip_config

        vision = clip_config(params.finetune.model)["vision_cfg"]
        tokens = (params.finetune.crop_size // vision["patch_size"]) ** 2
        kept = 34.0 * half / 2  # bytes per token, channel and block that the backward pass needs
        return float(kept * params.finetune.batch_size * tokens * vision["width"] * vision["layers"])
    return 1.5e9 if group == "vlm" else 0.1e9 * batch


def _cache_bytes(params: Params) -> dict[str, float]:
    """Bytes that the per-image cache keeps of the patch features, per encoder."""
    widths = {"giant": 1536, "large": 1024, "base": 768, "small": 384, "tiny": 48}
    dino, clip = params.encode.dinov2, params.encode.clip
    found: dict[str, float] = {}
    if "dinov2" in params.patch_bank.encoders:
        side = dino.size // (8 if dino.model == "tiny" else 14)
        found["dinov2"] = side**2 * widths[dino.model] * len(dino.layers) * 2
    if "clip" in params.patch_bank.encoders:
        from tmuad.encode.clip import clip_config

        vision = clip_config(clip.model)["vision_cfg"]
        found["clip"] = (clip.size // vision["patch_size"]) ** 2 * vision["width"] * len(clip.layers) * 2
    return found


def _weights(params: Params, slots: list[ModelSlot]) -> dict[str, Any]:
    folder = weights.folder(params.compute)
    missing, present = [], []
    for name in weight_names(slots):
        try:
            weights.paths(name, params.compute)
            present.append(name)
        except TmuadError as error:
            listed = weights.entry(name)
            missing.append(
                {"name": name, "bytes": listed.bytes, "command": f"tmuad weights pull {name}", "why": str(error)}
            )
    return {"folder": str(folder), "present": present, "missing": missing}


def _seconds(params: Params, sizes: Sequence[Size]) -> dict[str, Any]:
    """Floating-point operations of an image over the measured matrix-multiply rate; a language model's answer over the
    rate at which its weights are read, once per token.
    """
    rate = _matmul_rate(params) * REACHED
    parts: dict[str, float] = {}
    for s in sizes:
        label = f"{s.slot.kind} ({s.slot.name})"
        parts[label] = parts.get(label, 0.0) + _operations(params, s) / rate
    if any(s.slot.group == "vlm" for s in sizes):
        width = 4 if precision_of(params.compute) == "float32" else 2
        vlm = next(s for s in sizes if s.slot.group == "vlm")
        parts["Qwen (answer)"] = WORDS * vlm.parameters * width / _copy_rate(params) / params.vlm.batch
    return {
        "total": round(sum(parts.values()), 3),
        "parts": {name: round(value, 4) for name, value in parts.items()},
        "assumes": f"{REACHED:.0%} of the measured {rate / REACHED / 1e12:.3f} TFLOP/s, {REGIONS} regions, {OBJECTS} objects",
    }


def _operations(params: Params, s: Size) -> float:
    """2 per parameter and token of a transformer; SAM's second slot shares the embedding and pays for its prompts."""
    kind, tokens = s.slot.kind, 1.0
    if kind == "SAM":
        shared = s.slot.name == "open segmenter" and isinstance(params.segment.grounded, GroundedSamParams)
        side = 64 if s.slot.model == "tiny" else 4096
        points = params.segment.open.points_per_side**2 if isinstance(params.segment.open, SamParams) else 0
        prompts = OBJECTS if "grounded" in s.slot.name else points
        return (0.0 if shared else 2.0 * s.parameters * side) + prompts * 2.0 * 4e6 * (side / 4096) * 500
    if kind == "Grounding DINO":
        tokens = 1000.0  # of the four feature levels at 448 px, weighed by the layers that see them
    elif kind == "DINOv2":
        tokens = (params.encode.dinov2.size / 14) ** 2
    elif kind == "CLIP":
        crop = (params.encode.clip.crop_size / 14) ** 2
        tokens = (params.encode.clip.size / 14) ** 2 + REGIONS * crop if s.slot.group == "encode" else OBJECTS * crop
        return 2.0 * 0.71 * s.parameters * tokens  # the image tower's share
    elif kind == "Qwen":
        tokens = (params.data.size / 28) ** 2 + 120
    return 2.0 * s.parameters * tokens


def _matmul_rate(params: Params) -> float:
    """Floating-point operations per second of a large product here, at the chosen precision: the best of three."""
    import torch

    device, dtype = device_of(params.compute), dtype_of(params.compute)
    use_threads(params.compute)
    n = 4096 if device.type == "cuda" else 1024
    a = torch.ones(n, n, device=device, dtype=dtype)
    return max(2 * n**3 / _timed(lambda: a @ a, device) for _ in range(3))


def _copy_rate(params: Params) -> float:
    """Bytes per second that are read from memory."""
    import torch

    device = device_of(params.compute)
    a = torch.ones(64 << 20, device=device, dtype=torch.uint8)
    return max(a.numel() / _timed(a.clone, device) for _ in range(3))


def _timed(run: Any, device: Any) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(time.perf_counter() - start, 1e-9)


def card(report: dict[str, Any]) -> str:
    """The report for people."""
    m, p = report["machine"], report["parameters"]
    where = m["gpu"] or f"CPU with {m['cores']} cores"
    lines = [
        f"profile {report['profile']} on {where}: {m['memory_gb']} GB, {m['precision']}, {m['disk_free_gb']} GB of disk free"
    ]
    if not p["models"]:
        return "\n".join([*lines, "no foundation model in use; nothing to download"])
    lines.append("")
    lines += [f"  {row['count'] / 1e6:9.1f} M  {row['slot']:28} {row['model']}" for row in p["models"]]
    lines.append(f"  {p['without_vlm'] / 1e6:9.1f} M  without the vision language model")
    lines.append(
        f"  {p['total'] / 1e6:9.1f} M  in all ({p['loaded_once'] / 1e6:.1f} M loaded: slots share what is the same)"
    )
    lines += ["", f"memory: {report['memory']['has_gb']} GB here; needed, one group of stages at a time:"]
    lines += [f"  {value:9.1f} GB {group}" for group, value in report["memory"]["needed_gb"].items()]
    lines.append(f"cache: about {report['memory']['cache_mb_per_image']} MB of disk per image")
    if "seconds_per_image" in report:
        seconds = report["seconds_per_image"]
        lines.append(f"time: about {seconds['total']:.1f} s per image ({seconds['assumes']})")
    missing = report["weights"]["missing"]
    lines.append(f"weights in {report['weights']['folder']}: {len(missing)} missing")
    lines += [f"  {weights.size(row['bytes']):>9}  {row['command']}" for row in missing]
    lines += ["", "ready" if report["ready"] else "not ready: see above"]
    return "\n".join(lines)
