"""What a reader of a data set says: entries for the manifest, and problems with the decision that was taken."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tmuad.data.images import SUFFIXES
from tmuad.errors import DataError

Split = Literal["train", "validation", "test"]
Kind = Literal["good", "logical", "structural"]

# Left behind by file managers, network drives, archives and version control, or shipped with MVTec's data sets: ignored
# without a word.
JUNK_FILES = frozenset(
    {"thumbs.db", ".ds_store", "desktop.ini", ".gitignore", ".gitkeep", ".dvcignore", "license.txt", "readme.txt"}
)
JUNK_FOLDERS = frozenset({"__macosx", "@eadir", ".git", ".dvc", ".ipynb_checkpoints", "$recycle.bin"})


@dataclass(frozen=True)
class Entry:
    """One image. Paths are posix and relative to the unit's root."""

    path: str
    split: Split
    kind: Kind
    defect: str  # folder of the defect; "" for good
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Problem:
    """Something found in the data that did not stop the run. Nothing is left out without one."""

    path: str  # posix, relative to the unit's root; "." for the whole
    problem: str
    decision: str

    def __str__(self) -> str:
        place = "" if self.path == "." else f"{self.path}: "
        return f"{place}{self.problem}; {self.decision}"


@dataclass(frozen=True)
class Listing:
    entries: tuple[Entry, ...]  # sorted by split and path
    problems: tuple[Problem, ...]


def walk(root: Path) -> tuple[list[str], list[Problem]]:
    """All files under `root` as sorted posix paths relative to it, without junk; hidden folders are reported.

    Raises:
        DataError: `root` is no folder or cannot be read, a symbolic link leads to a folder or out of the root, or a
            name is not valid Unicode.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: not a folder; unpack an archive first, or name the folder that holds the images")
    home = root.resolve()
    files: list[str] = []
    problems: list[Problem] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            children = sorted(folder.iterdir())
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed ({error.strerror}); make the folder readable") from None
        for child in children:
            name = _name(child, root)
            if child.is_symlink():
                _check_link(child, home)
            if child.is_dir():
                if child.name.lower() in JUNK_FOLDERS:
                    continue
                if child.name.startswith("."):
                    problems.append(Problem(name, "hidden folder", "ignored with all that is in it"))
                else:
                    folders.append(child)
            elif child.name.lower() not in JUNK_FILES and not child.name.startswith("._"):
                files.append(name)
    return sorted(files), problems


def is_image(path: str) -> bool:
    """Whether the name promises an image that can be read."""
    return Path(path).suffix.lower() in SUFFIXES


def strays(paths: Iterable[str], layout: str) -> list[Problem]:
    """A problem for each file that the layout has no place for; one for many files of one folder."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        suffix = Path(name).suffix.lower()
        reason = (
            f"an image in a place that the layout {layout} does not know"
            if suffix in SUFFIXES
            else f"a file of a kind that is not read ({suffix or 'no suffix'}; read are {' '.join(sorted(SUFFIXES))})"
        )
        groups[folder, reason].append(path)
    found: list[Problem] = []
    for (folder, reason), members in groups.items():
        if len(members) <= 3:
            found.extend(Problem(path, reason, "ignored") for path in members)
        else:
            first = members[0].rpartition("/")[2]
            found.append(Problem(folder or ".", f"{len(members)} times {reason}, such as {first}", "ignored"))
    return found


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise DataError(f"{shown}: the name is not valid Unicode (UTF-8); rename the file") from None
    return name


def _check_link(link: Path, home: Path) -> None:
    """A data set must be whole in itself: what a link leads to could change without the data set's knowledge."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        raise DataError(f"{link}: a symbolic link that leads in a circle; remove it") from None
    if not target.is_relative_to(home):
        raise DataError(f"{link}: a symbolic link out of the data set, to {target}; put a copy in its place")
    if target.is_dir():
        raise DataError(f"{link}: a symbolic link to a folder; put a copy in its place, or remove it")
