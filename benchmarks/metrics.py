"""Pixel AUROC on 200 maps of 448 x 448: the streaming histogram against scikit-learn, side by side in one run.

    python benchmarks/metrics.py [--maps 200] [--size 448]

Each side runs in a process of its own that makes the maps one by one; its peak memory is counted above that of a
process that makes two maps and does nothing with them.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from tmuad.evaluate.pixel_metrics import PixelHistogram


def samples(count: int, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Smooth maps, half of the images with a square of anomalous pixels that stand out a little."""
    rng = np.random.default_rng(0)
    for index in range(count):
        scores = np.abs(gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), 3))
        mask = np.zeros((size, size), dtype=np.bool_)
        if index % 2:
            y, x = rng.integers(0, size * 3 // 4, 2)
            mask[y : y + size // 6, x : x + size // 6] = True
            scores[mask] += np.float32(0.05)
        yield scores, mask


def streaming(count: int, size: int) -> tuple[float, float]:
    histogram, spent = PixelHistogram(), 0.0
    for scores, mask in samples(count, size):
        start = time.perf_counter()
        histogram.add(scores, mask)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    value = histogram.auroc()
    return value, spent + time.perf_counter() - start


def scikit_learn(count: int, size: int) -> tuple[float, float]:
    all_scores, all_masks = zip(*samples(count, size), strict=True)
    start = time.perf_counter()
    value = roc_auc_score(
        np.concatenate([m.ravel() for m in all_masks]), np.concatenate([s.ravel() for s in all_scores])
    )
    return float(value), time.perf_counter() - start


def nothing(count: int, size: int) -> tuple[float, float]:
    for _ in samples(min(count, 2), size):
        pass
    return float("nan"), 0.0


SIDES = {side.__name__: side for side in (nothing, streaming, scikit_learn)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=200)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        value, seconds = SIDES[options.side](options.maps, options.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux
        print(json.dumps([value, seconds, peak]))
        return
    command = [sys.executable, __file__, "--maps", str(options.maps), "--size", str(options.size), "--side"]
    results = {
        side: json.loads(subprocess.run([*command, side], check=True, capture_output=True, text=True).stdout)
        for side in SIDES
    }
    floor = results["nothing"][2]
    (ours, our_time, our_peak), (theirs, their_time, their_peak) = results["streaming"], results["scikit_learn"]
    our_memory, their_memory = our_peak - floor, their_peak - floor
    print(f"pixel AUROC of {options.maps} maps of {options.size} x {options.size}")
    print(f"{'':14}{'AUROC':>12}{'seconds':>10}{'MiB':>8}")
    print(f"{'streaming':14}{ours:12.8f}{our_time:10.3f}{our_memory:8.0f}")
    print(f"{'scikit-learn':14}{theirs:12.8f}{their_time:10.3f}{their_memory:8.0f}")
    print(
        f"{their_time / our_time:.0f} times faster, {our_memory / their_memory:.1%} of the memory, "
        f"difference {abs(ours - theirs):.1e}"
    )


if __name__ == "__main__":
    main()
