"""Simulated defects: the same for the same image, local, and visible where they are said to be."""

import numpy as np
import pytest
from drawing import BLUE, RED, STEEL, bar, board, disc, photographed
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.encode.defects import COPIES, encode_defects
from tmuad.encode.simulate import OFFSET, VISIBLE, deface


def parts(size: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    image = disc(
        bar(board(size), 0.3 * size, 0.4 * size, 0.3 * size, 0.2 * size, BLUE), 0.7 * size, 0.6 * size, 20, RED
    )
    return photographed(image, seed)


def test_the_same_image_gets_the_same_defects_and_another_one_others() -> None:
    image = parts()
    first, second, other = deface(image), deface(image.copy()), deface(parts(seed=1))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[1] != other[1]).any()


def test_a_strided_view_counts_by_its_pixels() -> None:
    image = parts()
    np.testing.assert_array_equal(deface(image[:, ::-1])[0], deface(image[:, ::-1].copy())[0])


def test_the_image_itself_is_left_alone() -> None:
    image = parts()
    before = image.copy()
    deface(image)
    np.testing.assert_array_equal(image, before)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([64, 96, 128]))
def test_changed_pixels_are_those_that_differ_visibly(seed: int, size: int) -> None:
    image = parts(size, seed)
    defaced, changed = deface(image)
    assert defaced.dtype == np.uint8 and defaced.shape == image.shape and changed.shape == image.shape[:2]
    for y, x in np.random.default_rng(seed).integers(0, size, (50, 2)):
        difference = abs(defaced[y, x].astype(float) - image[y, x]) / (image[y, x] + OFFSET)
        assert changed[y, x] == (difference.max() > VISIBLE)


def test_defects_are_local_and_there_are_some_on_every_photograph() -> None:
    for seed in range(6):
        share = deface(parts(448, seed))[1].mean()
        assert 0.002 < share < 0.4


def test_parts_are_hit_more_often_than_the_ground_around_them() -> None:
    part = np.zeros((128, 128), dtype=np.bool_)
    part[16:48, 16:48] = True
    inside = outside = 0.0
    for seed in range(40):
        image = board(128)
        image[part] = STEEL
        changed = deface(photographed(image, seed))[1]
        inside, outside = inside + changed[part].mean(), outside + changed[~part].mean()
    assert inside > outside


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), RED])
@pytest.mark.parametrize("size", [64, 66, 128])
def test_images_of_a_single_colour_and_small_ones_are_defaced_too(colour: tuple[int, int, int], size: int) -> None:
    defaced, changed = deface(board(size, colour))
    assert defaced.shape == (size, size, 3)
    assert changed.any()


def test_the_encoder_learns_from_changed_patches_alone() -> None:
    image = parts(448)
    rows, cells = encode_defects(image)
    assert rows.dtype == np.float16 and 20 < len(rows) < 56 * 56 / 2
    assert len(cells) == len(rows) and cells.min() >= 0 and cells.max() < 56 * 56
    assert (np.diff(cells) <= 0).sum() == COPIES - 1  # ascending within each copy
    assert np.isfinite(rows.astype(np.float32)).all()
