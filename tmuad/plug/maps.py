"""Anomaly maps of other methods: one array each, from a file or from memory, brought to the size that ours have."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tmuad.errors import DataError

SUFFIXES = frozenset({".npy", ".npz", ".tif", ".tiff", ".png"})
NAMES = ("anomaly_map", "map", "arr_0")  # which array of an .npz is the map, if it holds several
GREY = frozenset({"L", "I", "F", "I;16", "I;16B", "I;16L"})  # Pillow's names for one channel of 8, 16 and 32 bits

Map = NDArray[np.float32]  # (H, W)


class Reader(Protocol):
    """Turns a file into an array that should be a map."""

    def __call__(self, path: Path, max_pixels: int) -> NDArray[Any]: ...


class FileMaps(Mapping[str, NDArray[Any]]):
    """Image path -> array in its file, read at every look: a data set's maps need not fit in memory."""

    def __init__(self, files: Mapping[str, Path], max_pixels: int, reader: Reader | None = None) -> None:
        self.files, self.max_pixels, self.reader = dict(files), max_pixels, reader or read_map

    def __getitem__(self, image: str) -> NDArray[Any]:
        return self.reader(self.files[image], self.max_pixels)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def read_map(path: Path, max_pixels: int) -> NDArray[Any]:
    """The array in `path`: .npy, .npz, TIFF of any number type, or a grey PNG of 8 or 16 bits.

    Raises:
        DataError: unreadable, pickled, coloured, of several pages or too large.
    """
    try:
        match path.suffix.lower():
            case ".npy":
                return _npy(path, max_pixels)
            case ".npz":
                return _npz(path, max_pixels)
            case ".tif" | ".tiff":
                return _tiff(path, max_pixels)
            case _:
                return _png(path, max_pixels)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; was it moved while it was read?") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: no PNG, or damaged; write the map again") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise DataError(f"{path}: cannot be read as a map ({error}); write it again, best with numpy.save") from None


def to_map(array: Any, name: str, image_shape: tuple[int, int], size: int) -> Map:
    """`array` as a map (size, size) float32. Axes of length 1 are dropped, and a torch tensor is taken as well.

    A map larger than `size` is averaged down, a smaller one is interpolated, both bilinearly.

    Args:
        name: of the map, for errors.
        image_shape: (H, W) of the image. The map must be square, as of an image that was squeezed into a square, or have
            the image's aspect: anything else was cropped or turned, and would lie beside the image's parts.

    Raises:
        DataError: not two axes, empty, not numbers, not finite, or of another aspect.
    """
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name}: holds {values.dtype}, not real numbers; write an array of floats")
    shape = tuple(side for side in values.shape if side != 1) if values.ndim > 2 else values.shape
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{name}: an array of {_by(values.shape)}, but a map has height and width alone")
    values = values.reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{name}: {values[row, column]} at row {row}, column {column}; every score must be finite")
    if np.abs(values).max() > np.finfo(np.float32).max:
        raise DataError(f"{name}: scores beyond {np.finfo(np.float32).max:.2g}; divide them all by one number")
    _check_aspect(name, values.shape[0], values.shape[1], image_shape)
    if values.shape == (size, size):
        return values.astype(np.float32)
    # Pillow averages where it reduces, so that no peak falls between two samples.
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)


def _check_aspect(name: str, height: int, width: int, image_shape: tuple[int, int]) -> None:
    if height == width:
        return
    rows, columns = image_shape
    slack = 1 + 0.02 * max(height, width)  # sides are rounded, down to grids of patches
    if abs(height - width * rows / columns) <= slack and abs(width - height * columns / rows) <= slack:
        return
    turned = abs(width - height * rows / columns) <= slack
    hint = "it is turned: swap its axes" if turned else "export maps of the whole image, square or in its aspect"
    raise DataError(f"{name}: {width} x {height}, but its image is {columns} x {rows} (width x height); {hint}")


def _npy(path: Path, max_pixels: int) -> NDArray[Any]:
    with _no_pickle(path):
        lazy = np.load(path, mmap_mode="r", allow_pickle=False)  # the header first: nothing large is read unseen
    _check_pixels(path, lazy.shape, max_pixels)
    return np.array(lazy)


def _npz(path: Path, max_pixels: int) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        stored = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    chosen = next(iter(stored)) if len(stored) == 1 else next((name for name in NAMES if name in stored), None)
    if chosen is None:
        raise DataError(f"{path}: holds {', '.join(sorted(stored)) or 'nothing'}; name the map 'anomaly_map'")
    if stored[chosen] > 16 * max_pixels + 4096:
        raise DataError(f"{path}: {stored[chosen]:,} bytes unpacked, more than data.max_pixels allows")
    with _no_pickle(path), np.load(path, allow_pickle=False) as arrays:
        array = arrays[chosen]
    _check_pixels(path, array.shape, max_pixels)
    return np.asarray(array)


@contextlib.contextmanager
def _no_pickle(path: Path) -> Iterator[None]:
    """What numpy says of pickled content, in words that tell what to do."""
    try:
        yield
    except ValueError as error:
        if not any(word in str(error) for word in ("pickle", "Python objects", "Object arrays")):
            raise
        raise DataError(
            f"{path}: holds pickled objects, which could run code when read and are refused; "
            "save a plain array of floats: numpy.save(path, map.astype('float32'))"
        ) from None


def _tiff(path: Path, max_pixels: int) -> NDArray[Any]:
    import tifffile  # 0.2 s

    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise DataError(f"{path}: a TIFF of {len(file.pages)} pages; write one map per file")
        page = file.pages[0]
        _check_pixels(path, page.shape, max_pixels)
        return np.asarray(page.asarray())


def _png(path: Path, max_pixels: int) -> NDArray[Any]:
    with Image.open(path, formats=("PNG",)) as image:
        _check_pixels(path, (image.height, image.width), max_pixels)
        if image.mode not in GREY:
            raise DataError(
                f"{path}: a picture in colours ({image.mode}), not a map of scores; "
                "write grey levels of 16 bits, or floats as .npy or .tiff"
            )
        return np.asarray(image)


def _check_pixels(path: Path, shape: tuple[int, ...], max_pixels: int) -> None:
    if np.prod(shape, dtype=np.float64) > max_pixels:
        raise DataError(f"{path}: {_by(shape)} values, more than data.max_pixels = {max_pixels:,}; write smaller maps")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no axis"
