"""The threshold from normal images alone: what is promised, what the test images show, and how sure both figures are.

Split conformal prediction. With n held-out normal images and rank r = ceil((n + 1)(1 - rate)), the r-th smallest score is
exceeded by a further normal image with probability (n + 1 - r) / (n + 1), averaged over held-out sets. For the very set
that was held out, that probability follows the Beta distribution (n + 1 - r, r): its interval says how far the promise may be
off. The observed rate has the interval of Clopper and Pearson. All of it assumes that new normal images are like the held-out
ones. These also set the scales of the banks, which is no matter of a single image, yet makes the promise a little optimistic.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv  # the quantile of a beta distribution; scipy.stats takes half a second to import

from tmuad.errors import ArtifactError, ParameterError
from tmuad.parquet import read_parquet
from tmuad.score.fuse import BANKS, choose_threshold
from tmuad.workspace import ARTIFACTS, UnitPaths

CONFIDENCE = 0.95
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)  # shown beside the rate that was asked for
COLUMNS = {"all banks": "score"} | {bank: f"s_{bank}" for bank in BANKS}

Interval = tuple[float, float]


@dataclass(frozen=True)
class Promise:
    """A threshold of one bank, or of all together, at one false-alarm rate. Rates are shares of 1."""

    bank: str
    asked: float
    threshold: float
    normals: int  # held-out images
    promised: float | None  # what they can promise: at most `asked`, or more where they are too few; None without any
    promised_interval: Interval | None
    observed: float | None  # on the normal test images; None without any
    observed_interval: Interval | None
    good: int  # normal test images
    found: Mapping[str, float]  # kind of anomaly -> share of its test images above the threshold
    warning: str

    @property
    def broken(self) -> bool:
        """Whether the test images show more false alarms than chance explains."""
        if self.observed_interval is None or self.promised is None:
            return False
        return self.observed_interval[0] > self.promised


@dataclass(frozen=True)
class Thresholds:
    """All of one unit."""

    unit: str
    asked: float
    promises: tuple[Promise, ...]  # at the rate asked for, one per bank
    others: tuple[Promise, ...]  # of all banks together, at RATES
    p_values: pd.DataFrame  # path, split, kind, score, p, and p of each bank; the most unusual first


def clopper_pearson(events: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Exact interval of a binomial share; (0, 1) for no trials."""
    if of == 0:
        return (0.0, 1.0)
    tail = (1 - confidence) / 2
    low = float(betaincinv(events, of - events + 1, tail)) if events > 0 else 0.0
    high = float(betaincinv(events + 1, of - events, 1 - tail)) if events < of else 1.0
    return low, high


def promise_of(normals: int, rate: float, confidence: float = CONFIDENCE) -> tuple[float | None, Interval | None]:
    """What `normals` held-out images can promise at `rate`, and the interval of the rate behind it."""
    if normals == 0:
        return None, None
    rank = min(normals, max(1, math.ceil((normals + 1) * (1 - rate) - 1e-9)))
    above = normals + 1 - rank
    tail = (1 - confidence) / 2
    return above / (normals + 1), (float(betaincinv(above, rank, tail)), float(betaincinv(above, rank, 1 - tail)))


def p_values(
    scores: NDArray[np.float64], normal: NDArray[np.float64], own: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Conformal p-values (N,) of `scores` (N,) given the `normal` scores of held-out images.

    `own` marks scores that are among `normal` themselves: each of these is compared with the others.
    """
    ordered = np.sort(normal)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")  # itself included where it is among them
    own = np.zeros(len(scores), dtype=np.bool_) if own is None else own
    return np.where(own, at_least / max(1, len(ordered)), (1 + at_least) / (len(ordered) + 1))


def thresholds(unit: str, rate: float, artifacts: Path = ARTIFACTS) -> Thresholds:
    """What `unit` can promise at the false-alarm rate `rate` (0..1), and what its test images show.

    Raises:
        ParameterError: the rate is not between 0 and 1.
        ArtifactError: the unit has not been scored.
    """
    if not 0 < rate < 1:
        raise ParameterError(
            f"a false-alarm rate of {rate:g}: expected a share above 0 and below 1, such as 1% or 0.01"
        )
    paths = UnitPaths(unit, artifacts)
    manifest: pd.DataFrame = read_parquet(paths.manifest, ["image_id", "path", "split", "kind"]).to_pandas()
    scores: pd.DataFrame = read_parquet(paths.scores, ["image_id", *COLUMNS.values()]).to_pandas()
    table = manifest.merge(scores, on="image_id", validate="one_to_one")
    if table.empty and len(scores):
        raise ArtifactError(f"{paths.scores}: holds no image of {paths.manifest}; run: dvc repro fuse@{unit}")
    promises = tuple(_promise(table, bank, rate) for bank in COLUMNS)
    others = tuple(_promise(table, "all banks", other) for other in RATES if other != rate)
    return Thresholds(unit, rate, promises, others, _p_values(table))


def parse_rate(text: str) -> float:
    """'1%', '1 %' or '0.01' as 0.01. Raises ParameterError for anything else."""
    number, percent, rest = text.strip().partition("%")
    try:
        rate = float(number) / (100 if percent else 1)
    except ValueError:
        rate = math.nan
    if rest or not 0 < rate < 1:
        raise ParameterError(f"false-alarm rate '{text}': expected a share above 0 and below 1, such as 1% or 0.01")
    return rate


def _promise(table: pd.DataFrame, bank: str, rate: float) -> Promise:
    column = COLUMNS[bank]
    normal = table.loc[table["split"] == "validation", column].to_numpy(dtype=np.float64)
    test = table[table["split"] == "test"]
    threshold, warning = choose_threshold(normal, rate)
    above = {kind: group[column].to_numpy() > threshold for kind, group in test.groupby("kind")}
    good = above.pop("good", np.zeros(0, dtype=np.bool_))
    promised, interval = promise_of(len(normal), rate)
    return Promise(
        bank=bank,
        asked=rate,
        threshold=threshold,
        normals=len(normal),
        promised=promised,
        promised_interval=interval,
        observed=float(good.mean()) if len(good) else None,
        observed_interval=clopper_pearson(int(good.sum()), len(good)) if len(good) else None,
        good=len(good),
        found={str(kind): float(values.mean()) for kind, values in sorted(above.items())},
        warning=warning,
    )


def _p_values(table: pd.DataFrame) -> pd.DataFrame:
    held_out = (table["split"] == "validation").to_numpy()
    result = table[["image_id", "path", "split", "kind", "score"]].copy()
    for bank, column in COLUMNS.items():
        values = table[column].to_numpy(dtype=np.float64)
        result["p" if column == "score" else f"p_{bank}"] = p_values(values, values[held_out], held_out).round(6)
    return result.sort_values(["p", "score", "path"], ascending=[True, False, True], kind="stable", ignore_index=True)


def markdown(units: Sequence[Thresholds]) -> str:
    """The report: promised and observed rates per unit and bank, with intervals, and what cannot be promised."""
    lines = [
        "# False alarms: promised and observed\n",
        "Thresholds from held-out normal images alone. *Promised* is the chance that a further normal image is called "
        f"anomalous, with the {CONFIDENCE:.0%} interval of that chance for this very set of held-out images; *observed* is the "
        f"share of the normal test images, with its {CONFIDENCE:.0%} interval (Clopper and Pearson). Rates in per cent.\n",
    ]
    for unit in units:
        lines += [f"## {unit.unit}: at most {percent(unit.asked)} % asked for\n", *_warnings(unit)]
        lines += [_table(unit.promises, "bank", [p.bank for p in unit.promises])]
        lines += ["At other rates, all banks together:\n"]
        lines += [_table(unit.others, "asked", [f"{percent(p.asked)} %" for p in unit.others])]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """Two significant digits below 10 %, whole or one decimal above."""
    if share is None or math.isnan(share):
        return "–"
    value = 100 * share
    return f"{value:.1f}".removesuffix(".0") if value >= 1 or value == 0 else f"{value:.2g}"


def _warnings(unit: Thresholds) -> list[str]:
    whole = unit.promises[0]
    words = [f"**{whole.warning}.**\n"] if whole.warning else []
    for p in unit.promises:
        if p.broken:
            words.append(
                f"**{p.bank}: {percent(p.observed)} % observed, more than {percent(p.promised)} % promised and chance explain: "
                "the test images are not like the held-out ones.**\n"
            )
    return words


def _table(promises: Sequence[Promise], heading: str, names: Sequence[str]) -> str:
    kinds = sorted({kind for p in promises for kind in p.found})
    head = [heading, "threshold", "promised", "interval", "observed", "interval", *(f"{kind} found" for kind in kinds)]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    for name, p in zip(names, promises, strict=True):
        threshold = f"{p.threshold:.4g}" if math.isfinite(p.threshold) else "none"
        observed = f"{percent(p.observed)} (of {p.good})" if p.observed is not None else "–"
        found = [percent(p.found.get(kind)) for kind in kinds]
        rows.append([name, threshold, percent(p.promised), _between(p.promised_interval), observed,
                     _between(p.observed_interval), *found])  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _between(interval: Interval | None) -> str:
    return "–" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"
