"""Object classes from looks alone, and the way touching parts are told apart."""

import json
from pathlib import Path

import drawing as d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad import masks
from tmuad.config import ComponentsParams
from tmuad.errors import ArtifactError
from tmuad.segment.classes import SCALE, ObjectClasses, learn_classes, load_classes
from tmuad.segment.components import DESCRIPTOR, Component, find_components
from tmuad.segment.scene import Scene
from tmuad.segment.table import resolve_objects, segment_rows

RUNS = masks.encode(np.ones((4, 4), dtype=np.bool_))
#                 log_area  L   a   b  Ls abs aspect solid texture
SCREW = np.array([-4.0, 60, 2, 4, 5, 3, 1.20, 0.93, 0.5])
WASHER = np.array([-4.6, 75, 1, 2, 4, 2, 0.02, 1.00, 0.3])
TRAY = np.array([-0.8, 40, -5, -30, 3, 2, 0.10, 0.95, 0.2])


def component(look: NDArray[np.float64], *splits: tuple[Component, ...]) -> Component:
    return Component(RUNS, look.astype(np.float32), splits=splits)


def seen(look: NDArray[np.float64], random: np.random.Generator, spread: float = 0.3) -> Component:
    return component(look + random.normal(0, spread, len(SCALE)) * SCALE)


def normals(n: int, *looks: tuple[NDArray[np.float64], int], seed: int = 0) -> list[list[Component]]:
    """`n` images with so many objects of each look."""
    random = np.random.default_rng(seed)
    return [[seen(look, random) for look, count in looks for _ in range(count)] for _ in range(n)]


def near(classes: ObjectClasses, *looks: NDArray[np.float64]) -> bool:
    """Whether the classes have the given looks, in this order."""
    return len(classes.names) == len(looks) and all(
        bool((np.abs(centre - look) < SCALE).all()) for centre, look in zip(classes.centre, looks, strict=True)
    )


# ---- how many classes


def test_one_look_is_one_class() -> None:
    assert near(learn_classes(normals(20, (SCREW, 3)), 12), SCREW)


def test_looks_with_constant_counts_are_classes_largest_first() -> None:
    classes = learn_classes(normals(20, (WASHER, 2), (TRAY, 1), (SCREW, 3)), 12)
    assert near(classes, TRAY, SCREW, WASHER)
    assert classes.names == ["class-1", "class-2", "class-3"]


def test_one_class_of_varying_brightness_stays_one() -> None:
    """How many are light and how many dark differs from image to image: no two classes."""
    random = np.random.default_rng(1)
    images = []
    for _ in range(30):
        images.append([])
        for _ in range(4):
            look = SCREW.copy()
            look[1] += random.uniform(-14, 14)
            images[-1].append(seen(look, random))
    assert len(learn_classes(images, 12).names) == 1


def test_unlike_things_are_classes_whatever_their_counts() -> None:
    random = np.random.default_rng(2)
    images = [
        [seen(SCREW, random, 0.2) for _ in range(random.integers(1, 6))]
        + [seen(TRAY, random, 0.2) for _ in range(random.integers(1, 6))]
        for _ in range(30)
    ]
    assert near(learn_classes(images, 12), TRAY, SCREW)


def test_a_look_seen_in_one_image_only_is_dropped() -> None:
    images = normals(20, (SCREW, 3))
    images[7].append(component(TRAY))
    assert near(learn_classes(images, 12), SCREW)


def test_where_every_look_is_rare_there_is_no_class() -> None:
    images: list[list[Component]] = [[] for _ in range(40)]
    images[3].append(component(SCREW))
    classes = learn_classes(images, 12)
    assert classes.names == []
    assert classes.centre.shape == (0, len(DESCRIPTOR))


@pytest.mark.parametrize("images", [[], [[]], [[], [], []]])
def test_no_objects_no_classes(images: list[list[Component]]) -> None:
    classes = learn_classes(images, 12)
    assert classes.names == []
    none = np.zeros(0, np.float32)
    assert resolve_objects(Scene([component(SCREW)], np.zeros((0, 32, 32, 3), np.uint8), [], [], none), classes) == []


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_are_enough(n: int) -> None:
    assert near(learn_classes(normals(n, (SCREW, 3), (TRAY, 1)), 12), TRAY, SCREW)


def test_at_most_max_classes_the_largest_first() -> None:
    assert near(learn_classes(normals(20, (SCREW, 3), (WASHER, 2), (TRAY, 1)), 2), TRAY, SCREW)


def test_identical_looks_are_one_class() -> None:
    with np.errstate(all="raise"):
        classes = learn_classes([[component(SCREW)] * 3] * 10, 12)
    assert near(classes, SCREW)
    assert np.isfinite(classes.scale).all()


@settings(max_examples=15)
@given(st.permutations(range(12)), st.integers(0, 1000))
def test_the_order_of_images_and_objects_changes_nothing(order: list[int], seed: int) -> None:
    images = normals(12, (SCREW, 3), (WASHER, 2), (TRAY, 1), seed=seed)
    shuffled = [[images[i][j] for j in np.random.default_rng(seed).permutation(6)] for i in order]
    one, other = learn_classes(images, 12), learn_classes(shuffled, 12)
    assert np.allclose(one.centre, other.centre, atol=1e-9)
    assert np.allclose(one.scale, other.scale, atol=1e-9)


def test_many_objects_are_divided_in_seconds() -> None:
    import time

    images = normals(150, (SCREW, 7), (WASHER, 5), (TRAY, 1))
    start = time.process_time()
    assert near(learn_classes(images, 12), TRAY, SCREW, WASHER)
    assert time.process_time() - start < 5


# ---- touching parts


def clump(random: np.random.Generator) -> Component:
    """Two screws that touch: larger, odd in shape, and split in two it is two screws."""
    whole = SCREW + np.array([np.log(2), 0, 0, 0, 0, 0, -0.6, -0.15, 0])
    good = (seen(SCREW, random), seen(SCREW, random))
    bad = tuple(seen(SCREW - np.array([0.7, 0, 0, 0, 0, 0, 0.4, 0, 0]), random) for _ in range(4))
    return component(whole, bad, good)


def test_a_clump_is_resolved_into_its_parts() -> None:
    random = np.random.default_rng(3)
    classes = learn_classes(normals(20, (SCREW, 3), (TRAY, 1)), 12)
    touching = clump(random)
    (resolved,) = classes.resolve([touching])
    assert [index for index, _, _ in resolved] == [1, 1]
    assert [part for _, _, part in resolved] == list(touching.splits[1])


def test_a_whole_object_stays_whole_whatever_its_splits() -> None:
    random = np.random.default_rng(4)
    classes = learn_classes(normals(20, (SCREW, 3), (TRAY, 1)), 12)
    half = SCREW - np.array([np.log(2), 0, 0, 0, 0, 0, 0.7, 0, 0])
    whole = component(SCREW, (seen(half, random), seen(half, random)))
    ((index, distance, found),) = classes.resolve([whole])[0]
    assert (index, found) == (1, whole)
    assert distance < 1


def test_clumps_do_not_become_a_class() -> None:
    """In a third of the images two of the three screws touch."""
    random = np.random.default_rng(5)
    images = normals(30, (SCREW, 3), (TRAY, 1))
    for found in images[::3]:
        found[:2] = [clump(random)]
    classes = learn_classes(images, 12)
    assert near(classes, TRAY, SCREW)
    for found in images:
        assert sorted(i for parts in classes.resolve(found) for i, _, _ in parts) == [0, 1, 1, 1]


def test_from_photographs_with_touching_parts_to_constant_counts() -> None:
    random = np.random.default_rng(6)
    scenes = []
    for i in range(10):
        image = d.board()
        for x, y in ((90, 120), (200, 120)):
            d.disc(image, x + random.uniform(-8, 8), y + random.uniform(-8, 8), 28, d.RED)
        gap = 54 if i % 5 == 0 else 80  # every fifth pair touches
        d.disc(d.disc(image, 330, 120, 28, d.RED), 330, 120 + gap, 28, d.RED)
        d.bar(image, 160, 330, 120, 36, d.STEEL, random.uniform(0, 180))
        scenes.append(find_components(d.photographed(image, i), ComponentsParams()))
    assert sorted(len(found) for found in scenes) == [4] * 2 + [5] * 8
    classes = learn_classes(scenes, 12)
    resolved = [[i for parts in classes.resolve(found) for i, _, _ in parts] for found in scenes]
    counts = [np.bincount(indices, minlength=2).tolist() for indices in resolved]
    assert sorted(counts[0]) == [1, 4]
    assert counts == [counts[0]] * 10


# ---- files and tables


def test_classes_survive_their_file(tmp_path: Path) -> None:
    classes = learn_classes(normals(20, (SCREW, 3), (TRAY, 1)), 12)
    classes.save(tmp_path / "classes.json")
    loaded = load_classes(tmp_path / "classes.json")
    assert loaded.names == classes.names
    assert np.allclose(loaded.centre, classes.centre, atol=1e-6)
    assert np.allclose(loaded.scale, classes.scale, atol=1e-6)


def test_no_classes_survive_their_file(tmp_path: Path) -> None:
    learn_classes([], 12).save(tmp_path / "classes.json")
    assert load_classes(tmp_path / "classes.json").names == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        "5",
        '{"version": 1}',
        '{"version": 2}',
        '{"version": 1, "descriptor": [], "classes": {}}',
        "\0",
    ],
)
def test_a_broken_file_names_itself_and_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"classes\.json.*run the stage 'segment'"):
        load_classes(path)


def test_a_file_with_too_few_numbers_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    row = {"centre": [1.0], "scale": [1.0]}
    path.write_text(json.dumps({"version": 1, "descriptor": list(DESCRIPTOR), "classes": {"class-1": row}}))
    with pytest.raises(ArtifactError):
        load_classes(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run the stage"):
        load_classes(tmp_path / "classes.json")


def test_segment_rows_tell_objects_from_regions() -> None:
    classes = learn_classes(normals(20, (SCREW, 3), (TRAY, 1)), 12)
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[2:5, 3:7] = True
    screw = Component(masks.encode(mask), SCREW.astype(np.float32), index=4)
    scene = Scene([screw], np.zeros((5, 32, 32, 3), np.uint8), [screw.runs] * 5, [RUNS_8], np.array([0.5], np.float32))
    grounded, opened = segment_rows("id", scene, classes, (8, 8))
    assert (grounded["source"], grounded["label"], grounded["candidate"], grounded["area"]) == (
        "grounded",
        "class-2",
        4,
        12,
    )
    assert [grounded[k] for k in ("x0", "y0", "x1", "y1")] == [3, 2, 7, 5]
    assert 0.5 < grounded["score"] <= 1
    assert (opened["source"], opened["label"], opened["candidate"], opened["area"], opened["score"]) == (
        "open",
        "",
        -1,
        64,
        0.5,
    )


RUNS_8 = masks.encode(np.ones((8, 8), dtype=np.bool_))
