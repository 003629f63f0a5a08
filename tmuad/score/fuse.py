"""Fusion of the three banks' maps into one (Eq. 5), and the threshold of the verdict.

`paper` adds the maps with fixed weights, as printed; those suit the paper's encoders. `calibrated` first expresses every
map in standard deviations of what held-out normal images score, so that a bank counts by how rarely it errs on this very
unit and not by the units its distances come in.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmuad.config import FuseParams
from tmuad.errors import ArtifactError
from tmuad.parquet import write_artifact
from tmuad.score.text import Finding

BANKS = ("text", "objects", "patches")
FLOOR = {"text": 0.1, "objects": 0.01, "patches": 0.01}  # smallest standard deviation a bank is believed to have
UNRELIABLE = 0.3  # a kind of finding that this share of the held-out normal images shows says nothing

Maps = dict[str, NDArray[np.float32]]  # bank -> (S, S)


@dataclass(frozen=True)
class Calibration:
    """What held-out normal images say of the banks."""

    centre: dict[str, float]  # mean over the images of the map's maximum
    scale: dict[str, float]  # its standard deviation
    reliability: dict[str, float]  # "class/attribute" -> 0..1; 1 where nothing is listed
    threshold: float  # an image that scores above is anomalous
    false_alarm_rate: float  # promised
    normal_scores: tuple[float, ...]  # S_image of the held-out images under the others' scales, ascending
    warning: str = ""
    by_class: bool = True  # whether the unit has object classes; without, the object bank compares mere regions

    @property
    def normals(self) -> int:
        return len(self.normal_scores)

    def p_value(self, score: float) -> float:
        """Conformal p-value: how often a normal image scores this high, given the held-out ones; 1 without any."""
        return (1 + sum(normal >= score for normal in self.normal_scores)) / (self.normals + 1)

    def save(self, path: Path) -> None:
        content = asdict(self)
        content["threshold"] = self.threshold if math.isfinite(self.threshold) else None  # JSON knows no infinity
        write_artifact(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def load_calibration(path: Path) -> Calibration:
    """Raises ArtifactError if the file is missing or not a calibration."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        threshold = math.inf if content["threshold"] is None else content["threshold"]
        return Calibration(**content | {"threshold": threshold, "normal_scores": tuple(content["normal_scores"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{path}: no usable calibration ({error}); run the stage 'fuse' of this unit again"
        ) from None


def reliability_of(findings: Sequence[Sequence[Finding]]) -> dict[str, float]:
    """Per kind of finding, 1 less its share of normal images over UNRELIABLE: one inner sequence per held-out image."""
    shares: dict[str, float] = {}
    for found in findings:
        for key in {f"{f.object_class}/{f.attribute}" for f in found if f.strength >= 0.1}:
            shares[key] = shares.get(key, 0.0) + 1 / len(findings)
    return {key: max(0.0, 1 - share / UNRELIABLE) for key, share in sorted(shares.items())}


def standardisation(maxima: dict[str, NDArray[np.float64]]) -> tuple[dict[str, float], dict[str, float]]:
    """Centre and scale per bank from the maxima (n,) of its maps on n held-out normal images; 0 and the floor for n = 0."""
    centre = {bank: float(values.mean()) if values.size else 0.0 for bank, values in maxima.items()}
    scale = {}
    for bank, values in maxima.items():
        spread = float(values.std(ddof=1)) if values.size > 1 else abs(centre[bank]) / 4
        scale[bank] = max(spread, FLOOR[bank] if bank == "text" else FLOOR[bank] * max(1e-6, centre[bank]))
    return centre, scale


def weighted(maps: Maps, calibration: Calibration | None, params: FuseParams) -> Maps:
    """What each bank adds to S_pixel, (S, S) float32: `fuse` is their sum, and a subset of the banks the sum of some.

    Without a held-out normal image nothing is calibrated, and the paper's weights are used.
    """
    if params.method == "paper" or calibration is None or calibration.normals == 0:
        return {bank: np.float32(getattr(params.paper, bank)) * maps[bank] for bank in BANKS}
    terms = {}
    for bank in BANKS:
        if not maps[bank].any():  # as the text bank's of most normal images; all that follows would come to this
            terms[bank] = maps[bank]
            continue
        centre, scale = np.float32(calibration.centre[bank]), np.float32(calibration.scale[bank])
        # The excess counts, smoothly (softplus): a bank that finds a pixel more normal than most must not argue another
        # bank down, yet among such pixels the order stays. A map of zero adds nothing.
        excess = _softplus((maps[bank] - centre) / scale) - _softplus(-centre / scale)
        weight = getattr(params.calibrated, bank)
        if bank == "objects" and not calibration.by_class:
            weight *= params.regions
        terms[bank] = np.asarray(np.float32(weight) * excess, dtype=np.float32)
    return terms


def total(terms: Maps, banks: Sequence[str] = BANKS) -> NDArray[np.float32]:
    """S_pixel (S, S) float32 of the `weighted` maps, all or some. A bank left out says that every pixel is normal."""
    whole = np.zeros_like(terms["patches"])
    for bank in BANKS:
        if bank in banks:
            whole += terms[bank]
    return whole


def fuse(maps: Maps, calibration: Calibration | None, params: FuseParams) -> NDArray[np.float32]:
    """S_pixel (S, S) float32 of all three banks."""
    return total(weighted(maps, calibration, params))


def _softplus(x: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """log(1 + exp(x)) without overflow; six times as fast as `logaddexp`, which does the same one number at a time."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), dtype=np.float32)


def choose_threshold(normal_scores: NDArray[np.float64], false_alarm_rate: float) -> tuple[float, str]:
    """Threshold that a further normal image exceeds with at most `false_alarm_rate`, and a warning where n is too small.

    Split conformal prediction: with n exchangeable normal scores, the ceil((n + 1)(1 - rate))-th smallest keeps the promise.
    """
    n = len(normal_scores)
    if n == 0:
        return math.inf, "no held-out normal image: without a threshold every image passes; add normal images"
    rank = max(1, math.ceil((n + 1) * (1 - false_alarm_rate) - 1e-9))
    ordered = np.sort(normal_scores)
    if rank <= n:
        return float(ordered[rank - 1]), ""
    possible = 1 / (n + 1)
    return float(ordered[-1]), (
        f"{n} held-out normal images cannot promise a false-alarm rate of {false_alarm_rate:.1%}, only {possible:.1%}; "
        f"it takes {math.ceil(1 / false_alarm_rate - 1e-9) - 1}"
    )
