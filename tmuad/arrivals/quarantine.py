"""What looks anomalous waits here for a person: data/quarantine/<unit>/<first digits of the image id>/.

    <the image>     as it arrived
    verdict.json    what `tmuad score --json` says of it, and why it is here
    card.txt        the same for people
    heat_map.png

`release` sends an image on to the next re-fit, which then takes the person's word for it; `discard` keeps it out for good.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmuad.arrivals.files import move
from tmuad.cache import write_atomic
from tmuad.config import Params
from tmuad.data.images import SUFFIXES
from tmuad.data.verify import file_id
from tmuad.errors import DataError, ImageError

DIGITS = 12  # of the image id in the folder's name
CARDS = ("heat_map.png",)  # images that are no arrivals
RULINGS = "rulings.json"  # what people decided: image_id -> released, discarded or forgotten


@dataclass(frozen=True)
class Case:
    """One image in quarantine."""

    image_id: str
    path: Path
    verdict: dict[str, Any]  # empty where the card is missing

    @property
    def card(self) -> str:
        text = self.path.parent / "card.txt"
        return text.read_text(encoding="utf-8") if text.exists() else f"{self.path.name}: no card"


def folder_of(unit: str, params: Params) -> Path:
    return Path(params.refit.quarantine) / unit


def case_folder(unit: str, image_id: str, params: Params) -> Path:
    return folder_of(unit, params) / image_id[:DIGITS]


def cases(unit: str, params: Params) -> list[Case]:
    """All that waits, sorted by digest."""
    params.unit(unit)
    found = []
    for folder in sorted(folder_of(unit, params).glob("*/")):
        image = _image_in(folder)
        if image is None:
            continue
        card = folder / "verdict.json"
        try:
            verdict = json.loads(card.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            verdict = {}
        found.append(Case(str(verdict.get("image_id") or file_id(image)), image, verdict))
    return found


def write_card(unit: str, image_id: str, params: Params, verdict: dict[str, Any], card: str, heat_map: bytes) -> Path:
    """The verdict card of an image that is about to come in; its folder."""
    folder = case_folder(unit, image_id, params)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"image_id": image_id, **verdict}, indent=1, ensure_ascii=False) + "\n"
        write_atomic(folder / "verdict.json", content.encode())
        write_atomic(folder / "card.txt", (card + "\n").encode())
        if heat_map:
            write_atomic(folder / "heat_map.png", heat_map)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); free some space") from None
    return folder


def release(unit: str, image: str, params: Params) -> Path:
    """Send the image with the id `image` (or its first digits, or its file name) back to where new images arrive.

    The next re-fit admits it without asking the guard. Raises DataError if there is no such image, or several.
    """
    case = find(unit, image, params)
    rule(unit, case.image_id, "released", params)  # first: an image without a ruling would come straight back
    target = Path(params.refit.incoming) / unit / case.path.name
    if target.exists() and file_id(target) != case.image_id:
        target = target.with_name(f"{target.stem}-{case.image_id[:DIGITS]}{target.suffix}")
    move(case.path, target, case.image_id)
    shutil.rmtree(case.path.parent, ignore_errors=True)
    return target


def discard(unit: str, image: str, params: Params) -> Path:
    """Keep the image out for good: it goes to data/rejected/<unit>/, and is refused if it arrives again."""
    case = find(unit, image, params)
    rule(unit, case.image_id, "discarded", params)
    target = rejected_path(unit, case.path.name, case.image_id, params)
    move(case.path, target, case.image_id)
    write_atomic(target.with_name(f"{target.name}.txt"), b"discarded by a person from quarantine\n")
    shutil.rmtree(case.path.parent, ignore_errors=True)
    return target


def find(unit: str, image: str, params: Params) -> Case:
    waiting = cases(unit, params)
    exact = [case for case in waiting if image in (case.image_id, case.path.name, str(case.path))]
    found = exact or [case for case in waiting if len(image) >= 4 and case.image_id.startswith(image)]
    if len(found) == 1:
        return found[0]
    place = folder_of(unit, params)
    if found:
        names = ", ".join(case.image_id[:DIGITS] for case in found)
        raise DataError(f"{place}: '{image}' stands for several images ({names}); give more digits")
    waits = ", ".join(f"{case.image_id[:DIGITS]} ({case.path.name})" for case in waiting) or "nothing"
    raise DataError(f"{place}: no image '{image}'; waiting there: {waits}")


def rulings(unit: str, params: Params) -> dict[str, str]:
    """image_id -> "released", "discarded" or "forgotten"."""
    path = folder_of(unit, params) / RULINGS
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not readable ({error}); repair or remove it") from None


def rule(unit: str, image_id: str, ruling: str, params: Params) -> None:
    path = folder_of(unit, params) / RULINGS
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(rulings(unit, params) | {image_id: ruling}, indent=1, sort_keys=True) + "\n"
    write_atomic(path, content.encode())


def kept_out(unit: str, params: Params) -> dict[str, str]:
    """image_id -> why an image must not come in again, whatever it looks like."""
    reasons = {
        image_id: f"{ruling} by a person"
        for image_id, ruling in rulings(unit, params).items()
        if ruling in ("discarded", "forgotten")
    }
    return reasons | {case.image_id: "waits in quarantine" for case in cases(unit, params)}


def rejected_path(unit: str, name: str, image_id: str, params: Params) -> Path:
    """Where a refused image goes: its own name, unique by its digest."""
    file = Path(name)
    return Path(params.refit.rejected) / unit / f"{file.stem}-{image_id[:DIGITS]}{file.suffix}"


def _image_in(folder: Path) -> Path | None:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.name not in CARDS and not path.name.startswith("."):
            try:
                file_id(path)
            except ImageError:
                continue
            return path
    return None
