"""Maps of other methods, as files and arrays: formats, sizes, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from tmuad.errors import DataError
from tmuad.plug.maps import FileMaps, read_map, to_map

VALUES = np.random.default_rng(0).random((12, 16)).astype(np.float32)
MANY = 10**6
SQUARE = (64, 64)


def refused(array: object, words: str, shape: tuple[int, int] = SQUARE) -> None:
    with pytest.raises(DataError, match=words):
        to_map(array, "the map of x.png", shape, 32)


# ---- files


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16, np.int32])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tiff"])
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = (1000 * VALUES).astype(dtype)
    path = tmp_path / f"map{suffix}"
    match suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez_compressed(path, other=np.zeros(3), anomaly_map=values)
        case _:
            tifffile.imwrite(path, values, compression="zlib")
    np.testing.assert_array_equal(read_map(path, MANY), values)


def test_grey_pngs_of_8_and_16_bits(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        values = (VALUES * np.iinfo(dtype).max).astype(dtype)
        Image.fromarray(values).save(tmp_path / "map.png")
        np.testing.assert_array_equal(read_map(tmp_path / "map.png", MANY), values)


def test_pickled_arrays_are_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    array = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "b.npz", anomaly_map=array)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(DataError, match=rf"{name}: holds pickled objects, which .* refused"):
            read_map(tmp_path / name, MANY)
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_unfit_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colours.png")
    tifffile.imwrite(tmp_path / "pages.tiff", np.zeros((3, 8, 8), np.float32), photometric="minisblack")
    np.savez(tmp_path / "unnamed.npz", a=VALUES, b=VALUES)
    for name in ("empty.npy", "empty.npz", "empty.tiff", "empty.png"):
        (tmp_path / name).write_bytes(b"")
    np.save(tmp_path / "cut.npy", VALUES)
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-40])
    for name, words in {
        "colours.png": "a picture in colours",
        "pages.tiff": "3 pages; write one map per file",
        "unnamed.npz": "holds a, b; name the map 'anomaly_map'",
        "empty.npy": "cannot be read as a map",
        "empty.npz": "cannot be read as a map",
        "empty.tiff": "cannot be read as a map",
        "empty.png": "no PNG, or damaged",
        "cut.npy": "cannot be read as a map",
        "none.npy": "no such file",
    }.items():
        with pytest.raises(DataError, match=f"{name}: .*{words}"):
            read_map(tmp_path / name, MANY)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tiff", ".png"])
def test_a_map_of_too_many_values_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map{suffix}"
    values = np.zeros((200, 300), np.uint16)
    save = {
        ".npy": np.save,
        ".npz": np.savez,
        ".tiff": tifffile.imwrite,
        ".png": lambda p, v: Image.fromarray(v).save(p),
    }
    save[suffix](path, values)
    assert read_map(path, 60_000).shape == (200, 300)
    with pytest.raises(DataError, match=r"200 x 300 values, more than data.max_pixels = 59,999"):
        read_map(path, 59_999)


def test_maps_are_read_when_they_are_looked_at(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    maps = FileMaps({"x.png": tmp_path / "a.npy", "y.png": tmp_path / "gone.npy"}, MANY)
    assert list(maps) == ["x.png", "y.png"] and len(maps) == 2
    np.testing.assert_array_equal(maps["x.png"], VALUES)
    with pytest.raises(DataError, match=r"gone\.npy: no such file"):
        maps["y.png"]


# ---- arrays


def interpolated(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Bilinear between pixel centres, one pixel at a time."""
    height, width = values.shape
    result = np.zeros((size, size))
    for row, column in np.ndindex(size, size):
        y = min(max((row + 0.5) * height / size - 0.5, 0), height - 1)
        x = min(max((column + 0.5) * width / size - 0.5, 0), width - 1)
        top, left = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
        below, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
        lower = values[below, left] * (1 - (x - left)) + values[below, right] * (x - left)
        result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


@settings(max_examples=20)
@given(arrays(np.float64, st.sampled_from([(5, 5), (1, 1), (7, 7), (16, 16)]), elements=st.floats(-5, 5)))
def test_a_small_map_is_interpolated(values: NDArray[np.float64]) -> None:
    assert np.allclose(to_map(values, "m", SQUARE, 16), interpolated(values, 16), atol=1e-5)


def test_a_large_map_is_averaged_so_that_no_peak_is_lost() -> None:
    values = np.zeros((256, 256))
    values[101, 37] = 1.0
    small = to_map(values, "m", SQUARE, 32)
    assert small.shape == (32, 32) and small.dtype == np.float32
    assert np.unravel_index(small.argmax(), small.shape) == (101 // 8, 37 // 8)
    assert small.sum() == pytest.approx(1 / 64, rel=0.01)


def test_axes_of_length_one_are_dropped_and_tensors_taken() -> None:
    expected = to_map(VALUES, "m", (48, 64), 32)
    np.testing.assert_array_equal(to_map(VALUES[None, :, :, None], "m", (48, 64), 32), expected)
    np.testing.assert_array_equal(to_map(torch.from_numpy(VALUES)[None].requires_grad_(), "m", (48, 64), 32), expected)
    np.testing.assert_array_equal(to_map(np.full((4, 4), 7), "m", SQUARE, 8), np.full((8, 8), 7, np.float32))


def test_square_or_in_the_aspect_of_the_image() -> None:
    for shape in ((10, 10), (30, 40), (300, 400), (14, 19), (15, 20)):
        assert to_map(np.zeros(shape), "m", (480, 640), 16).shape == (16, 16)
    refused(np.zeros((40, 30)), "30 x 40, but its image is 640 x 480 .*it is turned: swap its axes", (480, 640))
    refused(np.zeros((30, 60)), "60 x 30, but its image is 640 x 480 .*export maps of the whole image", (480, 640))
    refused(np.zeros((32, 20)), "20 x 32, but its image is 64 x 64")


def test_what_is_no_map() -> None:
    refused(np.zeros((3, 8, 8)), "an array of 3 x 8 x 8, but a map has height and width alone")
    refused(np.zeros(8), "an array of 8, but")
    refused(np.float64(3), "an array of no axis, but")
    refused(np.zeros((0, 8)), "an array of 0 x 8, but")
    refused(np.array([["a"]]), "holds <U1, not real numbers")
    refused(np.zeros((8, 8), np.complex64), "holds complex64, not real numbers")
    wrong = np.zeros((8, 8))
    for value in (np.nan, np.inf, -np.inf):
        wrong[2, 5] = value
        refused(wrong, rf"the map of x\.png: {value} at row 2, column 5; every score must be finite")
    refused(np.full((8, 8), 1e200), "scores beyond 3.4e\\+38")
