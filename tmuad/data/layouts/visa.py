"""VisA as published: Data/Images/{Normal,Anomaly} and Data/Masks/Anomaly; which image is in which split says a CSV.

split_csv/1cls.csv lies beside the categories and has the columns object, split, label, image, mask, with paths relative
to the data set. What it calls train are normal images, the rest of them and all anomalous ones are the test set. The
types of defects come from the category's image_anno.csv where there is one. The one-class layout that VisA's own script
makes of this is that of MVTec AD.
"""

import csv
from pathlib import Path, PurePosixPath

from tmuad.data.layouts.entries import Entry, Listing, Problem, Split, is_image, strays, walk
from tmuad.errors import DataError

NORMAL = PurePosixPath("Data/Images/Normal")
SPLIT = PurePosixPath("split_csv/1cls.csv")
ANNOTATIONS = "image_anno.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
SPLITS: dict[str, Split] = {"train": "train", "test": "test"}


def read(root: Path) -> Listing:
    """The category in `root`.

    Raises:
        DataError: there is no split CSV, it is not as it should be, or it names no training image of the category; see
            also `walk`.
    """
    files, problems = walk(root)
    table = split_file(root)
    defects = _defects(root)
    entries: list[Entry] = []
    used: set[str] = {ANNOTATIONS, SPLIT.as_posix()}
    for line, row in _rows(table, COLUMNS):
        if row["object"] != root.name:
            continue
        image, mask = (_inside(row[column]) for column in ("image", "mask"))
        if row["split"] not in SPLITS or row["label"] not in ("normal", "anomaly"):
            raise DataError(
                f"{table}: line {line}: split {row['split']!r} and label {row['label']!r}; expected train or test, and "
                "normal or anomaly; copy the file from the data set again"
            )
        used |= {image, mask}
        if image not in files:
            problems.append(Problem(image, f"listed in {table.name}, line {line}, but not there", "left out"))
        elif row["label"] == "normal":
            entries.append(Entry(image, SPLITS[row["split"]], "good", ""))
        else:
            found = (mask,) if mask in files else ()
            entries.append(Entry(image, "test", "structural", defects.get(image, "anomaly"), found))
            if not found:
                decision = "used for the image-level figures, left out of the pixel-level ones"
                problems.append(Problem(image, "an image of a defect without a mask", decision))
    if not any(entry.split == "train" for entry in entries):
        raise DataError(f"{root}: no training image: {table} lists none of the object '{root.name}' that is there")
    loose = [file for file in files if file not in used]
    unlisted = [file for file in loose if is_image(file) and file.startswith("Data/")]
    problems += [
        Problem(folder, f"{len(members)} images that {table.name} does not list, such as {members[0]}", "ignored")
        for folder, members in _by_folder(unlisted).items()
    ]
    problems += strays((file for file in loose if file not in unlisted), "visa")
    return Listing(tuple(sorted(entries, key=lambda e: (e.split, e.path))), tuple(sorted(problems)))


def split_file(root: Path) -> Path:
    """The split CSV of the category `root`: in the data set's folder above it, or in `root` itself."""
    for folder in (root.resolve().parent, root):
        if (folder / SPLIT).is_file():
            return folder / SPLIT
    raise DataError(
        f"{root.parent / SPLIT}: missing; it says which image is for training: copy split_csv from the data set"
    )


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The lines of a CSV file with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            lacking = sorted(set(columns) - set(reader.fieldnames or ()))
            if lacking:
                raise DataError(f"{path}: no column {', '.join(lacking)}; copy the file from the data set again")
            return [(reader.line_num, {column: (row[column] or "").strip() for column in columns}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error}); copy the file from the data set again") from None


def _inside(path: str) -> str:
    """candle/Data/Images/Normal/0000.JPG -> Data/Images/Normal/0000.JPG"""
    return path.partition("/")[2]


def _defects(root: Path) -> dict[str, str]:
    """Image -> type of its defect, as far as image_anno.csv says."""
    path = root / ANNOTATIONS
    if not path.is_file():
        return {}
    rows = _rows(path, ("image", "label"))
    return {_inside(row["image"]): row["label"] for _, row in rows if row["label"] not in ("", "normal")}


def _by_folder(files: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(str(PurePosixPath(file).parent), []).append(file)
    return groups
