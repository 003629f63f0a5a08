"""Run-length masks: a boolean image as the lengths of its alternating runs.

Runs go in row-major order and start with background, so a mask that begins with foreground starts with a run of 0.
A mask costs a few hundred bytes in Parquet this way, where a PNG per object would cost a file (design, section 5).
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # (H, W)
Runs = NDArray[np.uint32]  # (R,), sums to H * W


def encode(mask: Mask) -> Runs:
    """Run lengths of `mask` (H, W), background first."""
    flat = np.ascontiguousarray(mask, dtype=np.bool_).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], edges, [flat.size]))
    runs = np.diff(bounds)
    if flat.size and flat[0]:
        runs = np.concatenate(([0], runs))
    return runs.astype(np.uint32)


def decode(runs: Runs, shape: tuple[int, int]) -> Mask:
    """The mask (H, W) of `runs`.

    Raises:
        ValueError: the runs do not add up to H * W.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if int(lengths.sum()) != shape[0] * shape[1]:
        raise ValueError(
            f"run lengths add up to {int(lengths.sum())}, but a mask of {shape} has {shape[0] * shape[1]} pixels"
        )
    values = np.arange(lengths.size) % 2 == 1
    return np.repeat(values, lengths).reshape(shape)


def area(runs: Runs) -> int:
    """Foreground pixels, without decoding."""
    return int(np.asarray(runs, dtype=np.int64)[1::2].sum())


def box(runs: Runs, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Tight box (x0, y0, x1, y1) in pixels, upper bounds exclusive; (0, 0, 0, 0) for an empty mask. Without decoding."""
    ends = np.cumsum(runs, dtype=np.int64)
    starts, stops = ends[: ends.size // 2 * 2 : 2], ends[1::2]
    filled = stops > starts
    if not filled.any():
        return (0, 0, 0, 0)
    (top, left), (bottom, right) = divmod(starts[filled], shape[1]), divmod(stops[filled] - 1, shape[1])
    if (bottom > top).any():  # a run that goes on in the next row touches both sides
        return (0, int(top[0]), shape[1], int(bottom[-1]) + 1)
    return (int(left.min()), int(top[0]), int(right.max()) + 1, int(bottom[-1]) + 1)


def union(many: list[Runs], shape: tuple[int, int]) -> Runs:
    """Runs of the pixels that any of `many` covers; of an empty list, the empty mask."""
    total = np.zeros(shape, dtype=np.bool_)
    for runs in many:
        total |= decode(runs, shape)
    return encode(total)


def intersection(a: Runs, b: Runs) -> int:
    """Pixels that both masks cover, from the runs alone in O(len(a) + len(b)).

    Raises:
        ValueError: the masks are of different sizes.
    """
    ends_a, ends_b = np.cumsum(a, dtype=np.int64), np.cumsum(b, dtype=np.int64)
    if ends_a.size == 0 or ends_b.size == 0 or ends_a[-1] != ends_b[-1]:
        raise ValueError("masks of different sizes cannot be intersected")
    cuts = np.unique(np.concatenate((ends_a, ends_b)))
    starts = np.concatenate(([0], cuts[:-1]))
    in_a = np.searchsorted(ends_a, starts, side="right") % 2 == 1  # odd runs are foreground
    in_b = np.searchsorted(ends_b, starts, side="right") % 2 == 1
    return int((cuts - starts)[in_a & in_b].sum())
