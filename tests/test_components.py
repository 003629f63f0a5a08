"""Objects of one drawn photograph: what was drawn is found, and nothing else."""

import time
from collections.abc import Sequence

import drawing as d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad import masks
from tmuad.config import ComponentsParams
from tmuad.segment.components import DESCRIPTOR, Component, describe_mask, find_components
from tmuad.segment.foreground import background_distance, pixel_features
from tmuad.segment.scene import pack_scene, unpack_scene

PARAMS = ComponentsParams()


def found(image: d.Photo, **params: float) -> list[Component]:
    return find_components(image, ComponentsParams(**params))  # type: ignore[arg-type]


def areas(components: Sequence[Component]) -> list[int]:
    return [masks.area(c.runs) for c in components]


def as_drawn(components: Sequence[Component], truth: Sequence[float]) -> bool:
    """Whether there are as many objects as drawn, each with the drawn area but for the blur of its rim.

    Masks are taken at half size from smoothed colours: an outline may lie up to 3 px outside the true one, 1 px inside.
    """
    if len(components) != len(truth):
        return False
    sides = np.sqrt(areas(components)) - np.sqrt(truth)
    return bool((sides > -2).all() and (sides < 6).all())


def mask_of(component: Component, image: d.Photo) -> NDArray[np.bool_]:
    return masks.decode(component.runs, (image.shape[0], image.shape[1]))


def kit() -> d.Photo:
    """Three discs and two bars; true areas 3 x 2463, 2 x 3600."""
    image = d.board()
    for x in (90, 220, 350):
        d.disc(image, x, 110, 28, d.RED)
    d.bar(image, 130, 300, 90, 40, d.STEEL, degrees=20)
    return d.bar(image, 320, 310, 90, 40, d.STEEL, degrees=75)


KIT_AREAS = [3600, 3600, 2463, 2463, 2463]


# ---- plain and difficult photographs of the same kit


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(kit(), id="clean"),
        pytest.param(d.photographed(kit(), noise=8), id="noise"),
        pytest.param(d.photographed(kit(), vignette=0.3), id="vignetting"),
        pytest.param(d.photographed(kit(), light=0.45), id="dark"),
        pytest.param(d.photographed(kit(), light=1.2), id="overexposed"),
        pytest.param(d.photographed(d.woven(kit(), 25)), id="woven background"),
        pytest.param(d.photographed(kit())[..., 1:2].repeat(3, axis=2), id="grey"),
    ],
)
def test_every_part_is_found_once_and_whole(image: d.Photo) -> None:
    components = found(image)
    assert as_drawn(components, KIT_AREAS)
    assert not any(c.container for c in components)


def test_objects_come_largest_first_with_masks_apart() -> None:
    image = d.photographed(kit())
    components = found(image)
    total = np.sum([mask_of(c, image) for c in components], axis=0)
    assert total.max() == 1
    assert areas(components) == sorted(areas(components), reverse=True)


def test_the_same_photograph_gives_the_same_bytes() -> None:
    first, second = (pack_scene(d.photographed(kit()), found(d.photographed(kit())), [], [], 32) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


# ---- nothing, or nearly nothing


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(d.board(), id="single colour"),
        pytest.param(d.board(colour=(0, 0, 0)), id="black"),
        pytest.param(d.board(colour=(255, 255, 255)), id="white"),
        pytest.param(d.photographed(d.board(), noise=6, vignette=0.3), id="empty board"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (448, 448, 3)).astype(np.uint8), id="noise"),
    ],
)
def test_an_image_without_objects_has_none(image: d.Photo) -> None:
    assert found(image) == []


def test_what_is_smaller_than_min_area_is_no_object() -> None:
    image = d.photographed(d.disc(d.board(), 200, 200, 6, d.RED))  # 113 px of 200704: 0.06 %
    assert found(image) == []
    assert as_drawn(found(image, min_area=0.0003), [113])


def test_sensitivity_decides_on_faint_objects() -> None:
    image = d.photographed(d.disc(d.board(), 200, 200, 40, tuple(v + 26 for v in d.GREY)), noise=2)  # type: ignore[arg-type]
    assert found(image, sensitivity=0.3) == []
    assert as_drawn(found(image, sensitivity=2.0), [5027])


# ---- shapes and places that are easily lost


def test_a_part_cut_by_the_border_is_found() -> None:
    image = d.photographed(d.disc(d.disc(d.board(), 0, 200, 40, d.RED), 250, 250, 40, d.RED))
    assert as_drawn(found(image), [5027, 2513])


def test_a_ring_is_one_object_with_its_hole() -> None:
    image = d.photographed(d.disc(d.board(), 200, 200, 50, d.STEEL, hole=25))
    components = found(image)
    assert as_drawn(components, [np.pi * 50**2])
    assert mask_of(components[0], image)[200, 200]


def test_a_ring_with_a_slit_is_one_object_with_its_hole() -> None:
    image = d.disc(d.board(), 200, 200, 50, d.STEEL, hole=25)
    image[198:202, 200:260] = d.GREY
    image = d.photographed(image)
    components = found(image)
    assert as_drawn(components, [np.pi * 50**2])
    assert mask_of(components[0], image)[200, 200]


@pytest.mark.parametrize("gap", [10, 14, 20])
def test_the_ground_between_four_discs_is_no_hole(gap: int) -> None:
    image = d.board()
    for x in (150, 206 + gap):
        for y in (150, 206 + gap):
            d.disc(image, x, y, 28, d.RED)
    assert as_drawn(found(d.photographed(image)), [2463] * 4)


def test_one_object_that_fills_nearly_all_is_one_object() -> None:
    image = d.photographed(d.bar(d.board(), 224, 224, 380, 380, d.BLUE))
    components = found(image)
    assert as_drawn(components, [380**2])
    assert not components[0].container


def test_an_object_over_the_whole_border_is_background() -> None:
    image = d.photographed(d.disc(d.bar(d.board(), 224, 224, 444, 444, d.BLUE), 224, 224, 40, d.YELLOW))
    assert as_drawn(found(image), [5027])


def test_a_tray_is_an_object_and_holds_objects() -> None:
    image = d.bar(d.board(), 224, 224, 370, 370, d.BLUE)
    for x, y in ((120, 120), (300, 130), (200, 300)):
        d.disc(image, x, y, 30, d.YELLOW)
    components = found(d.photographed(image))
    assert [c.container for c in components] == [True, False, False, False]
    assert as_drawn(components, [370**2, 2827, 2827, 2827])
    assert components[0].splits == ()


# ---- touching parts


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(lambda im: d.disc(d.disc(im, 180, 200, 30, d.RED), 237, 200, 30, d.RED), (2827, 2827), id="discs"),
        pytest.param(
            lambda im: d.bar(d.bar(im, 200, 180, 120, 34, d.STEEL), 200, 213, 120, 34, d.STEEL),
            (4080, 4080),
            id="side by side",
        ),
        pytest.param(
            lambda im: d.bar(d.bar(im, 150, 200, 100, 30, d.STEEL), 249, 200, 100, 30, d.STEEL),
            (3000, 3000),
            id="end to end",
        ),
    ],
)
def test_one_way_to_split_touching_twins_is_the_true_one(draw, truth: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    (clump,) = found(d.photographed(draw(d.board())))
    assert any(len(split) == 2 and as_drawn(split, truth) for split in clump.splits)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_parts_of_a_split_do_not_overlap_and_lie_in_the_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    image = d.board(256)
    for _ in range(6):
        d.disc(image, *random.uniform(60, 196, 2), random.uniform(8, 30), d.RED)
    image = d.photographed(image, seed)
    smallest = PARAMS.min_area * image.shape[0] * image.shape[1]
    for component in found(image):
        whole = mask_of(component, image)
        for split in component.splits:
            total = np.sum([mask_of(piece, image) for piece in split], axis=0)
            assert total.max() == 1
            assert not (total.astype(bool) & ~whole).any()
            assert len(split) >= 2
            assert min(areas(split)) >= smallest - 4


# ---- many objects, other sizes


@pytest.mark.parametrize(
    ("pitch", "number"), [(27, 14 * 14), (20, 1)]
)  # the last ones touch, as far as the eye can see
def test_hundreds_of_objects_take_seconds_at_most(pitch: int, number: int) -> None:
    image = d.board()
    for x in range(40, 400, pitch):
        for y in range(40, 400, pitch):
            image[y : y + 14, x : x + 14] = d.RED
    image = d.photographed(image)
    start = time.process_time()
    components = found(image, min_area=0.0004)
    assert time.process_time() - start < 3
    assert len(components) == number


@pytest.mark.parametrize("size", [64, 66, 130, 320, 600])
def test_any_even_size_works(size: int) -> None:
    image = d.photographed(d.disc(d.board(size), size * 0.6, size * 0.4, size * 0.12, d.RED))
    components = found(image)
    assert as_drawn(components, [np.pi * (size * 0.12) ** 2])
    assert mask_of(components[0], image).shape == (size, size)


# ---- the descriptor


def look(image: d.Photo) -> NDArray[np.float32]:
    (component,) = found(image)
    return component.descriptor


def test_the_descriptor_says_what_was_drawn() -> None:
    values = dict(zip(DESCRIPTOR, look(d.photographed(d.bar(d.board(), 200, 200, 120, 40, d.RED))), strict=True))
    assert np.exp(values["log_area"]) == pytest.approx(120 * 40 / 448**2, rel=0.2)
    assert values["log_aspect"] == pytest.approx(np.log(3), abs=0.1)
    assert values["solidity"] == pytest.approx(3 / np.pi, abs=0.03)
    assert (values["L"], values["a"], values["b"]) == pytest.approx((42.9, 54.6, 40.6), abs=3)


def test_solidity_tells_a_disc_from_a_ring_segment() -> None:
    disc = look(d.photographed(d.disc(d.board(), 200, 200, 40, d.RED)))
    crescent = d.disc(d.disc(d.board(), 200, 200, 50, d.RED), 222, 200, 40, d.GREY)
    place = DESCRIPTOR.index("solidity")
    assert disc[place] == pytest.approx(1, abs=0.02)
    assert look(d.photographed(crescent))[place] < 0.9


@pytest.mark.parametrize(("x", "y"), [(120, 120), (330, 150), (221, 333)])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_the_descriptor_is_free_of_place_and_quarter_turns(x: float, y: float, turn: int) -> None:
    reference = look(d.photographed(d.bar(d.board(), 224, 224, 110, 36, d.STEEL, 15)))
    moved = look(np.rot90(d.photographed(d.bar(d.board(), x, y, 110, 36, d.STEEL, 15), seed=1), turn).copy())
    assert np.allclose(moved, reference, atol=[0.03, 0.6, 0.4, 0.4, 0.5, 0.4, 0.03, 0.02, 0.1])


MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: (
        st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
        .filter(any)
        .map(lambda bits: np.array(bits).reshape(shape))
    )
)


@given(MASKS, st.integers(0, 100))
def test_the_descriptor_of_any_mask_is_finite(mask: NDArray[np.bool_], seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(*mask.shape, 4)).astype(np.float32)
    with np.errstate(all="raise"):
        values = describe_mask(mask, features)
    assert values.shape == (len(DESCRIPTOR),)
    assert np.isfinite(values).all()
    turned = describe_mask(np.rot90(mask), np.rot90(features))
    assert np.allclose(values, turned, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_lines_and_points_have_a_look(shape: tuple[int, int]) -> None:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    values = describe_mask(mask, np.zeros((40, 40, 4), dtype=np.float32))
    assert values[DESCRIPTOR.index("log_aspect")] == pytest.approx(np.log(max(shape)), abs=1e-5)
    assert values[DESCRIPTOR.index("solidity")] == pytest.approx(3 / np.pi, abs=1e-5)


# ---- the background model


def test_background_is_near_and_foreground_far() -> None:
    image = d.photographed(d.disc(d.board(), 224, 224, 60, d.RED))
    distance = background_distance(pixel_features(image))
    assert distance.shape == (224, 224)
    assert np.quantile(distance[:60], 0.99) < 4
    assert distance[100:124, 100:124].min() > 20


def test_two_backgrounds_are_both_background() -> None:
    image = d.board()
    image[:, 224:] = d.STEEL
    image = d.photographed(d.disc(d.disc(image, 110, 224, 40, d.RED), 340, 224, 40, d.RED))
    objects = [c for c in found(image) if mask_of(c, image)[224, [110, 340]].any()]
    assert as_drawn(objects, [5027, 5027])


def test_distance_is_zero_outside_the_region() -> None:
    features = pixel_features(d.photographed(kit()))
    region = np.zeros(features.shape[:2], dtype=np.bool_)
    region[40:180, 40:180] = True
    assert not background_distance(features, region)[~region].any()


# ---- the record in the cache


def test_a_scene_survives_the_cache() -> None:
    image = d.photographed(d.disc(kit(), 105, 160, 28, d.RED))  # touches a disc
    components = found(image)
    regions = [c.runs for c in components[:2]]
    scene = unpack_scene(pack_scene(image, components, regions, [0.5, 0.25], 32))
    assert len(scene.components) == len(components)
    assert any(c.splits for c in components)
    number = 0
    for before, after in zip(components, scene.components, strict=True):
        pairs = [(before, after)]
        for split, kept in zip(before.splits, after.splits, strict=True):
            pairs += zip(split, kept, strict=True)
        for a, b in pairs:
            assert a.runs.tolist() == b.runs.tolist()
            assert a.descriptor.tolist() == b.descriptor.tolist()
            assert a.container == b.container
            assert b.index == number
            number += 1
    assert scene.crops.shape == (number, 32, 32, 3)
    assert [r.tolist() for r in scene.regions] == [r.tolist() for r in regions]
    assert scene.region_scores.tolist() == [0.5, 0.25]


def test_an_empty_scene_survives_the_cache() -> None:
    scene = unpack_scene(pack_scene(d.board(), [], [], [], 32))
    assert (scene.components, scene.regions, scene.crops.shape) == ([], [], (0, 32, 32, 3))
