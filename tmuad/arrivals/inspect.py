"""The first look at what arrived: which files can be used, and why the others cannot."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tmuad.arrivals.files import PARTIAL, open_for_writing
from tmuad.arrivals.journal import Arrival
from tmuad.arrivals.similar import near_duplicates, thumbnails
from tmuad.cache import open_cache
from tmuad.config import Layout, Params
from tmuad.data.layouts import Entry
from tmuad.data.layouts.entries import JUNK_FILES, is_image
from tmuad.data.register import slug
from tmuad.data.verify import Verified, file_id, verify
from tmuad.engine import ImageRef
from tmuad.errors import DataError, ImageError
from tmuad.parquet import read_parquet
from tmuad.workspace import UnitPaths

FEW_SIZES = 4  # a unit with more sizes of images takes any between its smallest and its largest


def inspect(unit: str, params: Params, known_elsewhere: Mapping[str, str]) -> tuple[Arrival, ...]:
    """What lies in the incoming folder of `unit`, sorted by name, each with a decision: new, reject or leave.

    Waits up to three times `refit.settle` for files that are still being written; those that go on are left for the
    next run. No file is moved.

    Args:
        known_elsewhere: image_id -> why it must not come in again (it waits in quarantine, was discarded or forgotten).

    Raises:
        ArtifactError: the unit is not prepared.
    """
    folder = Path(params.refit.incoming) / unit
    deadline = time.monotonic() + 3 * params.refit.settle
    while True:
        names, restless = _listing(folder, params.refit.settle)
        if not restless or time.monotonic() >= deadline:
            break
        time.sleep(min(0.2, params.refit.settle))
    found = {name: Arrival(name, "", "leave", "still being written") for name in restless}
    ready = [name for name in names if name not in restless]
    usable: list[Verified] = []
    for name, result in zip(ready, _verify(folder, ready, params), strict=True):
        if isinstance(result, ImageError):
            found[name] = _unusable(folder, name, result)
        else:
            usable.append(result)
            found[name] = Arrival(name, result.image_id, "new")
    manifest = read_parquet(UnitPaths(unit).manifest, ["image_id", "path", "split"]).to_pydict()
    known = {
        image_id: f"known already: {path} of the data set"
        for image_id, path in zip(manifest["image_id"], manifest["path"], strict=True)
    } | dict(known_elsewhere)
    seen: dict[str, str] = {}
    for result in sorted(usable, key=lambda r: r.entry.path):
        name = result.entry.path
        reason = known.get(result.image_id) or (
            f"the same bytes as {seen[result.image_id]}" if result.image_id in seen else ""
        )
        seen.setdefault(result.image_id, name)
        if reason:
            found[name] = replace(found[name], decision="reject", reason=reason)
    fresh = [r for r in usable if found[r.entry.path].decision == "new"]
    refs = _known_refs(unit, params, manifest)
    for name, reason in _wrong_sizes(fresh, _sizes(unit, params, manifest)).items():
        found[name] = replace(found[name], decision="reject", reason=reason)
    fresh = sorted((r for r in fresh if found[r.entry.path].decision == "new"), key=lambda r: r.entry.path)
    for name, reason in _doubles(folder, fresh, refs, params).items():
        found[name] = replace(found[name], decision="reject", reason=reason)
    layout = params.unit(unit).layout
    return tuple(
        replace(found[name], target=target_name(name, found[name].image_id, layout))
        if found[name].decision == "new"
        else found[name]
        for name in sorted(found)
    )


def target_name(name: str, image_id: str, layout: Layout) -> str:
    """Where the arrival goes, relative to the unit's root: its own name, made safe, and unique by its digest."""
    file = f"{slug(Path(name).stem)}-{image_id[:12]}{Path(name).suffix.lower()}"
    return file if layout == "folder" else f"train/good/{file}"


def _listing(folder: Path, settle: float) -> tuple[list[str], set[str]]:
    """All files that want to come in, and those of them that are still being written."""
    names: list[str] = []
    restless: set[str] = set()
    now = time.time()
    try:
        children = sorted(folder.rglob("*"))
    except OSError:  # the folder went away under our feet: nothing has arrived
        return [], set()
    for path in children:
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if hidden or path.name.lower() in JUNK_FILES or path.name.lower().endswith(PARTIAL):
            continue
        try:
            if not path.is_file():
                continue
            status = path.stat()
        except OSError:
            continue
        names.append(name)
        if now - max(status.st_mtime, status.st_ctime) < settle:
            restless.add(name)
    restless |= {p.relative_to(folder).as_posix() for p in open_for_writing([folder / name for name in names])}
    return names, restless


def _verify(folder: Path, names: Sequence[str], params: Params) -> list[Verified | ImageError]:
    entries = [Entry(name, "train", "good", "") for name in names if is_image(name)]
    cache = open_cache(params.data.cache)
    results = iter(verify(folder, entries, max_pixels=params.data.max_pixels, cache=cache, workers=params.data.workers))
    return [
        next(results) if is_image(name) else ImageError(f"{folder / name}: not a file of a kind that is read")
        for name in names
    ]


def _unusable(folder: Path, name: str, error: ImageError) -> Arrival:
    try:
        image_id = file_id(folder / name)
    except ImageError as unreadable:
        return Arrival(name, "", "leave", _plain(unreadable, folder, name))
    return Arrival(name, image_id, "reject", _plain(error, folder, name))


def _plain(error: ImageError, folder: Path, name: str) -> str:
    text = str(error).removeprefix(f"{folder / name}: ")
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _known_refs(unit: str, params: Params, manifest: Mapping[str, Sequence[str]]) -> list[ImageRef]:
    root = Path(params.unit(unit).root)
    return [ImageRef(i, root / p) for i, p in zip(manifest["image_id"], manifest["path"], strict=True)]


def _sizes(unit: str, params: Params, manifest: Mapping[str, Sequence[str]]) -> Counter[tuple[int, int]]:
    """(width, height) -> images of the unit, but for those that cannot be read any more."""
    root, entries = Path(params.unit(unit).root), [Entry(path, "train", "good", "") for path in manifest["path"]]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; bring the data set back with: dvc checkout {root}")
    cache = open_cache(params.data.cache)
    results = verify(root, entries, max_pixels=params.data.max_pixels, cache=cache, workers=params.data.workers)
    return Counter((r.facts.width, r.facts.height) for r in results if isinstance(r, Verified))


def _wrong_sizes(fresh: Sequence[Verified], sizes: Counter[tuple[int, int]]) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for result in fresh:
        width, height = result.facts.width, result.facts.height
        if not sizes or (width, height) in sizes:
            continue
        if len(sizes) <= FEW_SIZES:
            usual = ", ".join(f"{w} x {h}" for (w, h), _ in sizes.most_common())
            wrong[result.entry.path] = f"{width} x {height} pixels; the unit's images have {usual}"
            continue
        (w0, w1), (h0, h1) = ((min(side), max(side)) for side in zip(*sizes, strict=True))
        if not (w0 <= width <= w1 and h0 <= height <= h1):
            wrong[result.entry.path] = f"{width} x {height} pixels; the unit's images have {w0} to {w1} x {h0} to {h1}"
    return wrong


def _doubles(folder: Path, fresh: Sequence[Verified], known: Sequence[ImageRef], params: Params) -> dict[str, str]:
    limit = params.refit.near_duplicate
    if not fresh or limit == 0:
        return {}
    new = [ImageRef(r.image_id, folder / r.entry.path) for r in fresh]
    found = near_duplicates(thumbnails(new, params.data), thumbnails(known, params.data), limit)
    reasons = {}
    for result, double in zip(fresh, found, strict=True):
        if double is not None:
            where, index, distance = double
            other = known[index].path if where == "known" else new[index].path.name
            reasons[result.entry.path] = f"nearly the same image as {other} ({distance:.1f} grey levels apart)"
    return reasons
