"""Where each position is from: the grid, a vision language model, or a person who put it right."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tmuad.describe.description import ImageDescription
from tmuad.describe.position import READING_ORDER
from tmuad.errors import ParameterError
from tmuad.parquet import write_artifact

log = logging.getLogger(__name__)

Positions = Mapping[tuple[str, str], list[str]]  # (image_id, object class) -> cells


@dataclass(frozen=True)
class Placed:
    """The position of one object class in one image."""

    image_id: str
    object_class: str
    source: str  # vlm | correction | grid: where the model's answer was not usable
    position: str


def place(
    descriptions: Sequence[ImageDescription], said: Positions | None, corrections: Positions
) -> tuple[list[ImageDescription], list[Placed]]:
    """`descriptions` with the positions that a model `said` (None: nobody was asked) and a person corrected.

    Classes that the model was asked about and said nothing usable of keep the grid's words, and are listed with a count.
    """
    placed: list[Placed] = []
    result = []
    for d in descriptions:
        classes = []
        for c in d.classes:
            key = (d.image_id, c.object_class)
            cells = corrections.get(key) or (said.get(key) if said is not None else None)
            words = ", ".join(cells) if cells else ""
            source = "correction" if key in corrections else "vlm" if cells else "grid"
            if said is not None or cells:
                placed.append(Placed(*key, source, words or c.position))
            classes.append(replace(c, said=words))
        result.append(ImageDescription(d.image_id, tuple(classes)))
    failures = sum(p.source == "grid" for p in placed)
    if failures:
        log.warning("%d of %d positions are the grid's: the model's answer was not usable", failures, len(placed))
    return result, placed


def write_placed(placed: Sequence[Placed], path: Path) -> None:
    """As csv, in the order of the images; only the header where all positions are the grid's by choice."""
    rows = [f'{p.image_id},"{p.object_class}",{p.source},"{p.position}"' for p in placed]
    write_artifact(path, "\n".join(["image_id,object_class,source,position", *rows, ""]).encode())


def load_corrections(path: Path, image_ids: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """The rows of data/corrections/<unit>.yaml; `image_ids` maps the paths of the unit's images to their ids.

    Raises:
        ParameterError: the file is not a list of rows, or a row names an image or a position that does not exist.
    """
    from tmuad.config import read_yaml

    rows = read_yaml(path) if path.exists() else None
    if rows is None:
        return {}
    if not isinstance(rows, list):
        raise ParameterError(f"{path}: expected a list of rows with image, object and position")
    found: dict[tuple[str, str], list[str]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or set(row) != {"image", "object", "position"}:
            raise ParameterError(f"{path}: row {number}: expected the keys image, object and position, found {row!r}")
        image, name, cells = str(row["image"]), str(row["object"]), row["position"]
        cells = [cells] if isinstance(cells, str) else cells
        if not isinstance(cells, list) or not cells or not all(c in READING_ORDER for c in cells):
            raise ParameterError(
                f"{path}: row {number}: position {row['position']!r}; known are {', '.join(READING_ORDER)}"
            )
        image_id = image_ids.get(image, image)
        if image_id not in image_ids.values():
            raise ParameterError(f"{path}: row {number}: no image {image!r} in this unit")
        if (image_id, name) in found:
            raise ParameterError(f"{path}: row {number}: {image} has a position of '{name}' already")
        found[image_id, name] = sorted(set(cells), key=READING_ORDER.__getitem__)
    return found
