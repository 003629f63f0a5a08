"""Moving images about so that none is ever lost: whatever is interrupted can be repeated."""

import os
import shutil
import tempfile
from pathlib import Path

from tmuad.data.verify import file_id
from tmuad.errors import DataError

PARTIAL = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", "~")  # files under way


def move(source: Path, target: Path, image_id: str) -> bool:
    """Bring the file with the digest `image_id` from `source` to `target`; False if it is in neither place.

    Repeatable: a file that is at its target is left there, and its double at the source removed. Within a file system
    it is one rename; across two, the copy gets its name only when it is whole, and the source goes last.

    Raises:
        DataError: the target holds another file, or cannot be written.
    """
    try:
        if target.is_file():
            if file_id(target) != image_id:
                raise DataError(f"{target}: another image has this name; move it away, then run this again")
            if source.is_file() and file_id(source) == image_id:
                source.unlink()
            return True
        if not source.is_file() or file_id(source) != image_id:  # gone, or overwritten: a new arrival
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.rename(target)
        except OSError:
            _copy(source, target)
            source.unlink()
        return True
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror}); free some space, or make the folder writable"
        ) from None


def _copy(source: Path, target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream, source.open("rb") as original:
            shutil.copyfileobj(original, stream)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.copystat(source, name)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def place_tree(source: Path, target: Path) -> None:
    """A copy of the folder `source` under the name `target`, which appears whole or not at all; hard links where possible.

    Links are safe for artifacts: they are replaced, never written into.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, copy_function=_link_or_copy)
    draft.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def open_for_writing(paths: list[Path]) -> set[Path]:
    """Those of `paths` that a process has open for writing, as far as this user may see (Linux only)."""
    wanted: dict[tuple[int, int], Path] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        wanted[status.st_dev, status.st_ino] = path
    found: set[Path] = set()
    if not wanted or not Path("/proc/self/fdinfo").is_dir():
        return found
    for process in os.scandir("/proc"):
        if not process.name.isdigit():
            continue
        try:
            for entry in os.scandir(f"{process.path}/fd"):
                status = entry.stat()  # of what the descriptor leads to
                path_open = wanted.get((status.st_dev, status.st_ino))
                if path_open and _writes(Path(process.path) / "fdinfo" / entry.name):
                    found.add(path_open)
        except OSError:  # gone, or another user's
            continue
    return found


def _writes(info: Path) -> bool:
    for line in info.read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
