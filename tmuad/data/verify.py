"""Does every file of a data set decode? A truncated file shows only when all of it is decoded, so that is done.

What was found is kept by the hash of the bytes: a second look at a data set costs reading its files, no decoding.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import cache as once
from pathlib import Path

import numpy as np

from tmuad.cache import Cache, fingerprint
from tmuad.data import decode, images, pixels, tiff
from tmuad.data.images import MIN_SIDE, is_blank, read_labels, read_picture
from tmuad.data.layouts import Entry
from tmuad.data.pixels import Request, check_shape
from tmuad.errors import ImageError

_ENOUGH = 64  # pixels per side that a large JPEG keeps; its stream is decoded in full at any size


@dataclass(frozen=True)
class Facts:
    """What the bytes of an image file say, whatever the parameters are."""

    height: int  # upright, of the file
    width: int
    blank: bool  # of a single colour
    deep: bool  # stored with more than 8 bits
    peak: int  # brightest value of any channel, 0 to 255, at the full range of its type


@dataclass(frozen=True)
class Verified:
    entry: Entry
    image_id: str  # sha256 of the file
    facts: Facts
    values: tuple[tuple[int, ...], ...]  # values above zero in each of the entry's masks

    @property
    def unmarked(self) -> tuple[str, ...]:
        """Those of the entry's masks that mark nothing."""
        return tuple(mask for mask, values in zip(self.entry.masks, self.values, strict=True) if not values)


def verify(
    root: Path, entries: Sequence[Entry], *, max_pixels: int, cache: Cache | None = None, workers: int = 0
) -> list[Verified | ImageError]:
    """For each entry what its files say, or what is wrong with the image or one of its masks; in the order given.

    Threads and no processes: hashing and decoding release the interpreter.
    """

    def one(entry: Entry) -> Verified | ImageError:
        try:
            return _verify(root, entry, max_pixels, cache)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(one, entries))


def file_id(path: Path) -> str:
    """SHA-256 of the bytes, in hex."""
    with decode.reporting(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(root: Path, entry: Entry, max_pixels: int, cache: Cache | None) -> Verified:
    path = root / entry.path
    image_id = file_id(path)
    record = cache.get(image_id, _kind("image")) if cache else None
    if record is None:
        facts = _look(path, max_pixels)
        if cache:
            cache.put(image_id, _kind("image"), {"facts": np.array(astuple(facts), dtype=np.int64)})
    else:
        height, width, blank, deep, peak = (int(value) for value in record["facts"])
        facts = Facts(height, width, bool(blank), bool(deep), peak)
        check_shape(path, (height, width), Request(max_pixels, smallest=MIN_SIDE))
    values = tuple(_values(root / mask, (facts.height, facts.width), cache) for mask in entry.masks)
    return Verified(entry, image_id, facts, values)


def _look(path: Path, max_pixels: int) -> Facts:
    picture = read_picture(path, max_pixels=max_pixels, at_least=_ENOUGH)
    height, width = picture.shape
    return Facts(height, width, is_blank(picture.pixels), picture.deep, int(picture.pixels.max()))


def _values(mask: Path, shape: tuple[int, int], cache: Cache | None) -> tuple[int, ...]:
    """The values above zero in the mask file of an image of `shape`."""
    kind = _kind(f"mask {shape[0]} {shape[1]} {mask.suffix.lower()}")
    mask_id = file_id(mask) if cache else ""
    record = cache.get(mask_id, kind) if cache else None
    if record is None:
        record = {"present": np.bincount(read_labels(mask, shape).ravel(), minlength=256) > 0}
        if cache:
            cache.put(mask_id, kind, record)
    return tuple(int(value) for value in np.flatnonzero(record["present"]) if value)


@once
def _kind(what: str) -> str:
    """Key of the cache; a changed decoder looks at everything anew."""
    return f"verify {what} {fingerprint(decode, images, pixels, tiff)}"
