"""What an image shows, as structured facts and as one canonical text (Algorithm 1 of the paper)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tmuad.describe.position import READING_ORDER, cell
from tmuad.masks import Runs


@dataclass(frozen=True)
class SceneObject:
    """One object of an image."""

    object_class: str
    x: float  # centre of mass, share of the width
    y: float  # share of the height
    area: float  # share of the image
    runs: Runs  # mask (S, S)
    candidate: int = -1  # its row among the segmenter's candidates, where features of its own are kept


@dataclass(frozen=True)
class ClassDescription:
    """T_class of the paper: {O_class, O_num, O_pos, O_size} and the objects it sums up."""

    object_class: str
    objects: tuple[SceneObject, ...]
    said: str = ""  # its position in the words of a language model or a person, where these are to be used

    @property
    def count(self) -> int:
        return len(self.objects)

    @property
    def size(self) -> float:
        """Share of the image that the class covers (touching objects do not overlap, so areas add up)."""
        return sum(o.area for o in self.objects)

    @property
    def position(self) -> str:
        """Cells of the objects in reading order; a cell that holds n objects stands n times, so the text shows counts."""
        return self.said or ", ".join(sorted((cell(o.x, o.y) for o in self.objects), key=READING_ORDER.__getitem__))

    @property
    def text(self) -> str:
        return f"{self.count} {self.object_class} at {self.position}, {100 * self.size:.0f} %"


@dataclass(frozen=True)
class ImageDescription:
    """T_img of the paper: one `ClassDescription` per object class, in the canonical order of the class names."""

    image_id: str
    classes: tuple[ClassDescription, ...]
    by_name: dict[str, ClassDescription] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {c.object_class: c for c in self.classes})

    @property
    def text(self) -> str:
        return "; ".join(c.text for c in self.classes) or "nothing"

    @property
    def objects(self) -> list[SceneObject]:
        return [o for c in self.classes for o in c.objects]


def describe(image_id: str, objects: Sequence[SceneObject]) -> ImageDescription:
    """Sort and merge the objects of one image by class (lines 6 to 19 of Alg. 1)."""
    groups: dict[str, list[SceneObject]] = {}
    for o in objects:
        groups.setdefault(o.object_class, []).append(o)
    return ImageDescription(
        image_id,
        tuple(
            ClassDescription(name, tuple(sorted(groups[name], key=lambda o: (o.y, o.x))))
            for name in sorted(groups, key=class_order)
        ),
    )


def class_order(name: str) -> tuple[str, int, str]:
    """Sort key under which class-10 follows class-9."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number), name) if number.isdecimal() else (name, 0, name)


def grid_words(objects: Sequence[SceneObject]) -> str:
    """Where objects are, for people: 'left', '2 top right, 1 right'."""
    counts = Counter(cell(o.x, o.y) for o in objects)
    names = sorted(counts, key=READING_ORDER.__getitem__)
    if len(objects) == 1:
        return names[0]
    return ", ".join(f"{counts[name]} {name}" for name in names)
