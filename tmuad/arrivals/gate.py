"""The gate: are the re-fitted banks at least as good as the present ones, on images whose truth is known?

Compared are the held-out normal images and the labelled ones: the unit's test split, and `refit.labelled` where given.
Rates are held to their limits as a test would: only a count that the limit cannot explain by chance (1 in 20) fails, so
that one flip among four images does not stop a unit that has no more.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tmuad.config import GateParams
from tmuad.evaluate.image_metrics import auroc
from tmuad.parquet import read_parquet
from tmuad.score.fuse import Calibration, load_calibration
from tmuad.workspace import UnitPaths

CHANCE = 0.05


@dataclass(frozen=True)
class Check:
    """One figure against its limit."""

    name: str
    value: float
    limit: float
    passed: bool
    detail: str


@dataclass(frozen=True)
class Flip:
    """An image whose verdict the re-fit changed."""

    image_id: str
    path: str
    truth: str  # good or anomalous
    before: str
    after: str
    score_before: float
    score_after: float


@dataclass(frozen=True)
class GateReport:
    passed: bool
    checks: tuple[Check, ...]
    flips: tuple[Flip, ...]  # lost ones first
    metrics: dict[str, float | None]  # of the re-fitted banks

    @property
    def reason(self) -> str:
        return "; ".join(f"{c.name}: {c.detail}" for c in self.checks if not c.passed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"reason": self.reason}


@dataclass(frozen=True)
class Judged:
    """Images of known truth under one state of the banks."""

    table: pd.DataFrame  # image_id, path, split (validation, test, labelled), anomalous (truth), score, alarm (verdict)
    calibration: Calibration

    @classmethod
    def read(cls, paths: UnitPaths, labelled: Sequence[Mapping[str, Any]] = ()) -> "Judged":
        """From the artifacts of a fitted unit, and verdicts on a labelled set: image_id, path, anomalous, score, alarm."""
        calibration = load_calibration(paths.calibration)
        rows = read_parquet(paths.manifest, ["image_id", "path", "split", "kind"]).to_pandas()
        scores = read_parquet(paths.scores, ["image_id", "score"]).to_pandas()
        table = rows.merge(scores, on="image_id")
        table["anomalous"] = table["kind"] != "good"
        table["alarm"] = table["score"] > calibration.threshold
        extra = pd.DataFrame([{**row, "split": "labelled"} for row in labelled])
        columns = ["image_id", "path", "split", "anomalous", "score", "alarm"]
        return cls(pd.concat([table[columns], extra[columns]] if len(extra) else [table[columns]]), calibration)


def compare(before: Judged, after: Judged, limits: GateParams, more: Sequence[Check] = ()) -> GateReport:
    """Hold `after` against `before` and the limits; `more` are checks that were made elsewhere."""
    both = before.table.merge(
        after.table[["image_id", "split", "score", "alarm"]], on=["image_id", "split"], suffixes=("_before", "_after")
    )
    held_out, known = both[both["split"] == "validation"], both[both["split"] != "validation"]
    good, bad = known[~known["anomalous"].astype(bool)], known[known["anomalous"].astype(bool)]
    checks = [_rate("false alarms, labelled", int(good["alarm_after"].sum()), len(good), limits.false_alarm_rate)]
    above = int((held_out["score_after"] > before.calibration.threshold).sum())
    checks.append(_rate("false alarms, held out", above, len(held_out), limits.false_alarm_rate))
    checks.append(_shift(held_out, limits.shift))
    metrics: dict[str, float | None] = {
        "false_alarm_rate": _share(int(good["alarm_after"].sum()), len(good)),
        "detection_rate": _share(int(bad["alarm_after"].sum()), len(bad)),
        "auroc": None,
    }
    if len(good) and len(bad):
        truth = known["anomalous"].to_numpy(dtype=np.bool_)
        old, new = (auroc(known[name].to_numpy(), truth) for name in ("score_before", "score_after"))
        metrics["auroc"] = round(new, 6)
        drop = old - new
        checks.append(
            Check(
                "AUROC, labelled",
                round(drop, 6),
                limits.auroc_drop,
                drop <= limits.auroc_drop,
                f"{old:.4f} to {new:.4f}",
            )
        )
    flipped = both[both["alarm_before"] != both["alarm_after"]]
    checks.append(_rate("flipped verdicts", len(flipped), len(both), limits.flips))
    checks += more
    flips = sorted((_flip(row) for row in flipped.to_dict("records")), key=lambda f: (f.after == f.truth, f.path))
    return GateReport(all(check.passed for check in checks), tuple(checks), tuple(flips), metrics)


def write_report(path: Path, report: GateReport) -> None:
    path.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")


def exceeds(count: int, total: int, limit: float) -> bool:
    """Whether `count` of `total` is more than a rate of `limit` gives by chance once in 20 times."""
    if count == 0:
        return False
    from scipy.special import bdtrc  # the binomial's upper tail

    return bool(count / total > limit and bdtrc(count - 1, total, limit) < CHANCE)


def _rate(name: str, count: int, total: int, limit: float) -> Check:
    value = count / total if total else 0.0
    return Check(name, round(value, 6), limit, not exceeds(count, total, limit), f"{count} of {total}")


def _share(count: int, total: int) -> float | None:
    return round(count / total, 6) if total else None


def _shift(held_out: pd.DataFrame, limit: float) -> Check:
    """Earth mover's distance between the two sets of scores, in standard deviations of the first."""
    if len(held_out) < 2:
        return Check("shift of scores", 0.0, limit, True, f"{len(held_out)} held-out images: not measured")
    old, new = held_out["score_before"].to_numpy(), held_out["score_after"].to_numpy()
    spread = max(float(old.std(ddof=1)), 1e-6 + 0.01 * abs(float(old.mean())))
    value = float(np.abs(np.sort(old) - np.sort(new)).mean()) / spread  # of as many scores
    passed = math.isfinite(value) and value <= limit
    return Check("shift of scores", round(value, 6), limit, passed, f"{value:.2f} standard deviations")


def _flip(row: Mapping[Any, Any]) -> Flip:
    words = {True: "anomalous", False: "good"}
    return Flip(
        image_id=row["image_id"],
        path=row["path"],
        truth=words[bool(row["anomalous"])],
        before=words[bool(row["alarm_before"])],
        after=words[bool(row["alarm_after"])],
        score_before=round(float(row["score_before"]), 6),
        score_after=round(float(row["score_after"]), 6),
    )
