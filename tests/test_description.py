"""Positions and descriptions: the canonical text of a scene."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad import masks
from tmuad.describe.description import (
    ClassDescription,
    ImageDescription,
    SceneObject,
    class_order,
    describe,
    grid_words,
)
from tmuad.describe.position import CELLS, READING_ORDER, cell, cells
from tmuad.describe.table import descriptions_table, read_descriptions, scene_object

SHAPE = (12, 12)
SHARES = st.floats(0, 1)


def thing(name: str, x: float, y: float, area: float = 0.01) -> SceneObject:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[min(11, int(12 * y)), min(11, int(12 * x))] = True
    return SceneObject(name, x, y, area, masks.encode(mask))


THINGS = st.lists(
    st.builds(thing, st.sampled_from(["class-1", "class-2", "class-10"]), SHARES, SHARES, SHARES), max_size=5
)


def facts(image: ImageDescription) -> list[tuple[object, ...]]:
    return [(o.object_class, o.x, o.y, o.area, o.runs.tolist()) for o in image.objects]


# ---- position


@given(SHARES, SHARES)
def test_a_cell_holds_the_point(x: float, y: float) -> None:
    names = [name for row in CELLS for name in row]
    column, row = sum(x * 3 >= edge for edge in (1, 2)), sum(y * 3 >= edge for edge in (1, 2))
    assert cell(x, y) == names[3 * row + column]


@pytest.mark.parametrize(
    ("x", "y", "name"), [(0, 0, "top left"), (1, 1, "bottom right"), (0.5, 0.5, "centre"), (0.5, 1, "bottom")]
)
def test_cells_by_name(x: float, y: float, name: str) -> None:
    assert cell(x, y) == name


@given(SHARES, SHARES, st.floats(0, 0.16))
def test_fuzzy_cells_hold_the_cell_and_grow_with_the_fuzz(x: float, y: float, fuzz: float) -> None:
    near = cells(x, y, fuzz)
    assert cell(x, y) in near
    assert len(near) in (1, 2, 4)
    assert near == sorted(near, key=READING_ORDER.__getitem__)
    assert set(cells(x, y, fuzz / 2)) <= set(near)
    assert cells(x, y, 0) == [cell(x, y)]


def test_a_point_at_a_cells_edge_is_in_both() -> None:
    assert cells(0.34, 0.5, 0.06) == ["left", "centre"]
    assert cells(0.34, 0.65, 0.06) == ["left", "centre", "bottom left", "bottom"]


# ---- description


def test_the_text_of_a_scene() -> None:
    image = describe(
        "id", [thing("class-2", 0.9, 0.1, 0.02), thing("class-1", 0.5, 0.5, 0.3), thing("class-2", 0.1, 0.1, 0.021)]
    )
    assert image.text == "1 class-1 at centre, 30 %; 2 class-2 at top left, top right, 4 %"
    assert image.by_name["class-2"].count == 2
    assert image.by_name["class-2"].size == pytest.approx(0.041)


def test_nothing_is_a_description_too() -> None:
    assert describe("id", []).text == "nothing"


@settings(max_examples=50)
@given(THINGS, st.randoms())
def test_the_order_of_objects_changes_nothing(objects: list[SceneObject], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(objects)
    random.shuffle(shuffled)
    one, other = describe("id", objects), describe("id", shuffled)
    assert one.text == other.text
    assert sorted(map(str, facts(one))) == sorted(map(str, facts(other)))


@given(THINGS)
def test_counts_and_sizes_add_up(objects: list[SceneObject]) -> None:
    image = describe("id", objects)
    assert sum(c.count for c in image.classes) == len(objects) == len(image.objects)
    assert sum(c.size for c in image.classes) == pytest.approx(sum(o.area for o in objects))
    assert all(len(c.position.split(", ")) == c.count for c in image.classes)


def test_class_10_follows_class_9() -> None:
    names = ["class-10", "class-9", "class-1", "bolt", "class-x", "a-b-2", "class-²", "", "-"]
    assert sorted(names, key=class_order).index("class-10") == sorted(names, key=class_order).index("class-9") + 1
    backwards = names[::-1]
    assert sorted(names, key=class_order) == sorted(backwards, key=class_order)


def test_grid_words() -> None:
    assert grid_words([thing("a", 0.1, 0.5)]) == "left"
    assert grid_words([thing("a", 0.9, 0.5), thing("a", 0.9, 0.1), thing("a", 0.8, 0.1)]) == "2 top right, 1 right"


# ---- tables


@settings(max_examples=30)
@given(st.lists(THINGS, max_size=3))
def test_descriptions_survive_their_table(scenes: list[list[SceneObject]]) -> None:
    images = [describe(f"image-{i}", objects) for i, objects in enumerate(scenes)]
    back = read_descriptions(descriptions_table(images, SHAPE, 0.06))
    assert [b.image_id for b in back] == [i.image_id for i in images]
    assert [b.text for b in back] == [i.text for i in images]
    assert [facts(b) for b in back] == [facts(i) for i in images]


def test_an_image_without_objects_keeps_its_row() -> None:
    (row,) = descriptions_table([describe("empty", [])], SHAPE, 0.06).to_pylist()
    assert (row["object_class"], row["count"], row["image_text"], row["runs"]) == ("", 0, "nothing", [])


def test_the_merged_mask_is_the_union() -> None:
    (row,) = descriptions_table([describe("id", [thing("a", 0.1, 0.1), thing("a", 0.9, 0.9)])], SHAPE, 0.06).to_pylist()
    assert masks.area(row["runs"]) == 2
    assert row["cells"] == ["top left", "bottom right"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))
def test_centre_and_area_of_a_mask(x: int, y: int, width: int, height: int) -> None:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[y : y + height, x : x + width] = True
    o = scene_object("a", masks.encode(mask), SHAPE)
    assert (o.x, o.y) == pytest.approx(((x + width / 2) / 12, (y + height / 2) / 12))
    assert o.area == pytest.approx(width * height / 144)


def test_a_class_description_counts_its_objects() -> None:
    assert ClassDescription("a", (thing("a", 0, 0), thing("a", 0, 0))).position == "top left, top left"
