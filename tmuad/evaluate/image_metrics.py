"""Image-level metrics: exact, with ties, from one score per image."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmuad.evaluate.ranking import Ranking, auroc_of, average_precision_of, f1_max_of

_BLOCK = 1 << 22  # cells of a table of resamples and images that are in memory at a time


def rank(scores: ArrayLike, labels: ArrayLike) -> Ranking:
    """The ranking of `scores` (N,) whose `labels` (N,) say which are anomalous.

    Raises:
        ValueError: the arrays differ in shape, the labels are not boolean, or a score is NaN or infinite.
    """
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"expected as many labels as scores, found scores {score.shape} and labels {label.shape}")
    if label.size and label.dtype != np.bool_:
        raise ValueError(f"labels must be boolean (True: anomalous), found {label.dtype}")
    if not np.isfinite(score).all():
        index = int(np.flatnonzero(~np.isfinite(score))[0])
        raise ValueError(f"score {index} is {score[index]}; every score must be finite")
    values, group = np.unique(score, return_inverse=True)
    positives = np.bincount(group[label.astype(np.bool_)], minlength=values.size)
    negatives = np.bincount(group, minlength=values.size) - positives
    return Ranking(values[::-1], positives[::-1], negatives[::-1])


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve in 0..1; NaN where all labels are the same. See `rank` for the errors."""
    return rank(scores, labels).auroc()


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision in 0..1; NaN where all labels are the same. See `rank` for the errors."""
    return rank(scores, labels).average_precision()


def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Best F1 over all thresholds, and that threshold; NaN where all labels are the same. See `rank` for the errors."""
    return rank(scores, labels).f1_max()


def image_figures(
    scores: NDArray[np.float64], anomalous: NDArray[np.bool_], weights: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """`auroc`, `ap` and `f1_max` of `scores` (N,), for each column of `weights` (N, R): how often an image counts."""
    if scores.size == 0:
        return {name: np.full(weights.shape[1], np.nan) for name in ("auroc", "ap", "f1_max")}
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan))  # of the groups of equal scores; NaN differs
    marked = anomalous[order, None]
    step = max(1, _BLOCK // scores.size)
    parts = []
    for first in range(0, weights.shape[1], step):
        drawn = weights[order, first : first + step]
        positives = np.add.reduceat(drawn * marked, starts, axis=0).T
        negatives = np.add.reduceat(drawn * ~marked, starts, axis=0).T
        parts.append([f(positives, negatives) for f in (auroc_of, average_precision_of, f1_max_of)])
    return dict(zip(("auroc", "ap", "f1_max"), np.concatenate(parts, axis=1), strict=True))
