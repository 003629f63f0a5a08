"""From stored samples to upright 8-bit RGB: what every decoder shares. The decisions stand in tmuad/data/images.py."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.errors import ImageError

ORIENTATION = 0x0112  # tag of EXIF and TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Request(NamedTuple):
    """How to decode; see `images.read_image`."""

    max_pixels: int
    bits: int = 16
    at_least: int | None = None
    smallest: int = 1  # pixels per side
    ground: int = 255  # grey level that alpha is composited on


class Picture(NamedTuple):
    pixels: NDArray[np.uint8]  # (h, w, 3) RGB; smaller than `shape` where a JPEG was decoded at a reduced size
    shape: tuple[int, int]  # (H, W) of the file, upright
    deep: bool  # stored with more than 8 bits


def upright_shape(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(H, W) once `orientation` is applied."""
    return (width, height) if 5 <= orientation <= 8 else (height, width)


def check_shape(path: Path, shape: tuple[int, int], request: Request) -> None:
    """Raises ImageError where the (H, W) in a header is not what `request` allows."""
    height, width = shape
    if height * width > request.max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} = {width * height:,} pixels, more than data.max_pixels = "
            f"{request.max_pixels:,}; shrink the image or raise the parameter"
        )
    if min(shape) < request.smallest:
        raise ImageError(
            f"{path}: {width} x {height} pixels, at least {request.smallest} a side are needed; remove the file"
        )


def to_bytes(path: Path, values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """`values` of any supported type as 0 to 255, by the range of the type and nothing that depends on the image."""
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    if values.dtype.kind == "u" and values.dtype.itemsize == 1:
        return values.astype(np.uint8)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        shifted: NDArray[np.uint8] = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
        return shifted
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= -0.01 and high <= 1.01):  # also false for NaN; the margin is for filters that overshoot
            raise ImageError(
                f"{path}: float values from {low:g} to {high:g}, expected 0 to 1; divide by the value that means white"
            )
        scaled: NDArray[np.uint8] = np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)
        return scaled
    raise ImageError(f"{path}: pixels of type {values.dtype}; save it with 8 or 16 bits per channel")


def to_rgb(path: Path, image: Image.Image, request: Request, orientation: int) -> NDArray[np.uint8]:
    """`image` of any supported mode as upright RGB (H, W, 3), alpha composited on `request.ground`."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in {"LA", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (0, 0):
            ground = Image.new("RGBA", image.size, (*(request.ground,) * 3, 255))
            image = Image.alpha_composite(ground, image)
    if image.mode not in {"1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}:
        raise ImageError(f"{path}: colour mode {image.mode} is not supported; save it as grey or RGB, 8 or 16 bits")
    image = image.convert("RGB")
    turn = TURNS.get(orientation)
    return np.asarray(image if turn is None else image.transpose(turn))
