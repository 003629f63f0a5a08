"""A scene as a record of the cache, and back: nothing lost, nothing mixed up."""

import numpy as np
from drawing import RED, STEEL, bar, board, disc, photographed
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad import masks
from tmuad.cache import Cache
from tmuad.config import SegmentParams
from tmuad.segment.components import DESCRIPTOR, Component
from tmuad.segment.scene import Scene, SceneTask, pack_scene, unpack_scene

SIDE = 12


@st.composite
def components(draw: st.DrawFn) -> list[Component]:
    """Components with any number of splits, each of two pieces or more."""
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)

    def component(splits: tuple[tuple[Component, ...], ...] = ()) -> Component:
        runs = masks.encode(rng.random((SIDE, SIDE)) < rng.uniform(0.05, 0.9))
        look = rng.normal(size=len(DESCRIPTOR)).astype(np.float32)
        return Component(runs, look, -1, splits, bool(rng.integers(2)))

    shape = draw(st.lists(st.lists(st.integers(2, 4), max_size=3), max_size=4))
    return [component(tuple(tuple(component() for _ in range(n)) for n in splits)) for splits in shape]


REGIONS = st.lists(st.lists(st.booleans(), min_size=SIDE * SIDE, max_size=SIDE * SIDE), max_size=3)


@settings(max_examples=40)
@given(components(), REGIONS)
def test_a_scene_comes_back_from_its_record(found: list[Component], drawn: list[list[bool]]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    regions = [masks.encode(np.array(values).reshape(SIDE, SIDE)) for values in drawn]
    scores = [0.1 * i for i in range(len(regions))]
    scene = unpack_scene(pack_scene(image, found, regions, scores, 8))
    assert len(scene.components) == len(found)
    for back, one in zip(scene.components, found, strict=True):
        same(back, one, scene)
        assert [len(split) for split in back.splits] == [len(split) for split in one.splits]
        for pieces, originals in zip(back.splits, one.splits, strict=True):
            for piece, original in zip(pieces, originals, strict=True):
                same(piece, original, scene)
                assert piece.splits == ()
    np.testing.assert_allclose(scene.region_scores, scores, atol=1e-6)
    assert [r.tolist() for r in scene.regions] == [r.tolist() for r in regions]
    number = sum(1 + sum(map(len, one.splits)) for one in found)
    assert scene.crops.shape == (number, 8, 8, 3) and len(scene.candidate_runs) == number
    indices = [c.index for one in scene.components for c in (one, *(p for split in one.splits for p in split))]
    assert indices == list(range(number))  # each candidate once, a component before its pieces


def same(back: Component, one: Component, scene: Scene) -> None:
    assert back.runs.tolist() == one.runs.tolist() == scene.candidate_runs[back.index].tolist()
    np.testing.assert_array_equal(back.descriptor, one.descriptor)
    assert back.container == one.container


def test_a_photograph_goes_through_the_cache_and_shows_its_parts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    image = photographed(bar(disc(board(96), 30, 30, 12, RED), 62, 60, 40, 14, STEEL))
    task, cache = SceneTask(SegmentParams(), 32), Cache(tmp_path)
    record = task(image, {})
    cache.put("id", task.fingerprint, record)
    kept = cache.get("id", task.fingerprint)
    assert kept is not None and {k: v.tobytes() for k, v in kept.items()} == {k: v.tobytes() for k, v in record.items()}
    scene = unpack_scene(kept)
    places = sorted(tuple(np.argwhere(masks.decode(c.runs, (96, 96))).mean(axis=0).round(-1)) for c in scene.components)
    assert places == [(30, 30), (60, 60)]
    assert all(masks.area(runs) > 0 for runs in scene.regions)


def test_parameters_and_crop_size_are_part_of_the_fingerprint() -> None:
    one = SceneTask(SegmentParams(), 32)
    other = SceneTask(SegmentParams.model_validate({"open": {"max_regions": 7}}), 32)
    assert len({one.fingerprint, other.fingerprint, SceneTask(SegmentParams(), 64).fingerprint}) == 3
