"""From the banks' results to a verdict: calibration on held-out normal images, fused score, decision, reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from tmuad import masks
from tmuad.config import DecideParams, FuseParams
from tmuad.describe.description import ImageDescription
from tmuad.describe.position import cell
from tmuad.score.banks import BankResult
from tmuad.score.fuse import (
    BANKS,
    Calibration,
    Maps,
    choose_threshold,
    fuse,
    reliability_of,
    standardisation,
    total,
    weighted,
)
from tmuad.score.text import Finding, weigh

PARTS = 64  # in which held-out images are scored by the others' standardisation; one by one if there are no more
MAX_APPEARANCE = 3  # unusual regions that are named; the map shows all


@dataclass(frozen=True)
class Verdict:
    """The decision on one image and what it rests on."""

    image_id: str
    score: float  # S_image: maximum of the fused map
    threshold: float
    anomalous: bool
    maxima: dict[str, float]  # maximum of each bank's own map
    shares: dict[str, float]  # part of each bank in the score, at the pixel that sets it; they add up to 1
    findings: list[Finding]  # strongest first
    maps: Maps  # "text", "objects", "patches" and "fused": (S, S) float32
    terms: Maps  # what each bank adds to "fused": (S, S) float32


def calibrate(
    normals: Sequence[BankResult],
    shape: tuple[int, int],
    fusion: FuseParams,
    decide: DecideParams,
    by_class: bool = True,
) -> Calibration:
    """Standardise the banks and set the threshold on held-out normal images; `by_class`: the unit has object classes."""
    return calibrate_each(normals, shape, fusion, decide, by_class)[0]


def calibrate_each(
    normals: Sequence[BankResult],
    shape: tuple[int, int],
    fusion: FuseParams,
    decide: DecideParams,
    by_class: bool = True,
) -> tuple[Calibration, list[Calibration]]:
    """As `calibrate`, and for each of `normals` the calibration that it is judged by: its banks are standardised by others.

    The threshold is that of the scores they get so. An image that takes part in its own standardisation never looks as
    strange as a new one, and the promise would be broken.
    """
    strongest = {bank: np.array([_maximum(r, bank, shape, {}) for r in normals]) for bank in ("objects", "patches")}

    def draft(kept: Sequence[int]) -> Calibration:
        results = [normals[i] for i in kept]
        reliability = reliability_of([r.findings for r in results])
        text = np.array([_maximum(r, "text", shape, reliability) if r.findings else 0.0 for r in results])
        centre, scale = standardisation({"text": text, **{bank: values[kept] for bank, values in strongest.items()}})
        unset = (np.nan,) * len(kept)
        return Calibration(centre, scale, reliability, np.inf, decide.false_alarm_rate, unset, by_class=by_class)

    everyone = range(len(normals))
    final = draft(list(everyone))
    parts = min(len(normals), PARTS)
    # Of a single image there are no others.
    rest = (
        [draft([i for i in everyone if i % parts != part]) for part in range(parts)] if parts > 1 else [final] * parts
    )
    own = [rest[i % parts] for i in everyone]
    scores = [_score(result, others, shape, fusion) for result, others in zip(normals, own, strict=True)]
    threshold, warning = choose_threshold(np.array(scores), decide.false_alarm_rate)
    final = replace(final, threshold=threshold, normal_scores=tuple(sorted(scores)), warning=warning)
    return final, [replace(others, threshold=threshold) for others in own]


def _score(result: BankResult, calibration: Calibration, shape: tuple[int, int], fusion: FuseParams) -> float:
    return float(fuse(result.maps(shape, calibration.reliability), calibration, fusion).max())


def _maximum(result: BankResult, bank: str, shape: tuple[int, int], reliability: dict[str, float]) -> float:
    return float(result.map_of(bank, shape, reliability).max())


def judge(
    result: BankResult,
    description: ImageDescription,
    shape: tuple[int, int],
    calibration: Calibration,
    fusion: FuseParams,
) -> Verdict:
    """The verdict on one image."""
    maps = result.maps(shape, calibration.reliability)
    terms = weighted(maps, calibration, fusion)
    fused = total(terms)
    score = float(fused.max())
    anomalous = score > calibration.threshold
    findings = weigh(result.findings, calibration.reliability)
    if anomalous:
        findings += _appearance(terms, description, calibration.threshold, needed=not findings)
    return Verdict(
        image_id=result.image_id,
        score=score,
        threshold=calibration.threshold,
        anomalous=anomalous,
        maxima={bank: float(maps[bank].max()) for bank in BANKS},
        shares=_shares(terms, fused),
        findings=findings,
        maps={**maps, "fused": fused},
        terms=terms,
    )


def subset_score(terms: Maps, banks: Sequence[str]) -> float:
    """S_image of some of the banks alone (Table V), from a verdict's `terms`."""
    return float(total(terms, banks).max())


def _shares(terms: Maps, fused: NDArray[np.float32]) -> dict[str, float]:
    peak = np.unravel_index(int(fused.argmax()), fused.shape)
    # A bank that finds the pixel more normal than most takes no part, rather than a negative one.
    alone = {bank: max(0.0, float(terms[bank][peak])) for bank in BANKS}
    whole = sum(alone.values())
    return {bank: value / whole if whole > 0 else 0.0 for bank, value in alone.items()}


def _appearance(terms: Maps, description: ImageDescription, threshold: float, needed: bool) -> list[Finding]:
    """Regions that look unlike anything normal: what the two image banks say without the text bank.

    With `needed`, the strongest region is named even if it takes the sum of several banks to reach the threshold.
    """
    image = total(terms, ["objects", "patches"])
    level = threshold
    if image.max() <= level:
        if not needed or image.max() <= 0:
            return []
        level = 0.7 * float(image.max())
    labels, _ = ndi.label(image > level)
    boxes = ndi.find_objects(labels)
    peaks = np.array([image[box][labels[box] == i + 1].max() for i, box in enumerate(boxes)])
    findings = []
    for i in np.argsort(-peaks, kind="stable")[:MAX_APPEARANCE]:
        region = labels == i + 1
        runs = masks.encode(region)
        rows, columns = np.nonzero(region)
        where = cell(float(columns.mean()) / region.shape[1], float(rows.mean()) / region.shape[0])
        peak = float(peaks[i])
        # A strength of 1/2 is the threshold itself, as the score's distance from normal grows it tends to 1.
        strength = peak / (peak + threshold) if np.isfinite(threshold) else 0.5
        on = _covering(runs, description)
        findings.append(Finding(on, "appearance", "as in normal images", "unlike them", strength, runs, 1, where))
    return findings


def _covering(region: masks.Runs, description: ImageDescription) -> str:
    """Class of the objects that hold most of `region`; empty where it lies on none."""
    overlap: dict[str, int] = {}
    for o in description.objects:
        overlap[o.object_class] = overlap.get(o.object_class, 0) + masks.intersection(region, o.runs)
    best = max(overlap, key=lambda name: overlap[name], default="")
    return best if best and overlap[best] > 0.3 * masks.area(region) else ""
