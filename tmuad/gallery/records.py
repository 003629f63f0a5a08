"""What the gallery's page knows: few figures of every image, and the rest of an image when its card opens.

The figures of a gallery of ordinary size lie in data.js. Those of a larger one come in files of ROWS images, which the page
loads one after another; nothing of an image is kept here once its file is written.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tmuad.cards.card import Card

CHUNK = 100  # images whose details come in one file
ROWS = 20_000  # images whose figures come in one file; so many lie in data.js itself
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


class Scripts:
    """The page's scripts, written as images come: `write(name, content)` is called for each file that is complete."""

    def __init__(self, write: Callable[[str, str], None]) -> None:
        self._write = write
        self._units, self._defects, self._reasons = _Names(), _Names(), _Names()
        self._thresholds: dict[str, float | None] = {}
        self._rows: list[list[Any]] = []
        self._details: list[dict[str, Any]] = []
        self._count = 0

    def add(self, item: Item) -> None:
        """The next image, in the order of the page's names."""
        if len(self._rows) == ROWS:
            self._write_rows()
        self._rows.append(self._row(item))
        self._details.append(_detail(item))
        self._count += 1
        if len(self._details) == CHUNK:
            self._write_details()

    def finish(self) -> None:
        """data.js, which everything else is loaded by."""
        if self._details:
            self._write_details()
        files = -(-self._count // ROWS) if self._count > ROWS else 0
        if files:
            self._write_rows()
        data = {
            "units": [{"name": name, "threshold": self._thresholds[name]} for name in self._units.known],
            "kinds": list(KINDS),
            "defects": list(self._defects.known),
            "reasons": [list(reason) for reason in self._reasons.known],
            "chunk": CHUNK,
            "rows": self._rows,
        }
        if files:
            data |= {"count": self._count, "files": files}
        self._write("data.js", f"window.TMUAD_GALLERY = {_script(data)};\n")

    def _row(self, item: Item) -> list[Any]:
        card = item.card
        self._thresholds[card.unit] = None if card.threshold is None else round(card.threshold, 4)
        given = sorted({self._reasons((reason.attribute, reason.name)) for reason in card.reasons})
        return [
            item.picture, self._units(card.unit), card.image, KINDS.index(item.kind), self._defects(item.defect),
            int(item.split == "test"), int(card.verdict == "anomalous"), round(card.score, 4), given,
        ]  # fmt: skip

    def _write_rows(self) -> None:
        number = (self._count - 1) // ROWS
        self._write(f"rows/{number}.js", f"TMUAD_GALLERY.more({number}, {_script(self._rows)});\n")
        self._rows = []

    def _write_details(self) -> None:
        number = (self._count - 1) // CHUNK
        self._write(f"details/{number}.js", f"TMUAD_GALLERY.detail({number}, {_script(self._details)});\n")
        self._details = []


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
