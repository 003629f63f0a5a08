"""Our adapters against the plain use of the same libraries, one image at a time, in the same run.

    python benchmarks/models.py              # on a GPU the published sizes, on a CPU the toy sizes of the tests
    python benchmarks/models.py --size edge --batches 1 4

Weights are random: speed does not depend on their values (but for how many masks and detections pass the thresholds). Each
line is the median of `--rounds` rounds with their spread; the two contenders take turns, so that a slow minute hits both.
`limit` is the share of the measured matrix-multiply rate that the counted floating-point operations amount to.
"""

import argparse
import gc
import statistics
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from tmuad.config_models import (
    ClipEncoderParams,
    ComputeParams,
    DinoEncoderParams,
    GroundedSamParams,
    SamParams,
    VlmParams,
)
from tmuad.doctor import _matmul_rate
from tmuad.models.runtime import device_of, dtype_of, free_models, without_warnings

Images = Sequence[NDArray[np.uint8]]
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"side": 64, "sam": "tiny", "detector": "tiny", "clip": "tiny", "dino": "tiny", "vlm": "tiny", "layers": (2, 4)},
    "edge": {
        "side": 448, "sam": "vit_b", "detector": "swin_t", "clip": "ViT-B-16-quickgelu", "dino": "small", "vlm": None,
        "layers": (6, 12),
    },
    "paper": {
        "side": 448, "sam": "vit_h", "detector": "swin_t", "clip": "ViT-L-14-quickgelu", "dino": "giant",
        "vlm": "qwen2-vl-7b", "layers": (12, 24),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Contest:
    name: str
    ours: Callable[[Images], object]
    naive: Callable[[Images], object]  # one image at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="paper" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="contests whose function has this in its name")
    options = parser.parse_args()
    compute = ComputeParams()
    side = SIZES[options.size]["side"]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3)).astype(np.uint8) for _ in range(options.images)]
    params = type("P", (), {"compute": compute})
    rate = _matmul_rate(params)  # type: ignore[arg-type]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{device}; {dtype_of(compute)}; matrix products at {rate / 1e12:.3f} TFLOP/s; {options.images} images of {side} px"
    )
    print(
        f"{'model':22} {'batch':>5} {'images/s':>9} {'spread':>13} {'naive':>9} {'gain':>6} {'peak MB':>8} {'limit':>6}"
    )
    contests = (sam_embedding, sam_scene, detector, clip_patches, clip_crops, dino_patches, positions)
    for make in (make for make in contests if options.only in make.__name__):
        for batch in options.batches:
            contest = make(SIZES[options.size], compute.model_copy(update={"batch": batch}))
            if contest is not None:
                report(contest, images, batch, options.rounds, rate)
            free_models()
    if not torch.cuda.is_available():
        print("no GPU here: true sizes not run")


def report(contest: Contest, images: Images, batch: int, rounds: int, rate: float) -> None:
    with without_warnings():
        contest.naive(images[:1])
        operations = counted(lambda: contest.ours(images[:1]))
        contest.ours(images[: min(batch, len(images))])
        ours, naive, peaks = [], [], []
        for _ in range(rounds):
            seconds, peak = timed(lambda: contest.ours(images))
            ours.append(len(images) / seconds)
            peaks.append(peak)
            naive.append(len(images) / timed(lambda: contest.naive(images))[0])
    speed, slow = statistics.median(ours), statistics.median(naive)
    spread = f"{min(ours):.1f}..{max(ours):.1f}"
    share = f"{operations * speed / rate:.0%}" if operations else "-"
    print(
        f"{contest.name:22} {batch:5} {speed:9.1f} {spread:>13} {slow:9.1f} {speed / slow:5.2f}x {max(peaks):8.0f} {share:>6}",
        flush=True,
    )


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and peak memory in MB: of the GPU where there is one, else of this process."""
    gc.collect()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    start = time.perf_counter()
    run()
    if on_gpu:
        torch.cuda.synchronize()
        return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 1e6
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    return seconds, int(status.split("VmHWM:")[1].split()[0]) / 1e3


def counted(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def sam_embedding(size: dict[str, Any], compute: ComputeParams) -> Contest:
    from segment_anything import SamPredictor

    from tmuad.segment.sam import load_sam

    ours, plain = load_sam(size["sam"], "random:0", compute), plain_sam(size, compute)
    predictor = SamPredictor(plain)
    return Contest("SAM embedding", ours.embed, lambda images: [predictor.set_image(image) for image in images])


def sam_scene(size: dict[str, Any], compute: ComputeParams) -> Contest:
    """Automatic masks and five box prompts: the naive way embeds each image twice."""
    from segment_anything import SamAutomaticMaskGenerator, SamPredictor

    from tmuad.segment.sam import load_sam

    points = 32 if size["side"] > 64 else 8
    params = SamParams(model=size["sam"], weights="random:0", points_per_side=points)
    ours, plain = load_sam(size["sam"], "random:0", compute), plain_sam(size, compute)
    generator, predictor = SamAutomaticMaskGenerator(plain, points_per_side=points), SamPredictor(plain)
    boxes = (
        np.array([[1, 1, 5, 5], [2, 2, 7, 6], [0, 0, 8, 8], [3, 1, 6, 7], [4, 4, 8, 8]]) / 8 * size["side"]
    ).astype(np.float32)

    def run(images: Images) -> None:
        for image, embedding in zip(images, ours.embed(images), strict=True):
            ours.automatic(image, embedding, params)
            ours.boxes(image, embedding, boxes)

    def naive(images: Images) -> None:
        for image in images:
            generator.generate(image)
            predictor.set_image(image)
            for box in boxes:
                predictor.predict(box=box, multimask_output=False)

    return Contest("SAM masks and boxes", run, naive)


def plain_sam(size: dict[str, Any], compute: ComputeParams) -> Any:
    """The library's model with its own attention."""
    from segment_anything.modeling.image_encoder import Attention

    from tmuad.segment.sam import build_sam

    sam = build_sam(size["sam"], "random:0").to(device_of(compute)).eval()
    for block in sam.image_encoder.blocks:
        block.attn.forward = types.MethodType(Attention.forward, block.attn)
    return sam


def detector(size: dict[str, Any], compute: ComputeParams) -> Contest | None:
    from tmuad.segment.grounding_dino import as_input, caption, import_library, load_detector

    import_library()
    from groundingdino.util.inference import predict

    params = GroundedSamParams(detector=size["detector"], detector_weights="random:0")
    ours, names = load_detector(params, compute), ["screw", "lens", "cable"]
    where = str(device_of(compute))

    def naive(images: Images) -> None:
        for image in images:
            predict(ours.model, as_input([image])[0], caption(names), 0.35, 0.25, where)

    return Contest("Grounding DINO", lambda images: ours.detect(images, names, 0.35, 0.25), naive)


def clip_patches(size: dict[str, Any], compute: ComputeParams) -> Contest:
    from tmuad.encode.clip import ClipEncoder, as_input

    side = size["side"]
    ours = ClipEncoder(
        ClipEncoderParams(model=size["clip"], weights="random:0", layers=size["layers"], size=side, crop_size=side),
        compute,
    )

    @torch.no_grad()
    def naive(images: Images) -> None:
        for image in images:
            x = ours._embed(as_input([image], side).to(device_of(compute)))
            _, found = ours.visual.transformer.forward_intermediates(x, indices=[layer - 1 for layer in size["layers"]])
            [tokens.cpu() for tokens in found]

    return Contest("CLIP layers", ours.encode_patches, naive)


def clip_crops(size: dict[str, Any], compute: ComputeParams) -> Contest:
    """Ten crops of each image."""
    from tmuad.encode.clip import ClipEncoder, as_input

    side = 32 if size["side"] == 64 else 224
    params = ClipEncoderParams(model=size["clip"], weights="random:0", layers=size["layers"], size=side, crop_size=side)
    ours = ClipEncoder(params, compute)

    def cut(images: Images) -> NDArray[np.uint8]:
        return np.stack([image[i : i + side, i : i + side] for image in images for i in range(10)])

    @torch.no_grad()
    def naive(images: Images) -> None:
        for crop in cut(images):
            ours.visual(as_input([crop], side).to(device_of(compute))).cpu()

    return Contest("CLIP crops", lambda images: ours.encode_crops(cut(images)), naive)


def dino_patches(size: dict[str, Any], compute: ComputeParams) -> Contest:
    from tmuad.encode.clip import standardised
    from tmuad.encode.dinov2 import MEAN, STD, DinoEncoder

    side = size["side"]
    ours = DinoEncoder(
        DinoEncoderParams(model=size["dino"], weights="random:0", layers=size["layers"], size=side), compute
    )

    @torch.no_grad()
    def naive(images: Images) -> None:
        for image in images:
            x = standardised([image], side, MEAN, STD).to(device_of(compute))
            states = ours.model(x, output_hidden_states=True).hidden_states
            [states[layer].cpu() for layer in size["layers"]]

    return Contest("DINOv2 layers", ours.encode_patches, naive)


def positions(size: dict[str, Any], compute: ComputeParams) -> Contest | None:
    from tmuad.describe.qwen import Question, load_qwen

    if size["vlm"] is None:
        return None
    ours = load_qwen(VlmParams(model=size["vlm"], weights="random:0", max_tokens=32, batch=compute.batch), compute)
    text = "Where are these objects: screw, lens, cable?"
    return Contest(
        "Qwen2-VL answers",
        lambda images: ours.ask([Question(image, text) for image in images]),
        lambda images: [ours.ask([Question(image, text)]) for image in images],
    )


if __name__ == "__main__":
    main()
