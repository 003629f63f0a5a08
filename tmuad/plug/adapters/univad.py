"""UniVAD (Gu et al., CVPR 2025): <category>/anomaly_maps/<defect>_<image>.<suffix>, and detailed_results.csv with scores.

The published test script keeps a table of AUROCs alone. Public copies of it keep maps and scores as above, <category> with
spaces; docs/plug.md says which lines bring the published one to keep them as the adapter `folder` reads them.
"""

import csv
import math
from pathlib import Path, PurePosixPath

import numpy as np

from tmuad.errors import DataError
from tmuad.plug.adapters import Images, MethodResults, some
from tmuad.plug.maps import SUFFIXES, FileMaps

MAPS, TABLE = "anomaly_maps", "detailed_results.csv"
PEAK = 255.0  # of grey levels


def read(folder: Path, images: Images, skip_unknown: bool = False) -> MethodResults:
    """The maps and scores of the unit's category in `folder`: a run, or the category's folder in it.

    Raises:
        DataError: no such folder, a file of no test image, a test image without score where there is a table, or maps
            that were stretched one by one and no table of scores.
    """
    home = next((place for place in _places(folder, images) if (place / MAPS).is_dir()), None)
    if home is None:
        raise DataError(f"{folder}: no folder {MAPS}, nor {images.root.name}/{MAPS}; give the run's folder")
    files = _match(home / MAPS, images, skip_unknown)
    table = next((place / TABLE for place in (home, home.parent) if (place / TABLE).is_file()), None)
    scores = _scores(table, images) if table else None
    maps = FileMaps(files, images.max_pixels)
    remarks = []
    if _stretched(maps):
        if scores is None:
            raise DataError(
                f"{home / MAPS}: every map reaches 255, so each was stretched by itself and says nothing of how anomalous "
                f"its image is; add {TABLE}, or keep the maps as floats"
            )
        remarks.append("each map was stretched to 0..255 by itself: pixel figures compare within images alone")
    return MethodResults(maps, scores, tuple(remarks))


def _places(folder: Path, images: Images) -> list[Path]:
    name = images.root.name
    return [folder, folder / name, folder / name.replace("_", " ")]


def _match(folder: Path, images: Images, skip_unknown: bool) -> dict[str, Path]:
    owners: dict[str, str] = {}
    for path in images.of("test"):
        parts = PurePosixPath(path)
        key = f"{parts.parent.name}_{parts.stem}"
        if key in owners:
            raise DataError(f"{folder}: {key} could be a map of {owners[key]} or of {path}; use the adapter folder")
        owners[key] = path
    files = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    unknown = [p.name for stem, p in files.items() if stem not in owners]
    if unknown and not skip_unknown:
        raise DataError(
            f"{folder}: {len(unknown)} maps belong to no image of {images.unit}: {some(unknown)}; expected names such as "
            f"{next(iter(owners), 'good_000')}.npy; --skip-unknown passes over them"
        )
    return {owners[stem]: file for stem, file in files.items() if stem in owners}


def _scores(table: Path, images: Images) -> dict[str, float]:
    by_name: dict[tuple[str, str], str] = {}
    for path in images.of("test"):
        parts = PurePosixPath(path)
        by_name[parts.parent.name, parts.name] = path
        by_name.setdefault((parts.parent.name, parts.stem), path)  # the suffix is lost where it drew an example
    category = images.root.name.replace("_", " ")
    scores: dict[str, float] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream):
                image = by_name.get((row["subfolder"], row["filename"]))
                if row["class_name"].replace("_", " ") == category and image is not None:
                    scores[image] = float(row["anomaly_score"])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{table}: not UniVAD's table of scores ({error}); run its test again") from None
    wrong = [image for image, score in scores.items() if not math.isfinite(score)]
    missing = [image for image in dict.fromkeys(by_name.values()) if image not in scores]
    if wrong or missing:
        what = f"{some(wrong)} has a score that is not finite" if wrong else f"no score of {some(missing)}"
        raise DataError(f"{table}: {what}; run its test again")
    return scores


def _stretched(maps: FileMaps) -> bool:
    """Whether every map is of whole grey levels and reaches the highest: it was stretched by its own maximum."""
    return len(maps) > 1 and all(m.dtype == np.uint8 and m.max() == PEAK for m in maps.values())
