"""PBAS (Chen et al., TCSVT 2024), as its published code leaves its results: results/eval/<data set>_<category>/NNN.png.

Each picture shows photograph, ground truth and map side by side, the map in the colours of "jet", its 256 levels spread
over all maps of the category. The number is the image's place among the test images, folder by folder. Scores of images
and maps of normal images beside the test set are not kept, so the scale has to come from unlabelled test images; to do
better, keep the maps that its `predict` makes as .npy and use the adapter `folder`.

Its loader brings the shorter side of an image to 288 px and cuts the centre square out; of two categories it enlarges the
image first. The map is put back into its place; around it, where PBAS does not look, stands its lowest level.
"""

from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from tmuad.data.images import image_shape
from tmuad.errors import DataError
from tmuad.plug.adapters import Images, MethodResults
from tmuad.plug.maps import FileMaps

PANELS = 3  # photograph, ground truth, map
SHARE = {"toothbrush": 288 / 329, "wood": 288 / 329}  # of the shorter side that its loader keeps; elsewhere all of it
FAR = 40.0  # of 441: a colour farther than this from all of jet's is no level of a map


def read(folder: Path, images: Images) -> MethodResults:
    """The maps in the pictures NNN.png of `folder`.

    Raises:
        DataError: not as many pictures as test images, or the unit has no folders of test images.
    """
    test = sorted(images.of("test"), key=lambda path: PurePosixPath(path).parts)
    if not test or any(PurePosixPath(path).parts[0] != "test" or len(PurePosixPath(path).parts) != 3 for path in test):
        raise DataError(f"{images.unit}: PBAS numbers the images of test/DEFECT/, and this unit has no such folders")
    pictures = sorted((p for p in folder.glob("*.png") if p.stem.isdigit()), key=lambda p: int(p.stem))
    if len(pictures) != len(test) or [int(p.stem) for p in pictures] != list(range(1, len(test) + 1)):
        raise DataError(
            f"{folder}: {len(pictures)} numbered pictures for {len(test)} test images of {images.unit}; "
            f"expected 001.png to {len(test):03}.png, as PBAS writes to results/eval/<data set>_<category>"
        )
    photographs = dict(zip(pictures, (images.root / path for path in test), strict=True))

    def placed(path: Path, max_pixels: int) -> NDArray[Any]:
        levels = read_picture(path, max_pixels)
        return put_back(levels, image_shape(photographs[path], max_pixels=max_pixels), SHARE.get(images.root.name, 1.0))

    maps = FileMaps(dict(zip(test, pictures, strict=True)), images.max_pixels, placed)
    remarks = ["maps read back from PBAS's pictures: 256 levels, 256 x 256 pixels"]
    shapes = {image_shape(path, max_pixels=images.max_pixels) for path in photographs.values()}
    if images.root.name in SHARE or any(height != width for height, width in shapes):
        remarks.append("PBAS looks at the centre square of an image alone; the rest counts as its lowest level")
    return MethodResults(maps, remarks=tuple(remarks))


def put_back(levels: NDArray[Any], shape: tuple[int, int], share: float = 1.0) -> NDArray[Any]:
    """The map (S, S) of an image's centre square as one of the whole image of `shape` (H, W), in its aspect.

    Args:
        share: of the image's shorter side that the square has.
    """
    size, shorter = len(levels), min(shape)
    whole = tuple(round(size / share * side / shorter) for side in shape)
    if whole == levels.shape:
        return levels
    placed = np.full(whole, levels.min(), dtype=levels.dtype)
    top, left = ((side - size) // 2 for side in whole)
    placed[top : top + size, left : left + size] = levels
    return placed


def read_picture(path: Path, max_pixels: int) -> NDArray[Any]:
    """The map in the right third of a picture, (H, H) levels 0 to 255 as float32.

    Raises:
        DataError: no picture of three panels, or its right third has other colours than jet's.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            width, height = image.size
            if width != PANELS * height or width * height > max_pixels:
                raise DataError(f"{path}: {width} x {height}; PBAS writes three square panels side by side")
            colours = np.asarray(image.convert("RGB"))[:, (PANELS - 1) * height :]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not readable as PNG ({error}); run PBAS's test again") from None
    distance, level = _jet().query(colours.reshape(-1, 3).astype(np.float64))
    if np.median(distance) > FAR:
        raise DataError(f"{path}: its right third is no map in the colours of jet; give PBAS's folder results/eval/...")
    return np.asarray(level, dtype=np.float32).reshape(height, height)


@cache
def _jet() -> cKDTree:
    """The 256 colours, as three tent functions of the level."""
    level = np.arange(256) / 255
    return cKDTree(255 * np.stack([np.clip(1.5 - np.abs(4 * level - k), 0, 1) for k in (3, 2, 1)], axis=1))
