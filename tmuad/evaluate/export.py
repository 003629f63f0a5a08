"""Anomaly maps as TIFF files, in the layout that the evaluation scripts of MVTec AD and MVTec LOCO read.

<out>/<object>/test/<defect>/<image>.tiff, one channel of real numbers, in the size of the image.
"""

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.errors import ArtifactError
from tmuad.parquet import write_artifact

Map = NDArray[np.floating]  # (S, S)


def export_maps(
    rows: Iterable[tuple[str, str, str]],
    map_of: Callable[[str], Map],
    shape_of: Callable[[str], tuple[int, int]],
    folder: Path,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> int:
    """Write the map of each row (image_id, path, kind) below `folder`, which is <out>/<object>; how many there are.

    Args:
        map_of: image_id -> map (S, S).
        shape_of: path -> (H, W) of the image, which the map is brought to (bilinear).
        half: float16 in place of float32: half the size, and all that the maps are worth.
        overwrite: remove maps that are there; an evaluation script would read old ones with the new.

    Raises:
        ArtifactError: there are maps already, two images would have one name, or a map is not finite.
    """
    import tifffile  # 0.2 s

    present = sorted(folder.glob("test/*/*.tiff"))
    if present and not overwrite:
        raise ArtifactError(
            f"{folder}: holds {len(present)} maps, such as {present[0].name}; name another folder, or overwrite"
        )
    for old in present:
        old.unlink()
    written: dict[PurePosixPath, str] = {}
    for image_id, path, kind in rows:
        target = map_path(path, kind)
        if target in written:
            raise ArtifactError(f"{path} and {written[target]}: both would be {target}; rename one of the images")
        written[target] = path
        values = np.asarray(map_of(image_id), dtype=np.float32)
        if not np.isfinite(values).all():
            raise ArtifactError(f"{path}: its map is not finite; run the score stage again")
        height, width = shape_of(path)
        scaled = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
        content = BytesIO()
        tifffile.imwrite(content, scaled.astype(np.float16 if half else np.float32), metadata=None, software=False)
        write_artifact(folder / target, content.getvalue())
    return len(written)


def map_path(path: str, kind: str) -> PurePosixPath:
    """test/<defect>/<image>.tiff for the image at `path` below the unit's root.

    The folder of the image in test/ where there is one (img/ of BMAD is none); VisA has good and bad.
    """
    source = PurePosixPath(path)
    folder = "good" if kind == "good" else "bad"
    if len(source.parts) > 2 and source.parts[0] == "test":
        folder = source.parts[1]
    return PurePosixPath("test", folder, f"{source.stem}.tiff")
