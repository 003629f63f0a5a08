"""Patch models and maps from the cache: the same as anew, asked for once, and lost without harm."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_patch_bank import PARAMS, defects, photo

from tmuad.banks.patch_model import PatchImage, PatchModel
from tmuad.banks.remembered import Remembered, learnt_from
from tmuad.config import DataParams
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


def test_the_sample_is_the_smallest_digests_in_any_order() -> None:
    assert [ref.path.stem for ref in learnt_from(REFS, 3)] == ["0", "1", "2"]
    assert learnt_from(REFS[::-1], 3) == learnt_from(REFS, 3)
    assert len(learnt_from(REFS, 9)) == 4


def test_one_more_image_beyond_the_sample_changes_nothing_and_one_within_does() -> None:
    beyond, within = (ImageRef(digit * 64, Path("x.png")) for digit in ("f", "0"))
    assert learnt_from([*REFS, beyond], 3) == learnt_from(REFS, 3)
    assert learnt_from([*REFS, within], 3) != learnt_from(REFS, 3)


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
