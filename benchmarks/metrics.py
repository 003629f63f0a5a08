"""The metrics against public implementations, side by side in one run: time, memory above that of the maps, difference.

    python benchmarks/metrics.py [--maps 200] [--size 448] [--unit 1568] [--repeat 3] [--peer-python PYTHON]

1. pixel AUROC: the streaming histogram against scikit-learn.
2. AUPRO up to a false-positive rate of 0.3: the stream against anomalib, pyaupro (torchmetrics) and ADEval, whichever are
   installed, and against a sort of all pixels in float64, which is the exact value.
3. all figures of a unit of the size of the MVTec LOCO test set, with their intervals.

Each side runs in a process of its own. The streaming sides make one map at a time, the others need all of them at once;
making maps is not timed. Memory is the peak above that of a process that makes two maps and does nothing with them; for
the third row it is the peak of the whole process. Times are the best of --repeat; the spread stands behind them.

The peers of row 2 are no dependencies of this project. To measure them: python -m venv peers, then in it
`pip install -e . anomalib pyaupro ADEval`, and give its python as --peer-python.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from tmuad.evaluate.bootstrap import Bootstrap
from tmuad.evaluate.evaluate import Decision, evaluate_unit
from tmuad.evaluate.pixel_metrics import PixelHistogram
from tmuad.evaluate.pixel_stream import PixelStream, count_map
from tmuad.evaluate.regions import Defect, Truth, overlap_area, pixel_shares

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

Samples = Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]


class Result(NamedTuple):
    value: float
    seconds: float
    peak: float  # MiB
    note: str = ""  # why there is no result


def samples(count: int, size: int) -> Samples:
    """Smooth maps, half of the images with one to three boxes of anomalous pixels that stand out a little."""
    rng = np.random.default_rng(0)
    for index in range(count):
        scores = np.abs(gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), 3))
        mask = np.zeros((size, size), dtype=np.bool_)
        for _ in range(rng.integers(1, 4) if index % 2 else 0):
            y, x = rng.integers(0, size * 3 // 4, 2)
            mask[y : y + rng.integers(size // 20, size // 6), x : x + rng.integers(size // 20, size // 6)] = True
        scores[mask] += np.float32(0.05)
        yield scores, mask


def everything(count: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    scores, masks = np.empty((count, size, size), np.float32), np.empty((count, size, size), np.bool_)
    for index, (one, mask) in enumerate(samples(count, size)):
        scores[index], masks[index] = one, mask
    return scores, masks


# ---- row 1


def auroc_stream(count: int, size: int) -> tuple[float, float]:
    histogram, spent = PixelHistogram(), 0.0
    for scores, mask in samples(count, size):
        start = time.perf_counter()
        histogram.add(scores, mask)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    value = histogram.auroc()
    return value, spent + time.perf_counter() - start


def auroc_scikit_learn(count: int, size: int) -> tuple[float, float]:
    scores, masks = everything(count, size)
    start = time.perf_counter()
    value = roc_auc_score(masks.ravel(), scores.ravel())
    return float(value), time.perf_counter() - start


# ---- row 2


def aupro_stream(count: int, size: int) -> tuple[float, float]:
    stream, spent = PixelStream(), 0.0
    for scores, mask in samples(count, size):
        start = time.perf_counter()
        stream.add(count_map(scores, Truth(mask)))
        spent += time.perf_counter() - start
    start = time.perf_counter()
    value = stream.figures()["aupro"]
    return value, spent + time.perf_counter() - start


def aupro_sorted(count: int, size: int) -> tuple[float, float]:
    """The exact value: every distinct score is a threshold."""
    scores, masks = everything(count, size)
    start = time.perf_counter()
    overlap, regions = np.zeros(scores.shape), 0
    for weights, mask in zip(overlap, masks, strict=True):
        weights[mask], found = pixel_shares(mask)
        regions += found
    order = np.argsort(-scores.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(scores.ravel()[order], prepend=np.float32(np.inf)))
    negatives = np.add.reduceat(~masks.ravel()[order], starts, dtype=np.int64)
    value = overlap_area(negatives, np.add.reduceat(overlap.ravel()[order], starts), regions, 0.3)
    return float(value), time.perf_counter() - start


def aupro_anomalib(count: int, size: int) -> tuple[float, float]:
    import torch
    from anomalib.metrics.aupro import _AUPRO

    scores, masks = everything(count, size)
    start = time.perf_counter()
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(scores), torch.from_numpy(masks).int())
    return float(metric.compute()), time.perf_counter() - start


def aupro_pyaupro(count: int, size: int) -> tuple[float, float]:
    import torch
    from pyaupro import PerRegionOverlap, auc_compute

    scores, masks = everything(count, size)
    start = time.perf_counter()
    metric = PerRegionOverlap(thresholds=None)
    metric.update(torch.from_numpy(scores), torch.from_numpy(masks).int())
    fpr, pro = metric.compute()
    return float(auc_compute(fpr, pro, limit=0.3)), time.perf_counter() - start


def aupro_adeval(count: int, size: int) -> tuple[float, float]:
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # ADEval 1.1 uses the name that NumPy 2.4 removed
    from adeval.mem_effic import auroc_aupr_aupro

    scores, masks = everything(count, size)
    start = time.perf_counter()
    value = auroc_aupr_aupro(list(scores), list(masks.astype(np.uint8)))[2]
    return float(value), time.perf_counter() - start


# ---- row 3


def whole_unit(count: int, size: int) -> tuple[float, float]:
    """Every figure of one map per image: image and pixel level, kinds, 20 types of defects, sPRO, 500 resamples."""
    kinds = np.array(["good"] * (count * 575 // 1568) + ["logical"] * (count * 561 // 1568))
    kinds = np.concatenate((kinds, np.full(count - len(kinds), "structural")))
    rows = [(f"{i}", f"test/{kind}/{i:04}.png", "test", kind, kind, ["mask"]) for i, kind in enumerate(kinds)]
    manifest = pd.DataFrame(rows, columns=["image_id", "path", "split", "kind", "defect", "masks"])
    rng, spent = np.random.default_rng(0), 0.0
    scores = pd.DataFrame({"image_id": manifest["image_id"]})
    scores[["score", "s_text", "s_objects", "s_patches"]] = rng.random((count, 4)) + (kinds != "good")[:, None] * 0.4
    smooth = [np.abs(gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), 3)) for _ in range(16)]

    def truth(path: str) -> Truth:
        index = int(path[-8:-4])
        rng = np.random.default_rng(index)
        defects = []
        for _ in range(rng.integers(1, 4)):
            mask = np.zeros((size, size), dtype=np.bool_)
            y, x = rng.integers(0, size * 3 // 4, 2)
            mask[y : y + rng.integers(size // 20, size // 4), x : x + rng.integers(size // 20, size // 4)] = True
            defects.append(Defect(f"type {rng.integers(20)}", mask, float(rng.choice([1.0, 0.4, 0.1]))))
        return Truth(np.any([defect.mask for defect in defects], axis=0), tuple(defects))

    def maps(image_id: str) -> dict[str, NDArray[np.float32]]:
        nonlocal spent
        start = time.perf_counter()
        index = int(image_id)
        scores = smooth[index % 16] * np.float32(1 + (index % 29) / 40)
        if kinds[index] != "good":
            scores = scores + truth(f"{index:04}.png").mask * np.float32(0.05)
        spent += time.perf_counter() - start
        return {"fused": scores}

    start = time.perf_counter()
    metrics = evaluate_unit(manifest, scores, maps, truth, Decision(1.0, 0.05, 40), Bootstrap(500)).metrics
    return float(metrics["pixel"]["spro_5"]), time.perf_counter() - start - spent


def nothing(count: int, size: int) -> tuple[float, float]:
    for _ in samples(min(count, 2), size):
        pass
    return float("nan"), 0.0


PEERS = {"aupro_anomalib": "anomalib", "aupro_pyaupro": "pyaupro", "aupro_adeval": "ADEval"}
SIDES: dict[str, Callable[[int, int], tuple[float, float]]] = {
    side.__name__: side
    for side in (
        nothing, auroc_stream, auroc_scikit_learn, aupro_stream, aupro_sorted, aupro_anomalib, aupro_pyaupro,
        aupro_adeval, whole_unit,
    )
}  # fmt: skip


def run(side: str, count: int, size: int, python: str, repeat: int) -> tuple[Result, float]:
    """The fastest of `repeat` runs, and how much slower the slowest was, as a share."""
    results = []
    for _ in range(repeat):
        command = [python, __file__, "--maps", str(count), "--size", str(size), "--side", side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
            missing = side in PEERS and "ModuleNotFoundError" in reason
            return Result(*[float("nan")] * 3, f"not installed: pip install {PEERS[side]}" if missing else reason), 0.0
        results.append(Result(*json.loads(done.stdout.splitlines()[-1])))
    times = [result.seconds for result in results]
    return min(results, key=lambda result: result.seconds), max(times) / min(times) - 1 if min(times) else 0.0


def show(name: str, result: Result, spread: float, floor: float) -> None:
    if result.note:
        print(f"{name:26}{result.note}")
        return
    print(f"{name:26}{result.value:12.8f}{result.seconds:10.3f} s{result.peak - floor:8.0f} MiB   (+{spread:.0%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=200)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--unit", type=int, default=1568, help="images of row 3")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers of row 2")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        value, seconds = SIDES[options.side](options.maps, options.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux
        print(json.dumps([value, seconds, peak]))
        return
    measure = partial(run, size=options.size, repeat=options.repeat)
    floor = measure("nothing", count=2, python=sys.executable)[0].peak
    results = {}
    for side in SIDES:
        if side in ("nothing", "whole_unit"):
            continue
        python = options.peer_python if side in PEERS else sys.executable
        results[side] = measure(side, count=options.maps, python=python)
    print(f"1. pixel AUROC of {options.maps} maps of {options.size} x {options.size}")
    for side in ("auroc_stream", "auroc_scikit_learn"):
        show(side.partition("_")[2].replace("_", "-"), *results[side], floor)
    compare(results["auroc_stream"][0], results["auroc_scikit_learn"][0], floor)
    print(f"\n2. AUPRO up to FPR 0.3 of the same {options.maps} maps")
    for side in (side for side in SIDES if side.startswith("aupro_")):
        show(side.partition("_")[2], *results[side], floor)
    ran = [results[side][0] for side in PEERS if not results[side][0].note]
    if ran:
        compare(results["aupro_stream"][0], min(ran, key=lambda result: result.seconds), floor)
    exact, binned = results["aupro_sorted"][0].value, results["aupro_stream"][0].value
    print(f"difference from the exact value {abs(exact - binned):.1e}: scores less than 2**-11 apart are one threshold")
    unit, spread = measure("whole_unit", count=options.unit, python=sys.executable)
    print(f"\n3. all figures and their intervals of a unit of {options.unit} images")
    show("tmuad", unit, spread, 0.0)


def compare(ours: Result, theirs: Result, floor: float) -> None:
    """The line below a table: `theirs` is the fastest of the others."""
    memory = (ours.peak - floor) / (theirs.peak - floor)
    print(
        f"{theirs.seconds / ours.seconds:.1f} times faster than the fastest, {memory:.1%} of its memory, "
        f"difference {abs(ours.value - theirs.value):.1e}"
    )


if __name__ == "__main__":
    main()
