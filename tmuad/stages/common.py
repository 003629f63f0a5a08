"""What the stages share: the images of a unit as the engine wants them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tmuad.config import Params
from tmuad.engine import ImageRef
from tmuad.parquet import read_parquet
from tmuad.workspace import UnitPaths


def image_refs(
    manifest: pa.Table, root: Path, splits: Sequence[str] = ("train", "validation", "test")
) -> list[ImageRef]:
    """The images of `splits`, in the manifest's order."""
    columns = manifest.select(["image_id", "path", "split"]).to_pydict()
    rows = zip(columns["image_id"], columns["path"], columns["split"], strict=True)
    return [ImageRef(image_id, root / path) for image_id, path, split in rows if split in splits]


def unit_images(unit: str, params: Params, splits: Sequence[str] = ("train", "validation", "test")) -> list[ImageRef]:
    """As `image_refs`, for a prepared unit."""
    return image_refs(read_parquet(UnitPaths(unit).manifest), Path(params.unit(unit).root), splits)


def shape_of(params: Params) -> tuple[int, int]:
    return (params.data.size, params.data.size)
