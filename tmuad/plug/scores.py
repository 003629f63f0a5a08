"""Image scores of other methods, from a CSV file with the columns path and score."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tmuad.errors import DataError

PATHS = ("path", "image", "image_path", "filename")
SCORES = ("score", "pred_score", "anomaly_score")


def read_scores(file: Path, images: Mapping[str, object], root: Path) -> dict[str, float]:
    """Image path -> score. Paths stand relative to the unit's root, or absolute within it.

    Raises:
        DataError: the file is no such table, a path is of no image of the unit, a score stands twice or is not finite.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); give a CSV file of scores") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: no CSV in UTF-8 ({error})") from None
    columns = list(rows[0]) if rows else []
    path_column = next((name for name in PATHS if name in columns), None)
    score_column = next((name for name in SCORES if name in columns), None)
    if path_column is None or score_column is None:
        have = ", ".join(map(str, columns)) or "no row"
        raise DataError(f"{file}: needs the columns path and score in its first line, has {have}")
    scores: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        image = find_image(str(row[path_column] or ""), images, root)
        if image is None:
            raise DataError(
                f"{file}: line {line}: {row[path_column]!r} is no image of the unit; give paths relative to {root}"
            )
        if image in scores:
            raise DataError(f"{file}: line {line}: a second score for {image}; keep one")
        try:
            scores[image] = float(row[score_column] or "")
        except ValueError:
            raise DataError(f"{file}: line {line}: {row[score_column]!r} is no number") from None
        if not math.isfinite(scores[image]):
            raise DataError(f"{file}: line {line}: the score of {image} is {row[score_column]}; it must be finite")
    return scores


def find_image(name: str, images: Mapping[str, object], root: Path) -> str | None:
    """The path of the image that `name` means: relative or absolute, with or without suffix; None for any other."""
    path = PurePosixPath(Path(name).as_posix())
    if path.is_absolute():
        try:
            path = PurePosixPath(Path(name).resolve().relative_to(root.resolve()).as_posix())
        except ValueError:
            return None
    if str(path) in images:
        return str(path)
    if ".." in path.parts:
        return None
    same = [image for image in images if PurePosixPath(image).with_suffix("") == path.with_suffix("")]
    return same[0] if len(same) == 1 else None
