"""The filter bank: its smoothing against scipy, what must not change its features, and images without content."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from drawing import BLUE, GREY, RED, board, disc, photographed, woven
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad import masks
from tmuad.encode.defects import encode_defects
from tmuad.encode.filters import (
    MEANS,
    OCTAVES,
    PEAKS,
    FilterBank,
    FilterEncoder,
    gaussian_sampler,
    smooth,
    with_surround,
)

ENCODER = FilterEncoder()
SIZE = 128


def photo(seed: int = 0, size: int = SIZE) -> NDArray[np.uint8]:
    return photographed(woven(disc(board(size), 0.4 * size, 0.5 * size, 0.2 * size, RED), 8), seed)


def noise(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("size", [16, 33, 112])
def test_smoothing_equals_scipys_gaussian_with_mirrored_borders(size: int, sigma: float) -> None:
    image = noise(0, size, size)
    reference = ndi.gaussian_filter(
        image.astype(np.float64), sigma, mode="reflect", truncate=int(4 * sigma + 1) / sigma
    )
    np.testing.assert_allclose(smooth(image, sigma), reference, atol=2e-5)


@pytest.mark.parametrize(("size", "samples", "sigma"), [(12, 5, 1.3), (9, 9, 4.0), (64, 8, 4.8), (7, 3, 20.0)])
def test_the_sampling_matrix_equals_a_loop_over_taps(size: int, samples: int, sigma: float) -> None:
    """Also where the window is wider than the image, and is mirrored more than once."""
    slow = np.zeros((samples, size))
    reach = int(4 * sigma + 1)
    for row in range(samples):
        centre = (row + 0.5) * size / samples - 0.5
        taps = range(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 2)
        weights = [np.exp(-0.5 * ((tap - centre) / sigma) ** 2) for tap in taps]
        for tap, weight in zip(taps, weights, strict=True):
            place = tap
            while not 0 <= place < size:
                place = -1 - place if place < 0 else 2 * size - 1 - place
            slow[row, place] += weight / sum(weights)
    np.testing.assert_allclose(gaussian_sampler(size, samples, sigma), slow, atol=1e-6)


@given(st.integers(4, 64), st.integers(1, 64), st.floats(0.3, 30))
@settings(max_examples=40)
def test_a_mean_stays_within_its_values_and_keeps_a_constant(size: int, samples: int, sigma: float) -> None:
    matrix = gaussian_sampler(size, samples, sigma)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_channels_are_smoothed_like_single_planes() -> None:
    image = noise(1, 24, 24, 3)
    together = smooth(image, 2.0, 8)
    for channel in range(3):
        np.testing.assert_allclose(together[..., channel], smooth(image[..., channel].copy(), 2.0, 8), atol=1e-6)


def test_layers_have_the_documented_shapes_and_types() -> None:
    features = ENCODER.encode_patches(photo(size=448))
    assert {name: (f.shape, f.dtype) for name, f in features.items()} == {
        "detail": ((56, 56, OCTAVES * (MEANS + PEAKS) + 13), np.float16),
        "surface": ((28, 28, OCTAVES * MEANS + 13), np.float16),
    }


@pytest.mark.parametrize("size", [64, 66, 90, 128, 200])
@pytest.mark.parametrize("kind", ["black", "white", "red", "noise", "stripes", "checkers"])
def test_features_are_finite_and_within_float16_whatever_the_image(kind: str, size: int) -> None:
    rows, columns = np.mgrid[:size, :size]
    grey = {
        "black": np.zeros((size, size)),
        "white": np.full((size, size), 255),
        "noise": np.random.default_rng(0).integers(0, 256, (size, size)),
        "stripes": 255 * (columns % 2),
        "checkers": 255 * ((rows + columns) % 2),
    }
    image = board(size, RED) if kind == "red" else np.repeat(grey[kind][..., None], 3, axis=2).astype(np.uint8)
    bank = FilterBank(image)
    for layer in (bank.detail, bank.surface):
        assert np.isfinite(layer).all()
        assert abs(layer).max() < 1000  # a thousandth of it is still told apart in float16
    full = masks.encode(np.ones((size, size), dtype=np.bool_))
    assert np.isfinite(ENCODER.encode_objects(image, [full], bank)).all()
    assert np.isfinite(encode_defects(image)[0].astype(np.float32)).all()


def test_a_flat_image_is_the_same_everywhere() -> None:
    for layer in ENCODER.encode_patches(board(SIZE, BLUE)).values():
        assert np.ptp(layer.astype(np.float32), axis=(0, 1)).max() < 0.02


def test_float16_keeps_what_tells_patches_apart() -> None:
    bank = FilterBank(photo())
    kept = ENCODER.encode_patches(photo(), bank)["detail"].astype(np.float32)
    error = abs(kept - bank.detail).max(axis=(0, 1))
    assert (error <= 0.002 * abs(bank.detail).max(axis=(0, 1)) + 1e-4).all()


def test_a_mirrored_image_has_mirrored_features() -> None:
    """Channels without a direction are equal; horizontal and vertical differences stay, the diagonals change places."""
    image = photo()
    means, mirrored = FilterBank(image).means, FilterBank(np.ascontiguousarray(image[:, ::-1])).means[:, ::-1]
    order = np.arange(means.shape[2])
    for k in range(OCTAVES):
        start = MEANS * k
        order[start : start + MEANS] = start + np.array([0, 1, 3, 2, 4, 5, 7, 6, 8])
    np.testing.assert_allclose(means, mirrored[..., order], atol=2e-3)


def test_a_quarter_turn_swaps_horizontal_and_vertical() -> None:
    image = photo()
    means, turned = FilterBank(image).means, np.rot90(FilterBank(np.rot90(image).copy()).means, -1)
    order = np.arange(means.shape[2])
    for k in range(OCTAVES):
        start = MEANS * k
        order[start : start + MEANS] = start + np.array([1, 0, 3, 2, 5, 4, 7, 6, 8])
    np.testing.assert_allclose(means, turned[..., order], atol=2e-3)


def test_the_surround_takes_out_what_all_patches_share() -> None:
    detail = noise(2, 16, 16, 5)
    plain, shifted = with_surround(detail), with_surround(detail + 3)
    assert plain.shape == (16, 16, 10)
    np.testing.assert_allclose(shifted[..., :5], plain[..., :5] + 3, atol=1e-5)
    np.testing.assert_allclose(shifted[..., 5:], plain[..., 5:], atol=1e-5)


def test_a_scratch_shows_where_it_is_and_nowhere_else() -> None:
    image = photographed(board(SIZE), 3)
    scratched = image.copy()
    scratched[60:62, 40:90] = 60
    change = abs(FilterBank(scratched).detail - FilterBank(image).detail).max(axis=2)
    assert change[7, 5:11].min() > 5 * change[0].max()


def test_an_object_is_described_by_what_lies_in_its_mask() -> None:
    image = disc(board(SIZE, GREY), 40, 40, 20, RED)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    on, off = (np.hypot(columns - x, rows - y) < 12 for x, y in ((40, 40), (96, 96)))
    red, grey, again = ENCODER.encode_objects(image, [masks.encode(m) for m in (on, off, on)])
    a_channel = OCTAVES * MEANS + 3  # first mean of the plane a: green to red
    assert red[a_channel] > grey[a_channel] + 20
    np.testing.assert_array_equal(red, again)
    assert red[-3] == pytest.approx(np.log(on.mean()), abs=0.1)  # log area
    assert red[-2] == pytest.approx(0, abs=0.1) and red[-1] == pytest.approx(np.pi / 4, abs=0.08)  # aspect, fill


def test_no_objects_and_specks_have_rows_too() -> None:
    image = photo()
    width = ENCODER.encode_objects(image, []).shape
    speck = np.zeros((SIZE, SIZE), dtype=np.bool_)
    speck[3, 5] = True
    empty = np.zeros((SIZE, SIZE), dtype=np.bool_)
    rows = ENCODER.encode_objects(image, [masks.encode(speck), masks.encode(empty)])
    assert width == (0, rows.shape[1]) and np.isfinite(rows).all()


def test_a_bank_computed_before_changes_nothing() -> None:
    image = photo()
    bank = FilterBank(image)
    _ = bank.surface
    for layer, features in ENCODER.encode_patches(image).items():
        np.testing.assert_array_equal(features, ENCODER.encode_patches(image, bank)[layer])


def test_the_fingerprint_is_of_one_version() -> None:
    assert ENCODER.fingerprint() == FilterEncoder().fingerprint()
