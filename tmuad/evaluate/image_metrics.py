"""Image-level metrics: exact, with ties, from one score per image."""

import numpy as np
from numpy.typing import ArrayLike

from tmuad.evaluate.ranking import Ranking


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
