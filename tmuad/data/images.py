"""Photographs and masks from disk, in one form: uint8 RGB and bool.

What is decided here, the same for every image and from no statistics of an image:

- 16 bit is divided by the full range of `bits`: 16, unless `data.bits` says that a camera writes fewer into 16. Nothing
  in such a file tells how many are meant, so the manifest reports a set that looks like it and the user decides.
- Float images hold 0 to 1, as image libraries write them; other values are an error and not a guess.
- Alpha is composited on white, as viewers show it. An alpha channel of zeros alone is an unused one and dropped.
- EXIF rotation is applied; colour profiles are not. Of a file with several pictures (MPO) the first one counts; a TIFF
  of several full pages is an error, because the rest would be lost without a word.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.data.decode import decode, header_shape
from tmuad.data.pixels import Picture, Request
from tmuad.errors import ImageError

MIN_SIDE = 16  # pixels; below this there is nothing to describe
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

# Masks: labels as small as 1 of 65535 survive 8 bits cut from below, and alpha over black leaves the ground unmarked.
_MASK = Request(max_pixels=2**62, bits=8, ground=0)


def read_image(path: Path, *, max_pixels: int, bits: int = 16, at_least: int | None = None) -> NDArray[np.uint8]:
    """The photograph `path` as uint8 RGB (H, W, 3), upright.

    Args:
        max_pixels: a larger image is refused on the word of its header, before it is decoded.
        bits: significant bits of 16-bit files; their full range becomes 0 to 255.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep this many pixels.
            Twice the size that `resize` will make of it costs no quality that one could see.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, too large, too small or of an unknown kind.
    """
    return read_picture(path, max_pixels=max_pixels, bits=bits, at_least=at_least).pixels


def read_picture(path: Path, *, max_pixels: int, bits: int = 16, at_least: int | None = None) -> Picture:
    """As `read_image`, with the size and depth of the file itself."""
    return decode(path, Request(max_pixels, bits, at_least, smallest=MIN_SIDE))


def image_shape(path: Path, *, max_pixels: int) -> tuple[int, int]:
    """(H, W) of the upright image, from the header alone. Raises ImageError as `read_image` does."""
    return header_shape(path, Request(max_pixels))


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`image` (H, W, 3) as (size, size, 3), antialiased bicubic; the aspect is not kept (paper, IV-B)."""
    if image.shape[:2] == (size, size):
        return image
    # reducing_gap: an integer reduction first, to twice the size or more; three times faster for a large photograph.
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0))


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether `image` (H, W, 3) has a single colour, but for the 2 grey levels that JPEG may add."""
    parts = (image[::16, ::16], image)  # a few pixels answer for nearly every photograph
    return all((np.ptp(part.reshape(-1, 3), axis=0) <= 2).all() for part in parts)


def read_mask(paths: Sequence[Path], shape: tuple[int, int], size: int) -> NDArray[np.bool_]:
    """The union of the mask files `paths` of an image of `shape` (H, W) pixels, as bool (size, size).

    A pixel is marked where any colour channel is above zero (in a JPEG, where zero is noisy: above half). No mark is
    lost when it shrinks, see `shrink_mask`. No path gives an empty mask.

    Raises:
        ImageError: a file is unreadable, or of another size than its image.
    """
    union = np.zeros(shape, dtype=np.bool_)
    for path in paths:
        union |= read_full_mask(path, shape)
    return shrink_mask(union, size)


def read_full_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask file `path` in the pixels of its image of `shape` (H, W); see `read_mask`."""
    return read_labels(path, shape) > 0


def read_labels(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The values of the mask file `path` in the pixels of its image of `shape` (H, W): (H, W), 0 where nothing is marked.

    Of a colour mask the bits of the channels are joined. See `read_mask` for JPEG and the errors.
    """
    height, width = header_shape(path, _MASK)  # before decoding: a mask of the right size is one that fits in memory
    if (height, width) != shape:
        raise ImageError(
            f"{path}: the mask has {width} x {height} pixels, its image {shape[1]} x {shape[0]} (width x height, "
            "upright); export the mask at the size of its image"
        )
    noise = 127 if path.suffix.lower() in {".jpg", ".jpeg"} else 0
    red, green, blue = np.moveaxis(decode(path, _MASK).pixels, 2, 0)
    values: NDArray[np.uint8] = red | green | blue
    return np.where(values > noise, values, np.uint8(0))  # of the bits, because 127 is all bits but the highest


def shrink_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """`mask` (H, W) as (size, size), each axis apart.

    Where it shrinks, a pixel is marked if any pixel that falls into it is; where it grows, as the nearest one is.
    """
    for axis in (0, 1):
        length = mask.shape[axis]
        if length > size:
            starts = np.arange(size) * length // size
            mask = np.logical_or.reduceat(mask, starts, axis=axis, dtype=np.bool_)
        elif length < size:
            mask = mask.take((2 * np.arange(size) + 1) * length // (2 * size), axis=axis)
    return mask
