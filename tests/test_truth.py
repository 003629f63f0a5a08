"""Ground truth as the metrics want it: marked pixels, and single defects with their saturation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmuad.data.layouts.mvtec_loco import Saturation
from tmuad.data.truth import read_truth
from tmuad.errors import ImageError


def write(path: Path, mask: np.ndarray) -> str:
    Image.fromarray(mask.astype(np.uint8)).save(path)
    return path.name


def config(**entries: tuple[int, float, bool]) -> dict[int, Saturation]:
    return {
        value: Saturation(
            defect_name=name, pixel_value=value, saturation_threshold=threshold, relative_saturation=relative
        )
        for name, (value, threshold, relative) in entries.items()
    }


def boxes(*placed: tuple[slice, slice, int]) -> np.ndarray:
    mask = np.zeros((60, 80), np.uint8)
    for rows, columns, value in placed:
        mask[rows, columns] = value
    return mask


def test_each_file_is_a_defect_with_a_share_of_its_area_at_any_size(tmp_path: Path) -> None:
    first = write(tmp_path / "0.png", boxes((slice(0, 10), slice(0, 20), 255)))  # 200 px
    second = write(tmp_path / "1.png", boxes((slice(5, 15), slice(0, 4), 254)))  # 40 px, overlaps
    known = config(missing=(255, 50.0, False), scratch=(254, 0.26, True))
    for size in (16, 60, 200):
        truth = read_truth(tmp_path, [first, second], (60, 80), size, known)
        assert [(d.name, d.saturation) for d in truth.defects] == [("missing", 50 / 200), ("scratch", 10 / 40)]
        assert truth.mask.shape == (size, size) and not truth.problem
        np.testing.assert_array_equal(truth.mask, truth.defects[0].mask | truth.defects[1].mask)


def test_an_absolute_saturation_is_at_most_the_area_and_a_relative_one_at_least_a_pixel(tmp_path: Path) -> None:
    file = write(tmp_path / "0.png", boxes((slice(0, 2), slice(0, 3), 255)))
    assert read_truth(tmp_path, [file], (60, 80), 60, config(a=(255, 400.0, False))).defects[0].saturation == 1
    assert read_truth(tmp_path, [file], (60, 80), 60, config(a=(255, 0.01, True))).defects[0].saturation == 1 / 6


def test_two_values_in_one_file_are_two_defects(tmp_path: Path) -> None:
    file = write(tmp_path / "0.png", boxes((slice(0, 5), slice(0, 5), 1), (slice(30, 40), slice(0, 5), 2)))
    truth = read_truth(tmp_path, [file], (60, 80), 60, config(a=(1, 1.0, True), b=(2, 1.0, True)))
    assert [d.name for d in truth.defects] == ["a", "b"]
    assert not (truth.defects[0].mask & truth.defects[1].mask).any()


def test_a_value_without_an_entry_leaves_spro_undefined_and_the_mask_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "0.png", boxes((slice(0, 5), slice(0, 5), 255), (slice(9, 12), slice(0, 5), 37)))
    truth = read_truth(tmp_path, [file], (60, 80), 60, config(a=(255, 1.0, True)))
    assert truth.defects == ()
    assert truth.problem == "0.png: the pixel value 37 has no entry in defects_config.json, so sPRO is undefined"
    assert truth.mask[:, :].sum() == read_truth(tmp_path, [file], (60, 80), 60, None).mask.sum() > 0


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "0.png", boxes((slice(0, 5), slice(0, 5), 255)))
    with pytest.raises(ImageError, match=r"0\.png: the mask has 80 x 60 pixels, its image 61 x 60"):
        read_truth(tmp_path, [file], (60, 61), 60, None)
