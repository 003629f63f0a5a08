"""The scale of another detector's scores, and the threshold of the fused ones, from what it says of good images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.errors import DataError, ParameterError
from tmuad.plug.bank import TextBank
from tmuad.plug.fusion import Fusion, Scale
from tmuad.plug.maps import Map
from tmuad.score.fuse import Calibration, choose_threshold, reliability_of, standardisation
from tmuad.score.text import text_map, weigh

FLOOR = 0.05  # smallest standard deviation of a detector's maxima that is believed, as a share of what they rise to
FEW = 5  # with fewer normal images the scale is a guess, and the report says so


def calibrate(
    bank: TextBank,
    maps: Mapping[str, Any],
    scores: Mapping[str, float] | None,
    weight: float | None,
    unlabelled: bool,
) -> Fusion:
    """See `TextBank.calibrate`."""
    weight = bank.params.fuse.calibrated.text if weight is None else weight
    if not (np.isfinite(weight) and weight >= 0):
        raise ParameterError(f"weight: must be a number from 0 on, found {weight}")
    if not maps:
        raise DataError(
            f"{bank.unit}: no map of a good image to calibrate a scale on; run the detector on the images of the "
            "validation split as well (or, at worst, on those it was trained on)"
        )
    if scores is not None and (lacking := sorted(set(maps) - set(scores))):
        raise DataError(
            f"{lacking[0]}: no score of this good image ({len(lacking)} in all); give scores for all or for none"
        )
    seen = {name: bank.image(name) for name in maps}
    if not unlabelled and (bad := [s.name for s in seen.values() if s.kind not in ("good", "unknown")]):
        raise DataError(
            f"{bad[0]}: shows an anomaly, and a scale is set on good images; leave it out ({len(bad)} in all)"
        )
    extremes = np.array([_extremes(bank.map_of(seen[name], maps[name])) for name in maps])  # (n, 2) minimum, maximum
    scale = _scale(extremes[:, 1], float(extremes[:, 0].min()), unlabelled, "maps")
    score_scale = None
    if scores is not None:
        own = np.array([float(scores[name]) for name in maps])
        if not np.isfinite(own).all():
            raise DataError("a score of a good image is not finite; every score must be")
        score_scale = _scale(own, float(own.min()), unlabelled, "scores")
    draft = _calibration(bank, scale, len(seen))
    splits = {split: sum(s.split == split for s in seen.values()) for split in sorted({s.split for s in seen.values()})}
    remarks = _remarks(bank, splits, len(seen), unlabelled)
    unset = Fusion(bank, weight, scale, score_scale, draft, np.inf, (), splits, remarks)
    if unlabelled:
        return unset
    judged = [unset.one(name, maps[name], None if scores is None else scores[name]) for name in maps]
    rate = draft.false_alarm_rate
    peaks = np.array([float(fused.max()) for _, fused in judged])
    own_scores = np.array(sorted(image.score for image, _ in judged))
    of_maps, _ = choose_threshold(peaks, rate)
    threshold, warning = choose_threshold(own_scores, rate)
    calibration = replace(draft, threshold=of_maps, normal_scores=tuple(sorted(peaks.tolist())))
    remarks = unset.remarks + ((warning,) if warning else ())
    return replace(
        unset, calibration=calibration, threshold=threshold, normal_scores=tuple(own_scores.tolist()), remarks=remarks
    )


def _extremes(values: Map) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _scale(peaks: NDArray[np.float64], low: float, unlabelled: bool, what: str) -> Scale:
    """The scale of scores whose maxima on n images are `peaks` (n,); of unlabelled ones the lower half counts."""
    if unlabelled:
        peaks = np.sort(peaks)[: max(2, (len(peaks) + 1) // 2)]
    centre = float(peaks.mean()) - low
    spread = float(peaks.std(ddof=1)) if len(peaks) > 1 else abs(centre) / 4
    spread = max(spread, FLOOR * centre)
    if not spread > 1e-9 * max(1e-30, float(np.abs(peaks).max())):
        raise DataError(
            f"the {what} of the {len(peaks)} good images all hold {peaks[0]:g}: nothing tells how much is much; "
            "give the detector's scores before they are cut off, rounded or thresholded"
        )
    return Scale(low, centre, spread)


def _calibration(bank: TextBank, scale: Scale, normals: int) -> Calibration:
    """Of both maps; the text bank's part rests on the unit's held-out good images, whatever the detector was shown."""
    held_out = [list(seen.findings) for seen in bank.held_out()]
    reliability = reliability_of(held_out)
    maxima = np.array([text_map(weigh(found, reliability), bank.shape).max() for found in held_out], dtype=np.float64)
    centre, spread = standardisation({"text": maxima})
    return Calibration(
        centre={"text": centre["text"], "objects": 0.0, "patches": scale.centre},
        scale={"text": spread["text"], "objects": 1.0, "patches": scale.spread},
        reliability=reliability,
        threshold=np.inf,
        false_alarm_rate=bank.params.decide.of(bank.unit).false_alarm_rate,
        normal_scores=(np.nan,) * normals,  # not known yet
    )


def _remarks(bank: TextBank, splits: dict[str, int], count: int, unlabelled: bool) -> tuple[str, ...]:
    found = []
    if not bank.memory.classes:
        found.append(f"{bank.unit} has no object classes, so the text bank has nothing to say and changes nothing")
    if unlabelled:
        found.append(
            f"the scale is from {count} test images without a look at their labels: the lower half of their scores stands "
            "for good ones; no threshold is set"
        )
    elif splits.get("test"):
        found.append("the scale is from test images known to be good: figures on the same images flatter")
    if splits.get("train"):
        found.append(
            f"the scale is from {splits['train']} images of the training split: detectors score those lower than new ones, "
            "and the threshold keeps no promise"
        )
    if count < FEW:
        found.append(f"the scale is from {count} images alone; give at least {FEW}")
    return tuple(found)
