"""The object classes of a unit for a person to name: a picture of examples, a line of numbers each, a file to fill in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich import box
from rich.console import Console
from rich.table import Table

from tmuad import masks
from tmuad.cache import write_atomic
from tmuad.config import Params
from tmuad.describe.description import ImageDescription, SceneObject, class_order
from tmuad.describe.position import READING_ORDER, cell
from tmuad.describe.table import read_descriptions
from tmuad.engine import load_image
from tmuad.errors import ArtifactError
from tmuad.parquet import read_parquet
from tmuad.report.overlay import CONTOUR, Picture, outline
from tmuad.report.panels import _FAINT, _GAP, _INK, _PAPER, _fit, _font, _png, _tile
from tmuad.score.sentences import load_names
from tmuad.segment.classes import load_classes
from tmuad.workspace import NAMES, REPORTS, UnitPaths

EXAMPLES = 6  # pictures of each class
CROP = 120  # px, side of a picture
MARGIN = 0.35  # of an object's longer side, shown around it
_LABEL = 250  # px, width of the words before the pictures


@dataclass(frozen=True)
class ClassFacts:
    """What the normal images show of one class. Sizes are of single objects, in shares of the image."""

    object_class: str
    name: str  # what a person calls it; "" if nobody has named it
    images: int  # normal images that show it
    of: int  # normal images
    counts: tuple[int, ...]  # distinct counts in the images that show it, ascending
    size: tuple[float, float]  # smallest, largest
    positions: tuple[str, ...]  # grid cells, the most frequent first
    examples: tuple[tuple[str, SceneObject], ...]  # (image_id, object)


def describe_classes(unit: str, params: Params) -> str:
    """What a terminal shows of the classes of a fitted `unit`; writes their picture, and a names file if there is none.

    The picture is reports/<unit>/classes.png, the file data/names/<unit>.yaml. An existing names file is left alone.

    Raises:
        ParameterError: the unit is unknown, or its names file cannot be understood.
        ArtifactError: the unit is not fitted as far as its text bank, or a file cannot be written.
        ImageError: a training image that is an example cannot be read any more.
    """
    root, paths = Path(params.unit(unit).root), UnitPaths(unit)
    if not paths.text_entries.exists():
        raise ArtifactError(
            f"{unit}: not fitted yet ({paths.text_entries} is missing); run: dvc repro text_bank@{unit}"
        )
    names_path, picture_path = NAMES / f"{unit}.yaml", REPORTS / unit / "classes.png"
    names = load_names(names_path)
    entries = read_descriptions(read_parquet(paths.text_entries))
    classes = load_classes(paths.classes).names
    facts = [class_facts(name, names.get(name, ("", ""))[0], entries) for name in sorted(classes, key=class_order)]
    columns = read_parquet(paths.manifest, ["image_id", "path"]).to_pydict()
    files = {image_id: root / path for image_id, path in zip(columns["image_id"], columns["path"], strict=True)}
    crops = [[_crop(load_image(files[i], params.data), o) for i, o in row.examples] for row in facts]
    fresh = not names_path.exists()
    try:
        picture_path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(picture_path, _png(draw_classes(facts, crops)))
        if fresh:
            names_path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(names_path, _template(unit, classes).encode())
    except OSError as error:
        raise ArtifactError(
            f"{error.filename}: cannot be written ({error.strerror}); make the folder writable"
        ) from None
    unknown = sorted(set(names) - set(classes), key=class_order)
    return _words(unit, facts, len(entries), picture_path, names_path, fresh, unknown)


def class_facts(object_class: str, name: str, entries: Sequence[ImageDescription]) -> ClassFacts:
    """Sums up one class over the descriptions of the normal images, examples taken at an even stride over them."""
    showing = [entry for entry in entries if object_class in entry.by_name]
    objects = [o for entry in showing for o in entry.by_name[object_class].objects]
    places = Counter(cell(o.x, o.y) for o in objects)
    stride = np.linspace(0, len(showing) - 1, min(EXAMPLES, len(showing))).round().astype(int)
    chosen = [showing[i] for i in stride.tolist()]
    return ClassFacts(
        object_class,
        name,
        len(showing),
        len(entries),
        tuple(sorted({entry.by_name[object_class].count for entry in showing})),
        (min((o.area for o in objects), default=0.0), max((o.area for o in objects), default=0.0)),
        tuple(sorted(places, key=lambda place: (-places[place], READING_ORDER[place]))),
        # Another of the objects each time, so that equal parts in different places all get their turn.
        tuple((e.image_id, (found := e.by_name[object_class].objects)[i % len(found)]) for i, e in enumerate(chosen)),
    )


def draw_classes(facts: Sequence[ClassFacts], crops: Sequence[Sequence[Picture]]) -> Image.Image:
    """A row per class: its name and numbers, then its examples (h, w, 3)."""
    row_height, width = CROP + _GAP, _LABEL + EXAMPLES * (CROP + _GAP) + _GAP
    sheet = Image.new("RGB", (width, max(1, len(facts)) * row_height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if not facts:
        draw.text((_GAP, CROP // 2), "No object class was found.", fill=_INK, font=_font(17))
    for row, (fact, pictures) in enumerate(zip(facts, crops, strict=True)):
        y = _GAP + row * row_height
        title = f"{fact.object_class}: {fact.name}" if fact.name else fact.object_class
        lines = [f"in {_images(fact)} images, {_counts(fact)} each", _size(fact), ", ".join(fact.positions)]
        draw.text((_GAP, y + 8), _fit(title, _font(17), _LABEL - 2 * _GAP), fill=_INK, font=_font(17))
        for number, line in enumerate(lines if fact.images else ["in no normal image"]):
            text = _fit(line, _font(13), _LABEL - 2 * _GAP)
            draw.text((_GAP, y + 36 + 19 * number), text, fill=_FAINT, font=_font(13))
        for column, picture in enumerate(pictures):
            sheet.paste(_tile(picture, CROP), (_LABEL + column * (CROP + _GAP), y))
    return sheet


def _crop(image: Picture, o: SceneObject) -> Picture:
    """A square around the object, outlined; grey where it reaches beyond the image."""
    shape = (image.shape[0], image.shape[1])
    x0, y0, x1, y1 = masks.box(o.runs, shape)
    half = max(8, round((0.5 + MARGIN) * max(x1 - x0, y1 - y0)))
    pad = ((half, half), (half, half), (0, 0))
    marked = np.pad(outline(image, masks.decode(o.runs, shape), CONTOUR, 1), pad, constant_values=224)
    top, left = (y0 + y1) // 2, (x0 + x1) // 2  # of the square, in padded coordinates
    return marked[top : top + 2 * half, left : left + 2 * half]


def _words(
    unit: str,
    facts: Sequence[ClassFacts],
    normals: int,
    picture: Path,
    names: Path,
    fresh: bool,
    unknown: Sequence[str],
) -> str:
    text = StringIO()
    console = Console(file=text, width=100, highlight=False, markup=False, emoji=False)
    found = f"{len(facts)} object class{'' if len(facts) == 1 else 'es'}" if facts else "no object class"
    console.print(f"{unit}: {found}, learnt from {normals} normal image{'' if normals == 1 else 's'}")
    if facts:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for heading in ("class", "name", "normal images", "in each", "size of one", "where"):
            table.add_column(heading)
        for fact in facts:
            table.add_row(
                fact.object_class,
                fact.name or "-",
                _images(fact),
                _counts(fact),
                _size(fact),
                ", ".join(fact.positions),
            )
        console.print(table)
    else:
        console.print(
            "Nothing stands out from the background in most of them; objects are not told apart in this unit."
        )
    console.print(f"Pictures: {picture}", soft_wrap=True)
    if facts:
        state = "a new file to fill in" if fresh else "change it as you like"
        console.print(f"Names:    {names} ({state}; then: dvc repro)", soft_wrap=True)
    for name in unknown:
        console.print(f"Note: {names} names '{name}', but there is no such class", soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _template(unit: str, classes: Sequence[str]) -> str:
    """A names file that names nothing yet."""
    head = (
        f"# What you call the object classes of {unit}; reports/{unit}/classes.png shows them.\n"
        "# Remove the '#' before a class and write its name behind it, for instance\n"
        "#   class-1: screw\n"
        "#   class-2: {one: die, many: dice}   where the plural is irregular\n\n"
    )
    return head + "".join(f"# {name}:\n" for name in classes)


def _images(fact: ClassFacts) -> str:
    return f"{fact.images} of {fact.of}"


def _counts(fact: ClassFacts) -> str:
    """'2', '1 to 3', '1 or 4'."""
    counts = fact.counts
    if len(counts) > 2 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]} to {counts[-1]}"
    return " or ".join(map(str, counts)) or "0"


def _size(fact: ClassFacts) -> str:
    low, high = (f"{100 * value:.1f}" for value in fact.size)
    return (f"{low} %" if low == high else f"{low} to {high} %") if fact.images else "-"
