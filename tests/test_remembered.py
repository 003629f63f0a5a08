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

from tmuad import lot
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
    images = [image(n) for n in range(712)]  # one less than the next step
    assert lot.settled([ref.path.name for ref in images]) == list(range(571))
    assert 160 < len(learnt_from(images, params_of(1 / 3))) < 220
    assert len(learnt_from(images, params_of(1.0))) == 571
    assert len(learnt_from(images, params_of(1 / 3, most=50))) == 50
    assert len(learnt_from(images[:41], params_of(0.05, least=32))) == 32
    assert len(learnt_from(images[:7], params_of(0.05, least=32))) == 7


def test_an_image_whose_name_comes_last_leaves_the_sample_as_it_is_until_the_next_step() -> None:
    images = [image(n) for n in range(97)]
    sample = learnt_from(images, params_of(1 / 3))
    for n in range(97, 120):
        images.append(image(n))
        assert learnt_from(images, params_of(1 / 3)) == sample
    assert learnt_from([*images, image(120)], params_of(1 / 3)) != sample


@given(st.integers(0, 3000))
def test_at_least_four_fifths_are_settled(count: int) -> None:
    names = [f"{n}.png" for n in range(count)]
    settled = lot.settled(names)
    assert settled == list(range(len(settled)))
    assert len(settled) >= 0.8 * count
    steps = {len(lot.settled(names[:n])) for n in range(1, count + 1)}
    assert len(steps) <= 8 + np.log(max(count, 1)) / np.log(1.18)  # all is learnt anew that often


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["b1.png", "a10.png", "a9.png", "a١٠.png", "7.png", "a9b2.png", "", "a9b10.png", "z.png"]
    assert [names[i] for i in lot.settled(names)] == [n for n in names if n != "z.png"]
    assert lot.settled(["x"] * 9) == list(range(8))


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
