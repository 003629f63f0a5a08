"""Patch models and maps from the cache: the same as anew, asked for once, and lost without harm."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_patch_bank import PARAMS, defects, photo

from tmuad.banks.patch_model import PatchImage, PatchModel
from tmuad.banks.remembered import Remembered, learnt_from
from tmuad.config import DataParams, PatchBankParams
from tmuad.encode.features import DefectTask
from tmuad.engine import ImageRef

PHOTOS = [photo(i) for i in range(4)]
REFS = [ImageRef(f"{i:02}" * 32, Path(f"{i}.png")) for i in (3, 1, 0, 2)]


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(DefectTask(), DataParams(cache=str(tmp_path / "cache")))


def counted(call: Callable[[], PatchModel]) -> tuple[Callable[[], PatchModel], list[int]]:
    calls: list[int] = []

    def learn() -> PatchModel:
        calls.append(1)
        return call()

    return learn, calls


def learn_all() -> PatchModel:
    return PatchModel.fit(PHOTOS, PARAMS, [defects(i) for i in range(4)])


def sample() -> list[tuple[ImageRef, PatchImage]]:
    return list(zip(REFS, PHOTOS, strict=True))


def image(number: int) -> ImageRef:
    return ImageRef(hashlib.sha256(str(number).encode()).hexdigest(), Path(f"{number}.png"))


def params_of(share: float, least: int = 1, most: int = 1000) -> PatchBankParams:
    return PatchBankParams(share=share, least_images=least, most_images=most)


@given(st.sets(st.integers(0, 400), min_size=1), st.floats(0.05, 1), st.randoms())
def test_the_sample_depends_on_the_images_alone(numbers: set[int], share: float, shuffle: random.Random) -> None:
    images = [image(n) for n in sorted(numbers)]
    sample = learnt_from(images, params_of(share))
    mixed = list(images)
    shuffle.shuffle(mixed)
    assert learnt_from(mixed, params_of(share)) == sample
    assert {ref.image_id for ref in sample} <= {ref.image_id for ref in images} and sample


def test_the_sample_is_about_its_share_between_its_bounds() -> None:
    images = [image(n) for n in range(600)]
    assert 170 < len(learnt_from(images, params_of(1 / 3))) < 230
    assert len(learnt_from(images, params_of(1.0))) == 600
    assert len(learnt_from(images, params_of(1 / 3, most=50))) == 50
    assert len(learnt_from(images[:40], params_of(0.05, least=32))) == 32
    assert len(learnt_from(images[:7], params_of(0.05, least=32))) == 7


def test_one_more_image_mostly_leaves_the_sample_as_it_is() -> None:
    images = [image(n) for n in range(100)]
    sample = learnt_from(images, params_of(1 / 3))
    changed = sum(learnt_from([*images, image(n)], params_of(1 / 3)) != sample for n in range(1000, 1300))
    assert 60 < changed < 140


def test_a_model_is_learnt_once_and_comes_back_bit_by_bit(remembered: Remembered) -> None:
    learn, calls = counted(learn_all)
    first = remembered.model(sample(), PARAMS, "simulated", learn)
    again = remembered.model(sample(), PARAMS, "simulated", learn)
    assert len(calls) == 1 and again.digest == first.digest
    for one, other in zip(first(PHOTOS[0]).values(), again(PHOTOS[0]).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_images_classes_parameters_or_defects_are_another_model(remembered: Remembered) -> None:
    learn, calls = counted(learn_all)
    remembered.model(sample(), PARAMS, "simulated", learn)
    bare = PatchImage(PHOTOS[0].features, np.full_like(PHOTOS[0].classes, ""))
    remembered.model(sample()[:3], PARAMS, "simulated", learn)
    remembered.model([(REFS[0], bare), *sample()[1:]], PARAMS, "simulated", learn)
    remembered.model(sample(), PARAMS.model_copy(update={"clusters": 7}), "simulated", learn)
    remembered.model(sample(), PARAMS, "simulated otherwise", learn)
    assert len(calls) == 5


def test_maps_are_those_of_the_model_and_known_the_second_time(remembered: Remembered) -> None:
    model = learn_all()
    first = remembered.maps(model, REFS[0], PHOTOS[0])
    for name, m in model(PHOTOS[0]).items():
        np.testing.assert_array_equal(first[name], m)
    blank = PatchImage({}, PHOTOS[0].classes)  # nothing to compute from: it has to be known
    again = remembered.maps(model, REFS[0], blank)
    assert sorted(again) == sorted(first) and all(np.array_equal(again[name], first[name]) for name in first)
    with pytest.raises(KeyError):
        remembered.maps(model, REFS[1], blank)


def test_a_damaged_entry_is_computed_anew(remembered: Remembered, tmp_path: Path) -> None:
    learn, calls = counted(learn_all)
    first = remembered.model(sample(), PARAMS, "", learn)
    for entry in (tmp_path / "cache").rglob("*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-3])
    assert remembered.model(sample(), PARAMS, "", learn).digest == first.digest and len(calls) == 2
