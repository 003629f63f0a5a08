"""Lab against scikit-image's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.color import rgb2lab

from tmuad.color import rgb_to_lab

IMAGES = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(lambda shape: arrays(np.uint8, (*shape, 3)))


@given(IMAGES)
def test_equals_scikit_image(image: NDArray[np.uint8]) -> None:
    lab = rgb_to_lab(image)
    assert lab.shape == image.shape
    assert lab.dtype == np.float32
    assert np.abs(lab - rgb2lab(image)).max() < 0.05


def test_equals_scikit_image_over_the_whole_cube() -> None:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    assert np.abs(rgb_to_lab(cube) - rgb2lab(cube)).max() < 0.05


@pytest.mark.parametrize(("rgb", "lab"), [((0, 0, 0), (0, 0, 0)), ((255, 255, 255), (100, 0, 0))])
def test_black_and_white(rgb: tuple[int, int, int], lab: tuple[int, int, int]) -> None:
    assert np.allclose(rgb_to_lab(np.array([[rgb]], dtype=np.uint8)), [[lab]], atol=0.05)
