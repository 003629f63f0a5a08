"""What the hot steps of `score` and `fit` cost, and what this machine could do at best: writes benchmarks/roofline.md.

    python benchmarks/roofline.py [--size 448] [--repeats 9] [--out benchmarks/roofline.md]

The limit of a step is the longer of two times: its floating-point operations at the rate of a large product of matrices, and
its bytes (what must be read and written once, whatever the program does) at the rate of a copy of a large array. Both rates
are measured here, in the same run, on one thread, as every step is. Operations of products, convolutions and networks are
counted from their shapes; steps that compare and branch per pixel have a limit by bytes alone. Times are CPU seconds, the
best of --repeats: others at work on the machine lengthen them, and never shorten them.
"""

import argparse
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import platform  # noqa: E402
import resource  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from tmuad.banks.centroids import Whitening, kmeans, nearest  # noqa: E402
from tmuad.banks.detector import AXES, EPOCHS, HIDDEN, NETS, Detector  # noqa: E402
from tmuad.banks.portraits import KnownPortraits  # noqa: E402
from tmuad.banks.tangent import MOVES  # noqa: E402
from tmuad.color import rgb_to_lab  # noqa: E402
from tmuad.config import ComponentsParams, DemoParams, ObjectBankParams, PatchBankParams  # noqa: E402
from tmuad.encode import defects, filters  # noqa: E402
from tmuad.encode.features import DefectTask  # noqa: E402
from tmuad.encode.filters import FilterBank, FilterEncoder, with_surround  # noqa: E402
from tmuad.encode.portraits import LENGTH, middles, portraits  # noqa: E402
from tmuad.report.markdown import markdown_table  # noqa: E402
from tmuad.report.overlay import heat_overlay  # noqa: E402
from tmuad.scoring import _save  # noqa: E402
from tmuad.segment.components import find_components  # noqa: E402
from tmuad.segment.foreground import background_distance, pixel_features  # noqa: E402
from tmuad.segment.regions import RegionSegmenter  # noqa: E402

F = 4  # bytes of a float32


@dataclass(frozen=True)
class Step:
    part: str
    name: str
    flops: float
    bytes: float
    seconds: float


def cpu_seconds() -> float:
    """Of this process, and of the processes it has started and seen the end of."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def best(function: Callable[[], object], repeats: int) -> float:
    function()
    taken = []
    for _ in range(repeats):
        start = cpu_seconds()
        function()
        taken.append(cpu_seconds() - start)
    return min(taken)


def machine(repeats: int) -> tuple[float, float]:
    """Floating-point operations and bytes per second of one thread."""
    n = 1024
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    source = np.zeros(2**25, dtype=np.float32)
    target = np.ones_like(source)
    gemm = best(lambda: a @ a, repeats)
    copy = best(lambda: np.copyto(target, source), repeats)
    return 2 * n**3 / gemm, 2 * source.nbytes / copy


def smoothing_flops(run: Callable[[], object]) -> float:
    """Operations of all the products within `tmuad.encode.filters.smooth` while `run` runs."""
    total, original = 0.0, filters.smooth

    def counted(image: np.ndarray, sigma: float, samples: int | None = None) -> np.ndarray:
        nonlocal total
        size, m = image.shape[0], samples or image.shape[0]
        depth = image.shape[2] if image.ndim == 3 else 1
        total += 2 * depth * (m * size * size + m * size * m)
        return original(image, sigma, samples)

    filters.smooth = defects.smooth = counted
    try:
        run()
    finally:
        filters.smooth = defects.smooth = original
    return total


def measured(size: int, repeats: int) -> list[Step]:
    from tmuad.data.demo.generate import SUPERSAMPLE, draw_good, make_atlas

    demo = DemoParams(size=max(96, size))
    _, photo = draw_good("hardware_kit", "train", 0, demo, make_atlas(demo.size * SUPERSAMPLE, demo.seed))
    image = np.ascontiguousarray(photo[:size, :size])
    pixels, half = size * size, (size // 2) ** 2
    bank = FilterBank(image)
    detail = bank.detail
    depth = detail.shape[2]
    rows = detail.reshape(-1, depth)
    params, rng = PatchBankParams(), np.random.default_rng(0)
    sample = rng.normal(size=(params.max_patches, depth)).astype(np.float32)
    whitening = Whitening.fit(sample, params.dimensions, params.whitening)
    unit = whitening(sample)
    centroids = kmeans(unit, params.clusters, 0)
    d, k, n = unit.shape[1], len(centroids), len(rows)
    wide = 6 * depth  # features and their surround, each beside two deviations
    inputs = rng.normal(size=(n, wide)).astype(np.float32)
    few = rng.normal(size=(2048, wide)).astype(np.float32)
    detector = Detector.fit(few + 0.3, few, 0)
    weights = AXES * HIDDEN[0] + HIDDEN[0] * HIDDEN[1] + HIDDEN[1]
    every = wide * AXES + NETS * weights
    features = pixel_features(image)
    found = find_components(image, ComponentsParams())
    candidates = [part.runs for one in found for part in (one, *(piece for split in one.splits for piece in split))]
    heat = rng.random((size, size)).astype(np.float32)
    overlay = heat_overlay(image, heat, 0.5)
    place = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / f"roofline-{os.getpid()}.png"
    objects = ObjectBankParams()
    crowd = rng.normal(size=(6000, objects.dimensions)).astype(np.float32)
    faces = rng.normal(size=(objects.clusters + 12, LENGTH)).astype(np.float32) / np.float32(LENGTH**0.5)
    known, shown = KnownPortraits.fit(faces[12:], objects), faces[:12]
    inside = middles(shown).shape[1]

    def timed(
        part: str, name: str, flops: float, size_in_bytes: float, function: Callable[[], object], times: int = repeats
    ) -> Step:
        return Step(part, name, flops, size_in_bytes, best(function, times))

    def surroundings() -> object:
        return with_surround(detail)

    steps = [
        timed("score", "colours: RGB to Lab", 60 * pixels, 3 * pixels * (1 + F), lambda: rgb_to_lab(image)),
        timed("score", "pixel features of the segmenter", 0, 3 * pixels + 4 * half * F, lambda: pixel_features(image)),
        timed(
            "score", "distance to the background's colours", 4 * 2 * half * 20, half * 5 * F,
            lambda: background_distance(features),
        ),
        timed(
            "score", "components, with their parts", 0, 3 * pixels + pixels,
            lambda: find_components(image, ComponentsParams()), 3,
        ),
        timed(
            "score", f"portraits of {len(candidates)} segments", 0, (3 * pixels + len(candidates) * LENGTH) * F,
            lambda: portraits(bank.planes, candidates),
        ),
        timed(
            "score", f"portraits of {len(shown)} objects and their twins among {objects.clusters:,}",
            2 * len(shown) * (MOVES + 1) * objects.clusters * inside, (objects.clusters * inside + len(shown) * LENGTH) * F,
            lambda: known.distances(shown),
        ),
        timed("score", "regions at three scales", 0, 3 * pixels + 3 * pixels, lambda: RegionSegmenter().segment(image), 3),
        timed(
            "score", "filter bank, both layers", smoothing_flops(lambda: FilterEncoder().encode_patches(image)),
            3 * pixels + 2 * (n * depth + n // 4 * 49), lambda: FilterEncoder().encode_patches(image),
        ),
        timed(
            "score", "differences to the surround", smoothing_flops(surroundings), 3 * n * depth * F, surroundings
        ),
        timed("score", "whitening", 2 * n * depth * d, n * (depth + d) * F, lambda: whitening(rows)),
        timed("score", f"nearest of {k} centroids", 2 * n * k * d, n * d * F + k * d * F, lambda: nearest(unit[:n], centroids)),
        timed("score", "detector", 2 * n * every, n * wide * F + every * F, lambda: detector(inputs)),
        timed("score", "heat map drawn", 20 * pixels, 3 * pixels * 2 + pixels * F, lambda: heat_overlay(image, heat, 0.5)),
        timed("score", "heat map written as PNG", 0, 3 * pixels * 2, lambda: _save(overlay, place)),
        timed(
            "fit", f"whitening learnt from {len(sample):,} patches", 2 * len(sample) * depth * (depth + d), sample.nbytes,
            lambda: Whitening.fit(sample, params.dimensions, params.whitening), 3,
        ),
        timed(
            "fit", f"K-means, {k} of {len(unit):,} patches", 12 * 2 * len(unit) * k * d, 12 * unit.nbytes,
            lambda: kmeans(unit, params.clusters, 0), 3,
        ),
        timed(
            "fit", f"K-means, {objects.clusters} of {len(crowd):,} objects",
            12 * 2 * len(crowd) * objects.clusters * crowd.shape[1], 12 * crowd.nbytes,
            lambda: kmeans(crowd, objects.clusters, 0), 3,
        ),
        timed(
            "fit", "detector, per 4,096 patches", 3 * 2 * NETS * EPOCHS * 4096 * weights, EPOCHS * NETS * 4096 * AXES * F,
            lambda: Detector.fit(few + 0.3, few, 0), 3,
        ),
        timed(
            "fit", "simulated defects of one image", smoothing_flops(lambda: DefectTask()(image, {})),
            2 * 3 * pixels, lambda: DefectTask()(image, {}), 3,
        ),
    ]  # fmt: skip
    place.unlink(missing_ok=True)
    return steps


def table(steps: list[Step], flops: float, bandwidth: float) -> str:
    total = {part: sum(step.seconds for step in steps if step.part == part) for part in ("score", "fit")}
    rows = []
    for step in sorted(steps, key=lambda step: (step.part != "score", -step.seconds)):
        compute, transfer = step.flops / flops, step.bytes / bandwidth
        limit = max(compute, transfer)
        rows.append(
            [
                step.part, step.name, f"{1e3 * step.seconds:.2f}", f"{step.seconds / total[step.part]:.0%}",
                f"{step.flops / 1e6:.1f}" if step.flops else "–", f"{step.bytes / 1e6:.2f}",
                "arithmetic" if compute > transfer else "memory", f"{1e3 * limit:.3f}", f"{limit / step.seconds:.1%}",
            ]
        )  # fmt: skip
    headings = ["part", "step", "ms", "of its part", "Mflop", "MB", "bound by", "limit, ms", "share reached"]
    return markdown_table(headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    flops, bandwidth = machine(options.repeats)
    steps = measured(options.size, options.repeats)
    again = machine(options.repeats)
    text = (
        f"# Roofline of the embedded path\n\nWritten by `python benchmarks/roofline.py`: one thread of {platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, one image of {options.size} px. A product of matrices "
        f"reaches {flops / 1e9:.0f} Gflop/s (at the end of the run {again[0] / 1e9:.0f}), a copy {bandwidth / 1e9:.1f} GB/s "
        f"({again[1] / 1e9:.1f}). The limit is the longer of the two times that these allow; see the command's help.\n\n"
    )
    text += table(steps, flops, bandwidth)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
