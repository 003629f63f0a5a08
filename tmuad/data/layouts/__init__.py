"""Data sets as they lie on disk: which layout a folder has, and the readers."""

from collections.abc import Callable
from pathlib import Path

from tmuad.config import Layout
from tmuad.data.layouts import bmad, folder, mvtec_ad, mvtec_loco, visa
from tmuad.data.layouts.entries import JUNK_FOLDERS, Entry, Kind, Listing, Problem, Split, is_image, strays, walk
from tmuad.errors import DataError

__all__ = ["Category", "Entry", "Kind", "Listing", "Problem", "Split", "detect", "find_categories", "read"]

READERS: dict[Layout, Callable[[Path], Listing]] = {
    "mvtec_ad": mvtec_ad.read,
    "mvtec_loco": mvtec_loco.read,
    "visa": visa.read,
    "bmad": bmad.read,
    "folder": folder.read,
}
INNER = ("img", *bmad.MASKS)  # folders inside of test/Ungood that only BMAD has
_SPLITS = ("train", "validation", "test", "ground_truth")
Category = tuple[str, Path, Layout]  # name below the data set ("" for the data set itself), folder, layout


def read(root: Path, layout: Layout) -> Listing:
    """The images of one category.

    Raises:
        DataError: the folder does not have the shape that the layout promises; the message says what is missing and,
            where the category lies further down, where.
    """
    if layout != "folder" and root.is_dir() and not _is_category(root):
        needed = visa.NORMAL if layout == "visa" else "train/good"
        raise DataError(f"{root}: not a category in the layout {layout}: no folder {needed}.{_hint(root)}")
    return READERS[layout](root)


def detect(root: Path) -> Layout:
    """The layout of the category in `root`.

    Raises:
        DataError: it has none of the known ones; the message says what was looked for.
    """
    files, _ = walk(root)
    if (root / visa.NORMAL).is_dir():
        return "visa"
    if (root / "train" / "good").is_dir() and any((root / "test" / bmad.BAD / name).is_dir() for name in INNER):
        return "bmad"
    if _is_category(root):
        marks = [root / "test" / kind for kind in mvtec_loco.KINDS] + [root / mvtec_loco.CONFIG]
        return "mvtec_loco" if any(mark.exists() for mark in marks) else "mvtec_ad"
    present = [name for name in _SPLITS if (root / name).is_dir()]
    deeper = _hint(root)
    if not present and not deeper and any(is_image(file) for file in files):
        return "folder"
    seen = f"There is {' and '.join(present)} but no train/good." if present else "There is no image."
    raise DataError(
        f"{root}: unknown layout. Looked for train/good (MVTec AD, MVTec LOCO, BMAD), for {visa.NORMAL} (VisA), and for "
        "a folder of images of good parts (png, jpg, bmp, tif) without "
        f"{', '.join(_SPLITS)} in it.{deeper or ' ' + seen}"
    )


def find_categories(root: Path, layout: Layout | None = None) -> tuple[list[Category], list[Problem]]:
    """The categories in `root`: itself, or its sub-folders where `root` is a data set of several.

    Raises:
        DataError: there is none; see `detect`.
    """
    files, _ = walk(root)
    children = [child for child in _folders(root) if _is_category(child)]
    if layout == "folder" or _is_category(root) or not children:
        return [("", root, layout or detect(root))], []
    if [child.name for child in children] == [root.name]:
        raise DataError(f"{root}: unpacked one folder too deep; name {children[0]} or move its content up")
    known = {*JUNK_FOLDERS, visa.SPLIT.parent.name} if (children[0] / visa.NORMAL).is_dir() else JUNK_FOLDERS
    others = [child for child in _folders(root) if child not in children and child.name.lower() not in known]
    problems = [Problem(other.name, "no category: no folder train/good in it", "ignored") for other in others]
    problems += strays((file for file in files if "/" not in file and is_image(file)), "of a data set of categories")
    return [(child.name, child, layout or detect(child)) for child in children], problems


def _folders(path: Path) -> list[Path]:
    try:
        return [child for child in sorted(path.iterdir()) if child.is_dir()]
    except OSError:  # reported by `walk`, which meets it as well
        return []


def _is_category(path: Path) -> bool:
    return (path / "train" / "good").is_dir() or (path / visa.NORMAL).is_dir()


def _hint(root: Path) -> str:
    """Where categories lie below `root`, as the end of a message; empty if nowhere near."""
    children = _folders(root)
    near = [child for child in children if _is_category(child)]
    if len(near) > 1:
        return f" It holds the categories {', '.join(child.name for child in near)}: name one of them."
    if not near:
        near = [path for child in children for path in _folders(child) if _is_category(path)]
        if near:
            return f" Unpacked one folder too deep? There are categories in {near[0].parent}: name that folder."
        return ""
    return f" Unpacked one folder too deep? There is a category in {near[0]}: name that folder."
