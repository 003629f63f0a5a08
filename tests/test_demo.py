import csv
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tmuad.config import DemoParams, parse_params
from tmuad.data.demo import generate
from tmuad.data.demo.brush import Part
from tmuad.data.demo.faults import LOGICAL, STRUCTURAL
from tmuad.data.demo.generate import PIXEL_VALUES, draw_faulty, draw_good, image_rng
from tmuad.data.demo.parts import KINDS, gap, inside_frame, silhouette
from tmuad.data.demo.scenes import KITS, good_scene, lay_out, render
from tmuad.data.demo.shading import Light, _slopes
from tmuad.data.demo.textures import Atlas, make_atlas
from tmuad.data.layouts import read
from tmuad.errors import DataError, ParameterError

TINY = DemoParams(size=96, train=2, validation=1, test_good=1, per_fault=1)
SEEN = DemoParams(size=192)
FAULTS = [(kit, "logical", name) for kit in KITS for name in LOGICAL]
FAULTS += [(kit, "structural", name) for kit in KITS for name in STRUCTURAL]


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return make_atlas(2 * SEEN.size, SEEN.seed)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    generate(out, TINY)
    return out


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def good_scenes(kit: str, count: int) -> list:
    return [good_scene(kit, image_rng(3, kit, "train", index)) for index in range(count)]


def test_the_same_parameters_give_the_same_bytes_and_another_seed_others(written: Path, tmp_path: Path) -> None:
    first = digests(written)
    only = TINY.model_copy(update={"categories": ("hardware_kit",)})
    generate(tmp_path / "again", TINY)
    generate(tmp_path / "other", only.model_copy(update={"seed": 8}))
    assert digests(tmp_path / "again") == first
    other = {name: digest for name, digest in digests(tmp_path / "other").items() if name.endswith("good/000.png")}
    assert other
    assert all(first[name] != digest for name, digest in other.items())


def test_other_counts_leave_every_image_as_it_is(written: Path, tmp_path: Path) -> None:
    only = TINY.model_copy(update={"categories": ("electronics_tray",)})
    more = only.model_copy(update={"train": 3, "validation": 2, "test_good": 2, "per_fault": 2})
    generate(tmp_path, more)
    larger, smaller = digests(tmp_path), digests(written)
    images = [name for name in smaller if name.startswith("electronics_tray/") and name.endswith(".png")]
    assert len(images) > 15
    assert {name: larger[name] for name in images} == {name: smaller[name] for name in images}


def test_the_layout_is_that_of_mvtec_loco(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(KITS)
    for category in KITS:
        root = written / category
        folders = {"train/good": 2, "validation/good": 1, "test/good": 1}
        folders |= {"test/logical_anomalies": len(LOGICAL), "test/structural_anomalies": len(STRUCTURAL)}
        for folder, count in folders.items():
            names = sorted(path.name for path in (root / folder).iterdir())
            assert names == [f"{index:03d}.png" for index in range(count)]
            for name in names:
                with Image.open(root / folder / name) as image:
                    assert (image.size, image.mode) == ((96, 96), "RGB")
        values = {
            entry["defect_name"]: entry["pixel_value"]
            for entry in json.loads((root / "defects_config.json").read_text())
        }
        assert values == PIXEL_VALUES
        assert read(root, "mvtec_loco").problems == ()
        assert len(set(values.values())) == len(values)
        rows = list(csv.DictReader((root / "test_faults.csv").open(encoding="utf-8", newline="")))
        assert len(rows) == len(LOGICAL) + len(STRUCTURAL)
        for row in rows:
            image_path = Path(row["image"])
            assert (root / image_path).is_file()
            truth = sorted((root / "ground_truth" / image_path.parent.name / image_path.stem).iterdir())
            assert [path.name for path in truth] == [f"{index:03d}.png" for index in range(len(truth))]
            assert truth
            for path in truth:
                mask = np.asarray(Image.open(path))
                assert mask.shape == (96, 96)
                assert set(np.unique(mask)) == {0, values[row["fault"]]}


def test_a_swap_has_one_mask_for_each_of_the_two(atlas: Atlas) -> None:
    drawn = draw_faulty("hardware_kit", "logical", "swapped", 0, SEEN, atlas)
    assert len(drawn.masks) == 2
    assert not (drawn.masks[0] & drawn.masks[1]).any()


@pytest.mark.parametrize(("category", "kind", "name"), FAULTS)
def test_a_fault_changes_what_its_mask_covers_and_nothing_else(
    category: str, kind: str, name: str, atlas: Atlas
) -> None:
    drawn = draw_faulty(category, kind, name, 1, SEEN, atlas)
    change = np.abs(drawn.photo().astype(np.int16) - drawn.twin()).max(axis=-1)
    union = np.logical_or.reduce(drawn.masks)
    assert all(mask.any() for mask in drawn.masks)
    assert change[union].mean() > 15
    assert change[~union].mean() < 0.25
    assert np.mean(change[~union] > 12) < 2e-4
    if kind == "structural":
        assert 0.0005 <= union.mean() <= 0.01


@pytest.mark.parametrize("kit", KITS)
def test_good_scenes_hold_the_promised_parts_in_their_places(kit: str) -> None:
    variants = set()
    for scene in good_scenes(kit, 40):
        counts: dict[str, int] = {}
        for part in scene.parts:
            counts[part.kind] = counts.get(part.kind, 0) + 1
        assert counts == KITS[kit].parts_expected(scene.variant)
        assert all(inside_frame(part) for part in scene.parts)
        for slot, part in zip(KITS[kit].slots, scene.parts, strict=True):
            assert math.hypot(part.x - slot.x, part.y - slot.y) < 0.07
        variants.add(tuple(scene.variant.values()))
    assert len(variants) == len(KITS[kit].variants)


@pytest.mark.parametrize("kit", KITS)
def test_parts_touch_in_about_a_fifth_of_the_good_scenes_and_never_overlap(kit: str) -> None:
    touching = 0
    scenes = good_scenes(kit, 120)
    for scene in scenes:
        gaps = [gap(a, b) for k, a in enumerate(scene.parts) for b in scene.parts[:k]]
        assert min(gaps) > -0.004
        touching += min(gaps) < 0.003
    assert 0.1 < touching / len(scenes) < 0.32


@pytest.mark.parametrize("kit", KITS)
def test_logical_faults_do_to_the_parts_what_they_say(kit: str) -> None:
    rng = np.random.default_rng(5)
    seen: dict[str, int] = dict.fromkeys(LOGICAL, 0)
    for scene in good_scenes(kit, 12):
        kinds = sorted(part.kind for part in scene.parts)
        for name, draw in LOGICAL.items():
            fault = draw(scene, rng)
            if fault is None:
                continue
            seen[name] += 1
            after = fault.scene.parts
            changed = [(a, b) for a, b in zip(scene.parts, after, strict=False) if a != b]
            assert fault.regions
            if name == "missing":
                assert set(after) < set(scene.parts)
                assert len(scene.parts) - len(after) == len(fault.regions) <= 2
            elif name == "extra":
                assert after[:-1] == scene.parts
                assert after[-1].kind in kinds
                assert min(gap(after[-1], part) for part in scene.parts) > 0
            elif name == "misplaced":
                ((before, moved),) = changed
                assert math.hypot(moved.x - before.x, moved.y - before.y) > 0.2
            elif name == "swapped":
                (a, moved_a), (b, moved_b) = changed
                assert a.kind != b.kind
                assert (moved_a.x, moved_a.y, moved_b.x, moved_b.y) == (b.x, b.y, a.x, a.y)
            elif name == "wrong_size":
                ((before, resized),) = changed
                assert abs(resized.scale - 1) > 0.25
                assert replace(resized, scale=1.0) == before
            else:
                allowed = KITS[kit].parts_expected(next(v for v in KITS[kit].variants if v != scene.variant))
                assert len(changed) == len(fault.regions)
                assert all(b.kind in allowed and b.kind not in kinds and (a.x, a.y) == (b.x, b.y) for a, b in changed)
    assert min(seen.values()) >= 3, seen


def test_good_images_vary_in_light_place_and_print(atlas: Atlas) -> None:
    photos = [draw_good("electronics_tray", "train", index, SEEN, atlas)[1].astype(np.float64) for index in range(3)]
    corner = [photo[-30:, -30:].mean() for photo in photos]
    assert len({round(value, 1) for value in corner}) == 3
    assert np.std([photo[90:120, 20:60].std() for photo in photos]) > 0.3


@pytest.mark.parametrize(
    ("demo", "message"),
    [
        ({"size": 10}, "demo.size"),
        ({"train": 0}, "demo.train"),
        ({"per_falt": 3}, "did you mean 'per_fault'"),
        ({"categories": ["hardware_kti"]}, "hardware_kit"),
        ({"categories": []}, "demo.categories"),
    ],
)
def test_bad_parameters_are_named(demo: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_params({"units": {}, "demo": demo})


def test_a_category_named_twice_is_an_error(tmp_path: Path) -> None:
    twice = TINY.model_copy(update={"categories": ("hardware_kit", "hardware_kit")})
    with pytest.raises(ParameterError, match=r"demo\.categories: 'hardware_kit'"):
        generate(tmp_path, twice)


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hardware_kit").mkdir()
    (tmp_path / "hardware_kit" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="hardware_kit: exists"):
        generate(tmp_path, TINY)
    assert (tmp_path / "hardware_kit" / "mine.txt").read_text() == "keep"


def test_writing_again_leaves_nothing_of_before(written: Path, tmp_path: Path) -> None:
    only = TINY.model_copy(update={"categories": ("hardware_kit",)})
    (tmp_path / "hardware_kit").mkdir()
    for name in ("test_faults.csv", "stale.png"):
        (tmp_path / "hardware_kit" / name).touch()
    generate(tmp_path, only)
    assert digests(tmp_path / "hardware_kit") == digests(written / "hardware_kit")
    assert [path.name for path in tmp_path.iterdir()] == ["hardware_kit"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        generate(tmp_path / "file", TINY)


@given(
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    angle=st.floats(-7, 7),
    scale=st.floats(0.5, 2),
    u=st.floats(-0.2, 0.2),
    v=st.floats(-0.2, 0.2),
)
def test_a_parts_frame_goes_there_and_back(x: float, y: float, angle: float, scale: float, u: float, v: float) -> None:
    part = Part("knob", x, y, angle, 0, scale)
    px, py = (np.float32(c) for c in part.from_frame(u, v))
    back = part.to_frame(np.atleast_1d(px), np.atleast_1d(py))
    assert np.allclose([back[0][0], back[1][0]], [u, v], atol=1e-5)


@given(x=st.floats(0.2, 0.8), y=st.floats(0.2, 0.8))
def test_the_gap_of_two_discs_is_what_geometry_says(x: float, y: float) -> None:
    a, b = Part("washer", 0.5, 0.5, 0.3, 0), Part("washer", x, y, 1.1, 0)
    expected = math.hypot(x - 0.5, y - 0.5) - 2 * 0.066
    if expected > -0.066:
        assert gap(a, b) == pytest.approx(gap(b, a), abs=2e-3)
        assert gap(a, b) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_paints_within_its_silhouette(kind: str, atlas: Atlas) -> None:
    scene = replace(good_scene("hardware_kit", np.random.default_rng(0)), parts=())
    part = Part(kind, 0.5, 0.5, 0.4, 11)
    bare, covered = (lay_out(s, SEEN.size, atlas) for s in (scene, replace(scene, parts=(part,))))
    painted = (bare.color != covered.color).any(axis=0)[::2, ::2]
    shape = silhouette(part, SEEN.size)
    assert (painted & ~silhouette(replace(part, scale=1.15), SEEN.size)).mean() < 0.002
    assert (painted & shape).sum() > 0.6 * shape.sum()


def test_slopes_are_those_of_numpys_gradient(atlas: Atlas) -> None:
    height = (atlas.mottle / 2000).astype(np.float32)
    side = height.shape[0]
    rows, columns = np.gradient(height * side)
    for part in (slice(0, 40), slice(40, 90), slice(side - 32, side)):
        slope_x, slope_y = _slopes(height, part)
        inner = slice(max(part.start, 1) - part.start, min(part.stop, side - 1) - part.start)
        assert np.allclose(slope_x[:, 1:-1], np.clip(columns[part, 1:-1], -2.5, 2.5), atol=1e-3)
        assert np.allclose(slope_y[inner], np.clip(rows[part][inner], -2.5, 2.5), atol=1e-3)


def test_a_shadow_falls_away_from_the_light(atlas: Atlas) -> None:
    base = replace(good_scene("electronics_tray", np.random.default_rng(0)), parts=())
    dark = {}
    for side, azimuth in (("right", math.pi), ("left", 0.0)):  # the light stands opposite
        scene = replace(base, light=Light(azimuth, 0.8, 1.0, 0.3))
        part = Part("capacitor", 0.5, 0.5, 0.0, 1)
        ratio = render(replace(scene, parts=(part,)), 192, atlas) / render(scene, 192, atlas)
        dark[side] = {"right": ratio[90:102, 112:116].mean(), "left": ratio[90:102, 76:80].mean()}
    assert max(dark["right"]["right"], dark["left"]["left"]) < 0.75
    assert min(dark["right"]["left"], dark["left"]["right"]) > 0.9
