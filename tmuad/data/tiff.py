"""TIFF with more than 8 bits, and what Pillow does not know. Pillow misreads planar and inverted 16-bit files."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.data.pixels import ORIENTATION, Picture, Request, check_shape, to_bytes, to_rgb, upright_shape
from tmuad.errors import ImageError

_SIDE_PAGE = 1 | 4  # bits of NewSubfileType: a reduced copy, a transparency mask
_ALPHA = (1, 2)  # ExtraSamples: associated, unassociated

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it would print its remarks about metadata


def tiff_header(path: Path, request: Request) -> tuple[tuple[int, int], bool]:
    """Upright (H, W), and whether there are more than 8 bits per sample."""
    with _first_page(path) as page:
        return _shape(path, page, request), page.bitspersample > 8


def decode_tiff(path: Path, request: Request) -> Picture:
    """The picture in `path`, which `tiff_header` accepts."""
    with _first_page(path) as page:
        shape = _shape(path, page, request)
        if page.samplesperpixel > 4:  # before decoding: the number is as large as a damaged file wants it
            raise _unsupported(path, page)
        try:
            raw = page.asarray(squeeze=False, maxworkers=1)  # (planes, depth, H, W, samples)
        except ValueError as error:
            if "imagecodecs" not in str(error):  # what tifffile asks for where a decoder is missing
                raise
            raise ImageError(
                f"{path}: TIFF of {page.bitspersample} bits with {page.compression.name} compression cannot be read; "
                "save it without compression or with deflate (zip)"
            ) from None
        channels = np.concatenate(list(raw[:, 0]), axis=-1)  # (H, W, C), whether stored by plane or by pixel
        image = _compose(path, page, to_bytes(path, channels, request.bits))
        pixels = to_rgb(path, image, request, _number(page, ORIENTATION))
        return Picture(pixels, shape, page.bitspersample > 8)


@contextlib.contextmanager
def _first_page(path: Path) -> Iterator[Any]:
    import tifffile  # 0.2 s, for TIFF alone

    with tifffile.TiffFile(path) as tiff:
        first: Any = tiff.pages.first
        others = [int(getattr(page, "subfiletype", 0)) for page in tiff.pages[1:]]
        pages = 1 + sum(not purpose & _SIDE_PAGE for purpose in others)
        if pages > 1 or first.imagedepth > 1:
            raise ImageError(f"{path}: holds {max(pages, first.imagedepth)} pages; save each one as a file of its own")
        yield first


def _shape(path: Path, page: Any, request: Request) -> tuple[int, int]:
    shape = upright_shape(page.imagelength, page.imagewidth, _number(page, ORIENTATION))
    check_shape(path, shape, request)
    return shape


def _number(page: Any, code: int) -> int:
    """The integer under a tag; 0 where the tag is missing or holds something else."""
    tag = page.tags.get(code)
    return tag.value if tag is not None and isinstance(tag.value, int) else 0


def _compose(path: Path, page: Any, channels: NDArray[np.uint8]) -> Image.Image:
    """`channels` (H, W, C) as the kind of image that the tags of `page` say they are."""
    planes = [Image.fromarray(np.ascontiguousarray(channels[:, :, index])) for index in range(channels.shape[2])]
    alpha = any(extra in _ALPHA for extra in page.extrasamples)
    match getattr(page.photometric, "name", ""), len(planes):
        case "MINISBLACK", 1:
            return planes[0]
        case "MINISWHITE", 1:
            return Image.fromarray(255 - channels[:, :, 0])
        case "MINISBLACK", 2 if alpha:
            return Image.merge("LA", planes)
        case "RGB", 3 | 4:
            return Image.merge("RGBA" if alpha and len(planes) == 4 else "RGB", planes[: 4 if alpha else 3])
        case "SEPARATED", 4:
            return Image.merge("CMYK", planes)
        case _:
            raise _unsupported(path, page)


def _unsupported(path: Path, page: Any) -> ImageError:
    kind = getattr(page.photometric, "name", page.photometric)
    return ImageError(f"{path}: TIFF with {page.samplesperpixel} channels of the kind {kind}; save it as grey or RGB")
