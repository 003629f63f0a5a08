"""A labelled set of a user's own for the gate: a folder with good/ and at least one more, whose images are anomalous."""

from dataclasses import dataclass
from pathlib import Path

from tmuad.config import Params
from tmuad.data.layouts import Entry
from tmuad.data.layouts.entries import is_image as looks_like_image
from tmuad.data.layouts.entries import walk
from tmuad.data.verify import verify
from tmuad.engine import ImageRef
from tmuad.errors import DataError, ImageError


@dataclass(frozen=True)
class Labelled:
    """Images whose truth is known."""

    images: list[ImageRef]
    anomalous: list[bool]


def read_labelled(unit: str, params: Params) -> Labelled:
    """The labelled set of `unit` in `refit.labelled`; empty if it has none.

    Raises:
        DataError: the folder is missing, has no good or no anomalous image, or holds one that cannot be used: a gate
            that measures on half of a set would measure something else each time.
    """
    if unit not in params.refit.labelled:
        return Labelled([], [])
    root = Path(params.refit.labelled[unit])
    where = f"refit.labelled.{unit}: {root}"
    if not root.is_dir():
        raise DataError(f"{where}: no such folder; create it with good/ and anomalous/, or remove the parameter")
    files, _ = walk(root)
    names = [name for name in files if looks_like_image(name) and "/" in name]
    entries = [Entry(name, "test", "good", "") for name in names]
    results = verify(root, entries, max_pixels=params.data.max_pixels)
    bad = [str(result) for result in results if isinstance(result, ImageError)]
    if bad:
        lines = "\n  ".join(bad)
        raise DataError(f"{where}: {len(bad)} of {len(names)} images cannot be used; repair or remove them:\n  {lines}")
    images, anomalous = [], []
    for name, result in zip(names, results, strict=True):
        assert not isinstance(result, ImageError)
        images.append(ImageRef(result.image_id, root / name))
        anomalous.append(name.split("/", maxsplit=1)[0] != "good")
    if all(anomalous) or not any(anomalous):
        missing = "good" if all(anomalous) else "anomalous"
        raise DataError(f"{where}: no {missing} image; the gate needs both. Images go to good/ and, say, scratched/")
    return Labelled(images, anomalous)
