"""Image files as upright 8-bit RGB; every fault of a file becomes an ImageError that names it."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tmuad.data.pixels import ORIENTATION, Picture, Request, check_shape, to_bytes, to_rgb, upright_shape
from tmuad.data.tiff import decode_tiff, tiff_header
from tmuad.errors import ImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # MPO comes with JPEG
_LOW_BYTE = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # Pillow's names for "the other byte of the two"

# Remarks of Pillow about metadata. What matters to the user is raised below, with the name of the file.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(path: Path, request: Request) -> Picture:
    """The picture in `path`. Raises ImageError."""
    with reporting(path):
        if _is_tiff(path):
            shape, deep = tiff_header(path, request)
            if deep:
                return decode_tiff(path, request)
            try:
                with _open(path) as image:
                    # Pillow turns a TIFF upright itself.
                    return Picture(to_rgb(path, image, request, orientation=1), shape, deep)
            except UnidentifiedImageError:
                return decode_tiff(path, request)
        with _open(path) as image:
            return _decode(path, image, request)


def header_shape(path: Path, request: Request) -> tuple[int, int]:
    """(H, W) of the upright picture, without decoding it. Raises ImageError."""
    with reporting(path):
        if _is_tiff(path):
            return tiff_header(path, request)[0]
        with _open(path) as image:
            check_shape(path, (image.height, image.width), request)
            return upright_shape(image.height, image.width, _orientation(image))


def _decode(path: Path, image: ImageFile.ImageFile, request: Request) -> Picture:
    check_shape(path, (image.height, image.width), request)
    orientation = _orientation(image)
    shape = upright_shape(image.height, image.width, orientation)
    rawmode = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
    if request.at_least is not None:
        image.draft(None, (request.at_least, request.at_least))  # does nothing but for a JPEG
    flat: Image.Image = image
    if image.mode.startswith("I;16"):
        flat = Image.fromarray(to_bytes(path, np.asarray(image), request.bits))
    elif rawmode.endswith(";16B") and request.bits < 16:
        flat = _full_depth(path, image, rawmode, request)
    return Picture(to_rgb(path, flat, request, orientation), shape, deep=rawmode.endswith(";16B"))


def _full_depth(path: Path, image: Image.Image, rawmode: str, request: Request) -> Image.Image:
    """A 16-bit colour PNG at `bits`. Pillow keeps the high byte alone, so the low one is decoded in a second pass."""
    if rawmode not in _LOW_BYTE:
        raise ImageError(f"{path}: 16-bit grey PNG with alpha needs data.bits: 16; save it without alpha")
    high = np.asarray(image).astype(np.uint16)
    with _open(path) as again:
        again.tile = [again.tile[0]._replace(args=_LOW_BYTE[rawmode])]
        low = np.asarray(again)
    return Image.fromarray(to_bytes(path, high << 8 | low, request.bits))


def _orientation(image: Image.Image) -> int:
    """From the metadata in front of the pixels. PNG's own `getexif` would decode the picture to look behind them."""
    try:
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))
    except Exception:  # damaged metadata around a sound picture
        return 1


def _is_tiff(path: Path) -> bool:
    """By content, because names lie. Refuses what is no file, or has no bytes."""
    if not path.exists():
        raise FileNotFoundError
    if not path.is_file():
        raise ImageError(f"{path}: not a file; name an image")
    with path.open("rb") as stream:
        magic = stream.read(4)
    if not magic:
        raise ImageError(f"{path}: the file is empty (0 bytes); copy it again or remove it")
    return magic in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[ImageFile.ImageFile]:
    with _no_pillow_limit(), Image.open(path, formats=FORMATS) as image:
        yield image


class _NoPillowLimit:
    """Pillow refuses or remarks on large images by a global limit of its own; `max_pixels` takes its place.

    The limit is lifted only while an image is open here, and counted because images are decoded in threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._open == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    Image.MAX_IMAGE_PIXELS = self._limit


_no_pillow_limit = _NoPillowLimit()


@contextlib.contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside, as an ImageError that says of `path` what to do about it."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; was it moved after the manifest was written?") from None
    except PermissionError:
        raise ImageError(f"{path}: permission denied; make the file readable") from None
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory; shrink the image or lower data.max_pixels") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a PNG, JPEG, BMP or TIFF image, or damaged; convert or remove it") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path}: damaged or truncated ({reason}); replace or remove the file") from error
