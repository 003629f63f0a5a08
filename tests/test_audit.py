"""The audit finds what was planted in a set of normal images, and is silent where nothing was."""

import numpy as np
import pytest
from scenes import SHAPE, scene, thing

from tmuad.audit.looks import SIDE, SmallTask, near_duplicates, odd_places
from tmuad.audit.remark import ADVICE
from tmuad.audit.report import Audit, audit_text
from tmuad.audit.surface import odd_surfaces, unusual_maps
from tmuad.audit.words import driven_ranges, leave_one_out, lone_classes, odd_descriptions
from tmuad.banks.likeness import Likeness
from tmuad.banks.patch_model import PatchImage, PatchModel
from tmuad.banks.text import TextBank
from tmuad.config import PatchBankParams, TextScoreParams
from tmuad.score.text import find_differences

NAMES = {"a": ("<b>screw</b>", "screws")}
PARAMS = TextScoreParams()


def ids(n):
    return [f"{i:064x}" for i in range(n)]


def pictures(n, seed=0):
    """Scenes with coarse structure of their own, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 210, (n, 8, 8, 3)).astype(np.uint8)
    return coarse.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)


def usual(number, *more, size=4):
    rng = np.random.default_rng(number)
    dx, dy = rng.uniform(-0.01, 0.01, 2)
    return scene(
        number, thing("a", 0.2 + dx, 0.4 + dy, size), thing("a", 0.2 - dx, 0.7, 4), thing("b", 0.8, 0.5, 5), *more
    )


# --- pixels


def test_copies_are_found_whatever_was_done_to_the_file():
    small = pictures(20)
    rng = np.random.default_rng(1)
    noisy = np.clip(small[3] + rng.normal(0, 2, small[3].shape), 0, 255).astype(np.uint8)
    brighter = np.clip(small[7] * 1.01, 0, 255).astype(np.uint8)
    found = near_duplicates(ids(23), np.concatenate([small, [noisy, brighter, small[7]]]))
    assert [set(r.images) for r in found] == [{ids(23)[i] for i in (7, 21, 22)}, {ids(23)[i] for i in (3, 20)}]
    assert (
        "3 images" in found[0].what and found[0].kind == "near-duplicates" and found[0].advice == ADVICE[found[0].kind]
    )


def test_different_images_and_a_very_steady_camera_are_no_copies():
    assert near_duplicates(ids(20), pictures(20)) == []
    steady = np.repeat(pictures(1), 20, axis=0)
    for i in range(20):  # one spot of the scene moves
        steady[i, i : i + 40, 2 * i : 2 * i + 12] += 40
    assert near_duplicates(ids(20), steady) == []
    assert near_duplicates([], pictures(0)) == [] and near_duplicates(ids(1), pictures(1)) == []
    assert len(near_duplicates(ids(2), np.repeat(pictures(1), 2, axis=0))) == 1


def test_blocks_do_not_change_what_is_found(monkeypatch):
    small = np.concatenate([pictures(30), pictures(30)[:5]])
    whole = near_duplicates(ids(35), small)
    monkeypatch.setattr("tmuad.audit.looks.BLOCK", 7)
    assert near_duplicates(ids(35), small) == whole and len(whole) == 5


def test_small_pictures_keep_the_mean():
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    small = SmallTask()(image, {})["small"]
    assert small.shape == (SIDE, SIDE, 3) and abs(float(small.mean()) - float(image.mean())) < 1
    assert SmallTask().fingerprint == SmallTask().fingerprint


def test_an_odd_place_is_found_and_told():
    def features(i):
        values = np.random.default_rng(i).normal(0, 1, (16, 16, 12)).astype(np.float16)
        if i == 4:
            values[13:15, 1:3] += 6
        return {"layer": values}

    found = odd_places(Likeness.fit(ids(30), lambda: (features(i) for i in range(30))))
    assert found[0].images == (ids(30)[4],) and "at the bottom left" in found[0].what and found[0].kind == "odd one out"
    x0, y0, x1, y1 = found[0].box
    assert x0 <= 2 / 16 <= x1 and y0 <= 14 / 16 <= y1
    assert len(found) == 1
    assert odd_places(Likeness.fit(ids(3), lambda: (features(i) for i in range(3)))) == []


def test_a_scratch_that_was_learnt_with_the_rest_is_found_and_told():
    """The model itself is real: centroids of drawn features, one image of thirty with a few patches unlike the others."""
    rng = np.random.default_rng(0)

    def image(number):
        values = rng.normal(0, 1, (16, 16, 12)).astype(np.float16)
        if number == 4:
            values[3:6, 11:14] += 3
        return PatchImage({"layer": values}, np.full((16, 16), "", dtype=np.str_))

    images = [image(i) for i in range(30)]
    model = PatchModel.fit(images, PatchBankParams(clusters=10, dimensions=8), ())
    maps = unusual_maps(model, [(model(i), i.classes) for i in images], 0.2)
    found = odd_surfaces(ids(30), maps)
    assert found[0].images == (ids(30)[4],) and found[0].kind == "look first"
    assert found[0].what == "Number 1 of 30 by its most unusual patch, which is at the top right."
    x0, y0, x1, y1 = found[0].box
    assert x0 <= 12.5 / 16 <= x1 and y0 <= 4.5 / 16 <= y1
    order = sorted(range(30), key=lambda i: -maps[i].max())
    assert [r.images for r in found] == [(ids(30)[i],) for i in order[:3]]  # at least three, or a twentieth
    assert len(odd_surfaces(ids(100), [maps[0]] * 100)) == 5 and odd_surfaces(ids(7), maps[:7]) == []


# --- descriptions


def test_leaving_one_out_is_a_bank_of_the_others():
    entries = [usual(i) for i in range(8)] + [scene(8, thing("a", 0.2, 0.4), thing("b", 0.8, 0.9, 5))]
    found = leave_one_out(entries, SHAPE, PARAMS)
    for i in (0, 8):
        others = TextBank([e for j, e in enumerate(entries) if j != i], SHAPE)
        slow, _ = find_differences(entries[i], others, PARAMS)
        assert {(f.attribute, f.object_class) for f in found[i].findings} <= {
            (f.attribute, f.object_class) for f in slow
        }
    assert found[8].score == max(image.score for image in found) > 0.5
    assert [image.image_id for image in found] == [e.image_id for e in entries]


def test_a_mislabelled_normal_is_the_odd_one_out_with_its_reason():
    entries = [usual(i) for i in range(20)] + [scene(20, thing("a", 0.2, 0.4), thing("b", 0.8, 0.5, 5))]
    found = odd_descriptions(leave_one_out(entries, SHAPE, PARAMS), NAMES, SHAPE)
    assert [r.images for r in found] == [("image-20",)]
    assert "Expected 2 screws, found 1: 1 is missing at the" in found[0].what and found[0].box is not None
    clean = leave_one_out([usual(i) for i in range(20)], SHAPE, PARAMS)
    assert odd_descriptions(clean, NAMES, SHAPE) == []


def test_many_images_are_left_out_in_groups(monkeypatch):
    entries = [usual(i) for i in range(30)] + [scene(30, thing("a", 0.2, 0.4), thing("b", 0.8, 0.5, 5))]
    monkeypatch.setattr("tmuad.audit.words.EXACT", 10)
    monkeypatch.setattr("tmuad.audit.words.FOLDS", 6)
    found = odd_descriptions(leave_one_out(entries, SHAPE, PARAMS), NAMES, SHAPE)
    assert [r.images for r in found] == [("image-30",)]


def test_a_class_in_one_image_and_a_range_that_one_image_makes():
    entries = [usual(i) for i in range(9)] + [usual(9, thing("c", 0.5, 0.1)), usual(10, size=9)]
    [lone] = lone_classes(entries, NAMES, SHAPE)
    assert lone.images == ("image-9",) and "only one of 11 images that shows a c object" in lone.what
    [driven] = driven_ranges(entries, NAMES, SHAPE)
    assert (
        driven.images == ("image-10",)
        and "largest <b>screw</b>" in driven.what
        and "range is this image's alone" in driven.what
    )
    assert driven.box is not None and driven.box[2] - driven.box[0] == pytest.approx(9 / 32)


def test_narrow_ranges_and_few_images_are_no_remark():
    assert driven_ranges([usual(i) for i in range(9)], NAMES, SHAPE) == []
    assert driven_ranges([usual(0), usual(1, size=9)], NAMES, SHAPE) == []
    assert lone_classes([usual(0)], NAMES, SHAPE) == []
    assert leave_one_out([usual(0)], SHAPE, PARAMS)[0].score == 0


def test_a_unit_without_object_classes_is_audited_by_its_looks_alone():
    bare = [scene(i) for i in range(6)]
    assert all(image.findings == () for image in leave_one_out(bare, SHAPE, PARAMS))
    assert odd_descriptions(leave_one_out(bare, SHAPE, PARAMS), {}, SHAPE) == []
    assert lone_classes(bare, {}, SHAPE) == driven_ranges(bare, {}, SHAPE) == []


def test_the_audit_in_words():
    [lone] = lone_classes([usual(0), usual(1, thing("c", 0.5, 0.1))], {}, SHAPE)
    text = audit_text(Audit("kit", 2, (lone,), {"image-1": "good/1.png"}))
    assert (
        "kit: 1 remark on 2 normal images" in text and "good/1.png: It is the only one" in text and lone.advice in text
    )
    assert "Nothing stands out" in audit_text(Audit("kit", 1, (), {}))
