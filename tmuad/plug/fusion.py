"""Another detector's map and the text bank's, fused as our own banks are (Eq. 5, calibrated): the detector stands where
the patch bank stood, and there is no object bank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad.config import BankWeights, FuseParams
from tmuad.errors import DataError, ParameterError
from tmuad.plug.bank import SeenImage, TextBank
from tmuad.plug.maps import Map
from tmuad.score.banks import BankResult
from tmuad.score.fuse import Calibration, choose_threshold, fuse, reliability_of, standardisation
from tmuad.score.judge import judge
from tmuad.score.sentences import sentence
from tmuad.score.text import Finding, text_map, weigh

if TYPE_CHECKING:
    from tmuad.plug.compare import Comparison

FLOOR = 0.05  # smallest standard deviation of a detector's maxima that is believed, as a share of what they rise to
FEW = 5  # with fewer normal images the scale is a guess, and the report says so
_NOTHING = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Scale:
    """What a detector's scores are like on normal images."""

    low: float  # smallest value of all its maps there: counted as zero, so that scores may be negative
    centre: float  # mean over the images of the maximum, above `low`
    spread: float  # its standard deviation


@dataclass(frozen=True)
class FusedImage:
    """The verdict on one image, with the text bank."""

    name: str
    image_id: str
    score: float  # with the text bank
    alone: float  # the detector's own: its score where it has one, else the maximum of its map
    threshold: float
    anomalous: bool
    p_value: float | None  # None where the scale is from unlabelled images
    shares: dict[str, float]  # parts of "text" and "detector" at the pixel that sets the score
    reasons: tuple[str, ...]  # the findings in words, strongest first
    findings: tuple[Finding, ...] = field(repr=False, compare=False)  # with their regions


@dataclass(frozen=True)
class Fusion:
    """A detector joined with a text bank."""

    bank: TextBank
    weight: float  # of the text bank; the detector's is 1
    scale: Scale  # of its maps
    score_scale: Scale | None  # of its own image scores, where it has some
    calibration: Calibration  # of the fused maps
    threshold: float  # of the image score: that of the maps, unless the detector has scores of its own
    normal_scores: tuple[float, ...]  # image scores of the normal images, ascending; empty for unlabelled ones
    splits: dict[str, int]  # where these images are from: split -> how many
    remarks: tuple[str, ...]

    def __call__(self, maps: Mapping[str, Any], scores: Mapping[str, float] | None = None) -> "Result":
        """Fuse the maps (and scores) of images, named as in `TextBank.calibrate`. Maps are read once here, and again when
        a fused map is asked for: a mapping that loads them from disk needs no memory.

        Raises:
            DataError: see `one`; scores and maps are of other images.
        """
        self._check_scores(maps, scores)
        images: dict[str, FusedImage] = {}
        for name in maps:
            image, _ = self.one(name, maps[name], None if scores is None else scores[name])
            if image.name in images:
                raise DataError(f"{name}: a second map of the image {image.name}; give one")
            images[image.name] = image
        return Result(self, images, dict(zip(images, maps, strict=True)), maps)

    def one(self, name: str, array: Any, score: float | None = None) -> tuple[FusedImage, Map]:
        """The verdict on one image and its fused map (S, S) float32.

        Args:
            array: the detector's map of it. score: the detector's own score, if it was calibrated with scores.

        Raises:
            DataError: an unknown image, or no usable map or score. ImageError: a new file is no image.
        """
        if (score is None) != (self.score_scale is None):
            lacking = (
                "calibrated with scores, so each map needs its score" if score is None else "calibrated without scores"
            )
            raise DataError(f"{name}: {lacking}; give scores to both calls or to none")
        if score is not None and not np.isfinite(score):
            raise DataError(f"{name}: its score is {score}; every score must be finite")
        seen = self.bank.image(name)
        values = self.bank.map_of(seen, array)
        return self._judged(seen, values, score)

    def _judged(self, seen: SeenImage, values: Map, score: float | None) -> tuple[FusedImage, Map]:
        result = _bank_result(seen, values, self.scale)
        verdict = judge(result, seen.description, self.bank.shape, self.calibration, _params(self.weight))
        fused = verdict.score
        if score is not None and self.score_scale is not None:
            fused = _joined(verdict.maxima["text"], score, self.score_scale, self.calibration, self.weight)
        p_value = None
        if self.normal_scores:
            p_value = replace(self.calibration, normal_scores=self.normal_scores).p_value(fused)
        image = FusedImage(
            name=seen.name,
            image_id=seen.image_id,
            score=fused,
            alone=float(values.max()) if score is None else float(score),
            threshold=self.threshold,
            anomalous=fused > self.threshold,
            p_value=p_value,
            shares={"text": verdict.shares["text"], "detector": verdict.shares["patches"]},
            findings=tuple(verdict.findings),
            reasons=tuple(sentence(finding, self.bank.names) for finding in verdict.findings),
        )
        return image, verdict.maps["fused"]

    def maps_of(self, name: str, array: Any) -> dict[str, Map]:
        """ "fused", "text", and "detector": the detector's own map, in its units; (S, S) float32."""
        seen = self.bank.image(name)
        values = self.bank.map_of(seen, array)
        maps = _bank_result(seen, values, self.scale).maps(self.bank.shape, self.calibration.reliability)
        return {"fused": fuse(maps, self.calibration, _params(self.weight)), "text": maps["text"], "detector": values}

    def _check_scores(self, maps: Mapping[str, Any], scores: Mapping[str, float] | None) -> None:
        if scores is None:
            return
        missing, extra = sorted(set(maps) - set(scores)), sorted(set(scores) - set(maps))
        if missing:
            raise DataError(
                f"{missing[0]}: a map without a score ({len(missing)} in all); give scores for all or for none"
            )
        if extra:
            raise DataError(f"{extra[0]}: a score without a map ({len(extra)} in all); the fused map needs both")


@dataclass(frozen=True)
class Result:
    """What a detector and the text bank say together of some images."""

    fusion: Fusion
    images: dict[str, FusedImage]  # by path below the unit's root, or as a new image was named
    given: dict[str, str]  # the same -> the name under which its map was given
    maps: Mapping[str, Any]

    def map_of(self, name: str) -> Map:
        """The fused map of an image, (S, S) float32."""
        return self.maps_of(name)["fused"]

    def maps_of(self, name: str) -> dict[str, Map]:
        """As `Fusion.maps_of`."""
        given = self.given[name]
        return self.fusion.maps_of(given, self.maps[given])

    @cached_property
    def by_id(self) -> dict[str, FusedImage]:
        return {image.image_id: image for image in self.images.values()}

    def compare(self, method: str = "detector") -> "Comparison":
        """The figures with and without the text bank on the unit's test images.

        Raises:
            DataError: a test image has no map.
        """
        from tmuad.plug.compare import compare

        return compare(self, method)


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


def _bank_result(seen: SeenImage, values: Map, scale: Scale) -> BankResult:
    """The detector's map (S, S) in the place of the patch bank's."""
    above = (values.astype(np.float64) - scale.low).astype(np.float32)
    return BankResult(seen.image_id, list(seen.findings), "", [], _NOTHING, above)


def _params(weight: float) -> FuseParams:
    return FuseParams(method="calibrated", calibrated=BankWeights(text=weight, objects=0, patches=1))


def _joined(text: float, score: float, scale: Scale, calibration: Calibration, weight: float) -> float:
    """The score of an image from the text map's maximum and the detector's own score: Eq. 5 on a single pixel."""
    pixel = {"text": text, "objects": 0.0, "patches": score - scale.low}
    maps = {bank: np.full((1, 1), value, dtype=np.float32) for bank, value in pixel.items()}
    own = replace(
        calibration,
        centre=calibration.centre | {"patches": scale.centre},
        scale=calibration.scale | {"patches": scale.spread},
    )
    return float(fuse(maps, own, _params(weight)).item())
