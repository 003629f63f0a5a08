"""A classifier and its answers from the cache: the same as anew, asked for once, and lost without harm."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_finetune import FAST, make_crops

from tmuad.cache import Record
from tmuad.config import DataParams, FinetuneParams
from tmuad.describe.classifier import ClipClassifier
from tmuad.describe.finetune import finetune, packed
from tmuad.describe.remembered import Answers, TrainedFiles, drawn, trained_once
from tmuad.engine import ImageRef, map_images

CROPS = np.arange(5 * 32 * 32 * 3, dtype=np.int64).reshape(5, 32, 32, 3).astype(np.uint8)


class Cut:
    """A task that cuts the same crops out of every image."""

    name, after = "cut", None
    fingerprint = "cut"

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return {"crops": CROPS}


class Counting:
    """A classifier that counts how often it is asked."""

    crop_size = 32
    calls = 0

    def __init__(self, name: str = "one") -> None:
        self.name = name

    def classify(self, crops: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float32]]:
        self.calls += 1
        return [f"{self.name} ä {int(c.sum()) % 7}" for c in crops], np.linspace(0, 1, len(crops), dtype=np.float32)

    def fingerprint(self) -> str:
        return self.name


def image_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture
def photo(tmp_path: Path) -> ImageRef:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    return ImageRef("ab" * 32, tmp_path / "photo.png")


def data(tmp_path: Path) -> DataParams:
    return DataParams(cache=str(tmp_path / "cache"), size=64)


# ---- which crops teach


@given(st.sets(st.integers(0, 300), min_size=1), st.randoms())
def test_the_crops_drawn_depend_on_the_crops_alone(numbers: set[int], shuffle: object) -> None:
    params = FinetuneParams(share=0.3, least_crops=4, crops_per_class=20)
    rows = [(f"class-{n % 3}", image_id(n), f"{image_id(n)}:{k}") for n in numbers for k in range(1 + n % 2)]
    mixed = list(rows)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    everyone = {row[1] for row in rows}
    chosen = {rows[i] for i in drawn(*map(list, zip(*rows, strict=True)), everyone, params)}  # type: ignore[arg-type]
    assert {mixed[i] for i in drawn(*map(list, zip(*mixed, strict=True)), everyone, params)} == chosen  # type: ignore[arg-type]
    for name in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == name]
        count = sum(row[0] == name for row in chosen)
        assert min(4, len(mine)) <= count <= 20
        taken = sorted(row[1] for row in chosen if row[0] == name)
        assert taken == sorted(row[1] for row in mine)[: len(taken)]  # the smallest digests


def test_most_images_that_come_change_nothing() -> None:
    params = FinetuneParams(share=1 / 3, least_crops=32, crops_per_class=200)

    def chosen(count: int, *more: int) -> set[str]:
        numbers = [*range(count), *more]
        keys = [image_id(n) for n in numbers]
        return {keys[i] for i in drawn(["a"] * len(keys), keys, keys, set(keys), params)}

    before = chosen(300)
    changed = sum(chosen(300, n) != before for n in range(1000, 1300))
    assert 70 < changed < 130


def test_crops_of_settled_images_teach_unless_a_class_has_too_few() -> None:
    params = FinetuneParams(share=1.0, least_crops=4, crops_per_class=200)
    ids = [image_id(n) for n in range(20)]
    labels = ["often"] * 10 + ["late"] * 10
    settled = {*ids[:6], *ids[10:13]}
    assert drawn(labels, ids, ids, settled, params) == [*range(6), *range(10, 20)]


# ---- training


def test_training_happens_once_and_again_when_anything_changes(tmp_path: Path) -> None:
    crops, labels, keys = make_crops(6)
    calls: list[int] = []

    def train() -> TrainedFiles:
        calls.append(1)
        trained = finetune(crops, labels, keys, FAST)
        return TrainedFiles(packed(trained), trained.curve)

    def asked(params: FinetuneParams = FAST, rows: slice = slice(None), size: int = 64) -> TrainedFiles:
        settings = data(tmp_path).model_copy(update={"size": size})
        return trained_once(list(zip(keys, labels, strict=True))[rows], Cut(), settings, params, train)

    first, second = asked(), asked()
    assert len(calls) == 1
    assert second.classifier == first.classifier
    assert second.curve.to_csv(index=False) == first.curve.to_csv(index=False)
    assert second.curve.dtypes.equals(first.curve.dtypes)
    asked(FAST.model_copy(update={"seed": 1}))
    asked(rows=slice(1, None))
    asked(size=32)
    assert len(calls) == 4


def test_an_altered_entry_is_trained_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def train() -> TrainedFiles:
        calls.append(1)
        trained = finetune(*make_crops(4), FAST)
        return TrainedFiles(packed(trained), trained.curve)

    first = trained_once([("a", "b")], Cut(), data(tmp_path), FAST, train)
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    assert trained_once([("a", "b")], Cut(), data(tmp_path), FAST, train).classifier == first.classifier
    assert len(calls) == 2


# ---- answers


def test_an_image_is_asked_about_once(tmp_path: Path, photo: ImageRef) -> None:
    list(map_images(Cut(), [photo], data(tmp_path)))
    classifier, some = Counting(), np.array([0, 3, 4], dtype=np.int32)
    answers = Answers(classifier, Cut(), data(tmp_path))
    assert answers.lacking([(photo, some)]) == [photo]
    expected = Counting().classify(CROPS[some])
    for _ in range(2):
        said, sure = answers(photo, some)
        assert said == expected[0]
        np.testing.assert_array_equal(sure, expected[1])
    assert classifier.calls == 1 and answers.lacking([(photo, some)]) == []


def test_other_candidates_or_another_classifier_are_other_questions(tmp_path: Path, photo: ImageRef) -> None:
    list(map_images(Cut(), [photo], data(tmp_path)))
    some, others = np.array([0, 3], dtype=np.int32), np.array([1], dtype=np.int32)
    Answers(Counting(), Cut(), data(tmp_path))(photo, some)
    assert Answers(Counting(), Cut(), data(tmp_path)).lacking([(photo, others)]) == [photo]
    assert Answers(Counting("two"), Cut(), data(tmp_path)).lacking([(photo, some)]) == [photo]
    assert Answers(Counting("two"), Cut(), data(tmp_path))(photo, others)[0][0].startswith("two")


def test_no_candidate_has_an_answer_too(tmp_path: Path, photo: ImageRef) -> None:
    list(map_images(Cut(), [photo], data(tmp_path)))
    none = np.zeros(0, dtype=np.int32)
    for _ in range(2):
        said, sure = Answers(Counting(), Cut(), data(tmp_path))(photo, none)
        assert said == [] and sure.shape == (0,)


def test_a_classifier_builds_its_model_when_it_is_first_asked() -> None:
    crops, labels, keys = make_crops(4)
    trained = finetune(crops, labels, keys, FAST)
    classifier = ClipClassifier(trained.spec, trained.weights)
    assert "_model" not in vars(classifier) and classifier.classes == sorted(set(labels))
    classifier.classify(crops[:1])
    assert "_model" in vars(classifier)
