"""Another detector's map and the text bank's, fused as our own banks are (Eq. 5, calibrated): the detector stands where
the patch bank stood, and there is no object bank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tmuad.config import BankWeights, FuseParams
from tmuad.errors import DataError
from tmuad.plug.bank import SeenImage, TextBank
from tmuad.plug.maps import Map
from tmuad.score.banks import BankResult
from tmuad.score.fuse import Calibration, fuse
from tmuad.score.judge import judge
from tmuad.score.sentences import sentence
from tmuad.score.text import Finding

if TYPE_CHECKING:
    from tmuad.plug.compare import Comparison

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
