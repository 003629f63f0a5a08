"""What the gallery's page knows: few figures of every image at once, and the rest of an image when its card opens."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tmuad.cards.card import Card

CHUNK = 100  # images whose details come in one file
KINDS = ("good", "logical", "structural")


@dataclass(frozen=True)
class Item:
    """One scored image of the gallery. Pictures are named by a stem, in the folders of their kinds."""

    card: Card
    kind: str  # good | logical | structural: what is true of it
    defect: str
    split: str  # validation | test
    picture: str  # stem of thumbs/, images/ and maps/
    truth: str = ""  # stem in truth/; "" without a mask
    nearest_by_text: str = ""  # stem in images/; "" for none
    nearest_by_patch: str = ""

    @property
    def wrong(self) -> bool:
        return (self.kind == "good") != (self.card.verdict == "good")


@dataclass
class _Names:
    """Strings by number, in the order they first come up."""

    known: dict[Any, int] = field(default_factory=dict)

    def __call__(self, name: Any) -> int:
        return self.known.setdefault(name, len(self.known))


def index_script(items: Sequence[Item]) -> str:
    """data.js: the figures that filters and sorting need."""
    units, defects, reasons = _Names(), _Names(), _Names()
    thresholds: dict[str, float | None] = {}
    rows = []
    for item in items:
        card = item.card
        thresholds[card.unit] = None if card.threshold is None else round(card.threshold, 4)
        given = sorted({reasons((reason.attribute, reason.name)) for reason in card.reasons})
        rows.append([
            item.picture, units(card.unit), card.image, KINDS.index(item.kind), defects(item.defect),
            int(item.split == "test"), int(card.verdict == "anomalous"), round(card.score, 4), given,
        ])  # fmt: skip
    data = {
        "units": [{"name": name, "threshold": thresholds[name]} for name in units.known],
        "kinds": list(KINDS),
        "defects": list(defects.known),
        "reasons": [list(reason) for reason in reasons.known],
        "chunk": CHUNK,
        "rows": rows,
    }
    return f"window.TMUAD_GALLERY = {_script(data)};\n"


def detail_scripts(items: Sequence[Item]) -> list[str]:
    """details/0.js, details/1.js, ...: what the cards show, CHUNK images each."""
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    return [f"TMUAD_GALLERY.detail({n}, {_script([_detail(i) for i in chunk])});\n" for n, chunk in enumerate(chunks)]


def _detail(item: Item) -> dict[str, Any]:
    card = item.card
    neighbours = []
    for by, neighbour, picture in (
        ("text", card.nearest_by_text, item.nearest_by_text),
        ("patch", card.nearest_by_patch, item.nearest_by_patch),
    ):
        if neighbour is not None:
            neighbours.append({"by": by, "path": neighbour.path, "says": neighbour.says, "picture": picture})
    return {
        "id": card.image_id,
        "p": round(card.p_value, 4),
        "normals": card.normals,
        "size": card.size,
        "shares": [[bank, round(share, 3)] for bank, share in card.shares.items()],
        "reasons": [{"words": r.sentence, "box": list(r.box), "strength": round(r.strength, 3)} for r in card.reasons],
        "fields": [[f.name, f.field, f.found, f.normal, f.nearest, int(f.outside)] for f in card.fields],
        "neighbours": neighbours,
        "truth": item.truth,
    }


def _script(data: Any) -> str:
    """JSON in ASCII, which is a script whatever a page's encoding is; NaN and infinity are not in it."""
    return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
