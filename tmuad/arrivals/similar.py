"""Near-duplicates: the same photograph saved again, at another size or quality."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmuad.cache import Record, fingerprint
from tmuad.config import DataParams
from tmuad.engine import ImageRef, map_images

SIDE = 32  # px: averages out what compression does, and keeps what tells two photographs of one scene apart


@dataclass(frozen=True)
class ThumbnailTask:
    """See `tmuad.engine.Task`."""

    name: str = "thumbnail"
    after: None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name, SIDE)

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        return {"thumbnail": np.asarray(grey, dtype=np.uint8)}


def thumbnails(images: Sequence[ImageRef], data: DataParams) -> NDArray[np.float32]:
    """(N, SIDE * SIDE) grey levels 0..255, from the cache where it has them."""
    # One process: the caller may have threads, which a fork would not survive.
    single = data.model_copy(update={"workers": 1, "size": 2 * SIDE})
    rows = [record["thumbnail"].ravel() for record in map_images(ThumbnailTask(), images, single)]
    return np.array(rows, dtype=np.float32).reshape(len(images), SIDE * SIDE)


def distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) root mean square difference of each pair, in grey levels."""
    squared = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None] - 2 * some @ others.T
    return np.asarray(np.sqrt(np.maximum(squared, 0) / some.shape[1]), dtype=np.float32)


def near_duplicates(
    new: NDArray[np.float32], known: NDArray[np.float32], limit: float
) -> list[tuple[str, int, float] | None]:
    """For each row of `new` the first that it doubles: ("known" or "new", its row, distance), or None.

    Among the new ones the earlier row stays, unless it is itself a double.
    """
    to_known = distances(new, known) if len(known) else np.full((len(new), 1), np.inf, np.float32)
    among = distances(new, new)
    found: list[tuple[str, int, float] | None] = []
    for i in range(len(new)):
        nearest = int(to_known[i].argmin())
        if to_known[i, nearest] < limit:
            found.append(("known", nearest, float(to_known[i, nearest])))
            continue
        earlier = [j for j in range(i) if found[j] is None and among[i, j] < limit]
        found.append(("new", earlier[0], float(among[i, earlier[0]])) if earlier else None)
    return found
