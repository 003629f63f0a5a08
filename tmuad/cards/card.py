"""The verdict card: what was decided about one image, and everything the decision rests on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tmuad import masks
from tmuad.banks.text import TextBank
from tmuad.cards.difference import Field, compare
from tmuad.describe.description import ImageDescription
from tmuad.masks import Runs
from tmuad.score.fuse import Calibration
from tmuad.score.judge import Verdict
from tmuad.score.sentences import Names, noun, sentence


@dataclass(frozen=True)
class Reason:
    """A finding, and the sentence that says it."""

    object_class: str  # "" where it lies on none
    name: str  # what a person calls the class
    attribute: str
    expected: str
    found: str
    strength: float  # 0..1
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in px of the resized image; upper bounds exclusive
    sentence: str
    region: Runs  # (S, S); not part of the JSON


@dataclass(frozen=True)
class Neighbour:
    """A normal image that the image was compared with."""

    image_id: str
    path: str  # relative to the root of the unit
    says: str  # its text, or how far away it is


@dataclass(frozen=True)
class Card:
    """See the module. `threshold` is None where no held-out image could set one."""

    unit: str
    image: str
    image_id: str
    verdict: str  # good | anomalous
    score: float
    threshold: float | None
    p_value: float  # conformal: how often a normal image scores as high
    normals: int  # held-out images that threshold and p-value rest on
    shares: dict[str, float]  # bank -> part in the score, 0..1
    maxima: dict[str, float]  # bank -> maximum of its own map
    text: str  # what the image shows (T_img)
    reasons: tuple[Reason, ...]  # strongest first
    fields: tuple[Field, ...]
    nearest_by_text: Neighbour | None
    nearest_by_patch: Neighbour | None
    size: int  # px: side of the resized image that boxes refer to
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data; the regions are left out, their boxes stay."""
        data = asdict(self)
        for reason in data["reasons"]:
            del reason["region"]
        for name in ("shares", "maxima"):
            data[name] = {bank: round(value, 6) for bank, value in data[name].items()}
        for name in ("score", "threshold", "p_value"):
            data[name] = None if data[name] is None else round(data[name], 6)
        return data


def make_card(
    unit: str,
    image: str,
    verdict: Verdict,
    description: ImageDescription,
    bank: TextBank,
    calibration: Calibration,
    names: Names,
    *,
    nearest_text: str,
    nearest_patch: tuple[str, float],
    paths: Mapping[str, str],
    shape: tuple[int, int],
    notes: tuple[str, ...] = (),
) -> Card:
    """The card of one judged image.

    Args:
        nearest_text: image_id of T_sim, "" for none.
        nearest_patch: image_id ("" for none) and distance of the normal image that looks most like it.
        paths: image_id -> path of the unit's images.
    """
    similar = next((entry for entry in bank.entries if entry.image_id == nearest_text), None)
    reasons = tuple(
        Reason(
            f.object_class,
            noun(f.object_class, 1, names) if f.object_class else "",
            f.attribute,
            f.expected,
            f.found,
            round(f.strength, 4),
            masks.box(f.region, shape),
            sentence(f, names),
            f.region,
        )
        for f in verdict.findings
    )
    patch_id, distance = nearest_patch
    return Card(
        unit=unit,
        image=image,
        image_id=verdict.image_id,
        verdict="anomalous" if verdict.anomalous else "good",
        score=verdict.score,
        threshold=verdict.threshold if math.isfinite(verdict.threshold) else None,
        p_value=calibration.p_value(verdict.score),
        normals=calibration.normals,
        shares=dict(verdict.shares),
        maxima=dict(verdict.maxima),
        text=description.text,
        reasons=reasons,
        fields=tuple(compare(description, bank, similar, names)),
        nearest_by_text=Neighbour(nearest_text, paths.get(nearest_text, ""), similar.text) if similar else None,
        nearest_by_patch=(
            Neighbour(patch_id, paths.get(patch_id, ""), f"{distance:.2f} normal standard deviations away")
            if patch_id
            else None
        ),
        size=shape[0],
        notes=notes,
    )
