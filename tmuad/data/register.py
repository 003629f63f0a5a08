"""`tmuad init`: look at a data set, and enter its units in params.yaml."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from tmuad.cache import open_cache
from tmuad.config import Layout, Params, UnitName, UnitParams, load_params
from tmuad.data.layouts import Problem, find_categories
from tmuad.data.manifest import survey
from tmuad.data.params_edit import add_units
from tmuad.errors import DataError, ImageError, ParameterError
from tmuad.workspace import ARTIFACTS, REPORTS

MAX_UP = 2  # a root this many folders above params.yaml is still written as a relative path
SPLITS = ("train", "validation", "test")
KINDS = ("good", "logical", "structural")
SHOWN = 12  # lines of a kind on the terminal
PLAIN = "names of units are plain ASCII without spaces"


@dataclass(frozen=True)
class Unit:
    """One category as it was found."""

    name: str
    root: str  # as written to params.yaml
    layout: Layout
    counts: dict[tuple[str, str], int]  # (split, kind) -> images
    sizes: dict[tuple[int, int], int]  # (width, height) -> images, the most frequent first
    problems: tuple[Problem, ...]
    added: bool  # False: params.yaml had it already


@dataclass(frozen=True)
class Registration:
    units: tuple[Unit, ...]
    problems: tuple[Problem, ...]  # of the data set as a whole
    remarks: tuple[str, ...]  # names that had to be changed, roots registered twice


def register(directory: Path, name: str | None, layout: Layout | Literal["auto"], params_path: Path) -> Registration:
    """Check the data set in `directory` and enter its units in `params_path`, keeping the file's comments.

    A category becomes the unit `name`, the categories of a data set `name.<category>`; `name` is the folder's unless
    given, the layout `auto` is detected. Roots are written as posix paths relative to the folder of `params_path`,
    or absolute where that would climb more than two folders. To register the same thing again changes nothing.

    Raises:
        ParameterError: params.yaml cannot be read or written, a name is not valid, or has another root or layout.
        DataError: no category, one that contradicts itself, or a folder that holds this project or what it writes.
        ImageError: images cannot be used and `data.on_bad_image` is stop.
    """
    params = load_params(params_path)
    _check_place(directory, params_path, params.data.cache)
    categories, problems = find_categories(directory, None if layout == "auto" else layout)
    base, remarks = _base_name(directory, name)
    names = [f"{base}.{slug(category)}" if category else base for category, _, _ in categories]
    for (category, _, _), unit_name in zip(categories, names, strict=True):
        if category and slug(category) != category:
            remarks.append(f"the category '{category}' is the unit '{unit_name}': {PLAIN}")
        if names.count(unit_name) > 1:
            raise ParameterError(f"{directory}: two categories would be the unit '{unit_name}'; rename one folder")
    cache = open_cache(params.data.cache, params_path.parent)
    units, failures = [], []
    for unit_name, (_, root, found_layout) in zip(names, categories, strict=True):
        written = _written_root(root, params_path)
        added = _is_new(params, params_path, unit_name, written, found_layout)
        remarks += _twins(params, params_path, unit_name, root)
        try:
            found = survey(root, found_layout, params.data, cache)
        except (DataError, ImageError) as error:
            failures.append(error)
            continue
        tally = Counter(zip(*(found.manifest[column].to_pylist() for column in ("split", "kind")), strict=True))
        units.append(Unit(unit_name, written, found_layout, dict(tally), found.sizes, tuple(found.problems), added))
    if failures:  # all of them, so that one round of repairs is enough
        raise type(failures[0])("\n".join(str(failure) for failure in failures))
    new = {unit.name: UnitParams(root=unit.root, layout=unit.layout) for unit in units if unit.added}
    add_units(params, params_path, new)
    return Registration(tuple(units), tuple(problems), tuple(remarks))


def describe_registration(registration: Registration, width: int = 100) -> str:
    """What was found, for a terminal of `width` columns: a table of counts, sizes and problems of each unit."""
    text = StringIO()
    console = Console(file=text, width=width, highlight=False, markup=False, emoji=False)
    for unit in registration.units:
        state = "added" if unit.added else "already there"
        console.print(f"{unit.name}: {unit.layout} in {unit.root} ({state})", soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 2))
        for column in ("images", *KINDS):
            table.add_column(column, justify="left" if column == "images" else "right")
        for split in SPLITS:
            table.add_row(split, *(str(unit.counts.get((split, kind), "-")) for kind in KINDS))
        console.print(table)
        console.print(f"  pixels: {_sizes(unit.sizes)}")
        _print_problems(console, unit.problems)
    if registration.problems:
        console.print("In the data set as a whole:")
        _print_problems(console, registration.problems)
    for remark in registration.remarks:
        console.print(f"Note: {remark}", soft_wrap=True)
    fit = f"dvc repro fuse@{registration.units[0].name}" if len(registration.units) == 1 else "dvc repro"
    console.print(f"Next: {fit}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _check_place(directory: Path, params_path: Path, cache: str) -> None:
    """Raises DataError where a stage would read what stages write: dvc could then run none of them, of any unit."""
    home, root = params_path.resolve().parent, directory.resolve()
    if home.is_relative_to(root):
        raise DataError(f"{directory}: holds this project itself; put the photographs in a folder of their own")
    for name in (str(ARTIFACTS), str(REPORTS), cache):
        if root.is_relative_to((home / name).resolve()):
            raise DataError(f"{directory}: lies in {name}, which this project writes; copy the photographs elsewhere")


def _sizes(sizes: dict[tuple[int, int], int]) -> str:
    if len(sizes) <= 4:
        return ", ".join(
            f"{width} x {height} ({count} image{'' if count == 1 else 's'})" for (width, height), count in sizes.items()
        )
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    (w0, h0), (w1, h1) = by_area[0], by_area[-1]
    return f"{len(sizes)} sizes from {w0} x {h0} to {w1} x {h1}"


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    for problem in problems[:SHOWN]:
        console.print(f"  {problem}", soft_wrap=True)
    if len(problems) > SHOWN:
        console.print(f"  and {len(problems) - SHOWN} more problems; the stage prepare lists all of them")


def slug(text: str) -> str:
    """`text` as a part of a unit name: accents dropped, anything else that a name must not have turned into '-'.

    A name with no usable letter at all (部品) becomes 'unit-' and six digits of its hash.
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")
    return plain or f"unit-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _base_name(directory: Path, name: str | None) -> tuple[str, list[str]]:
    if name is None:
        folder = directory.resolve().name
        base = slug(folder)
        changed = [f"the folder '{folder}' is called '{base}': {PLAIN}"]
        return base, changed if base != folder else []
    try:
        return TypeAdapter(UnitName).validate_python(name), []
    except ValidationError:
        raise ParameterError(
            f"--name {name}: not a unit name (letters, digits, '.', '_' and '-', a letter or digit first); "
            f"for instance --name {slug(name)}"
        ) from None


def _written_root(root: Path, params_path: Path) -> str:
    home, target = params_path.resolve().parent, root.resolve()
    try:
        relative = Path(os.path.relpath(target, home))
    except ValueError:  # another drive
        return target.as_posix()
    return relative.as_posix() if relative.parts.count("..") <= MAX_UP else target.as_posix()


def _same_folder(params_path: Path, one: str, other: str) -> bool:
    home = params_path.resolve().parent
    return (home / one).resolve() == (home / other).resolve()


def _is_new(params: Params, params_path: Path, name: str, root: str, layout: Layout) -> bool:
    """Whether the unit has to be added. Raises ParameterError where its name is taken."""
    known = params.units.get(name)
    if known is None:
        return True
    if not _same_folder(params_path, known.root, root):
        raise ParameterError(
            f"{params_path}: the unit '{name}' exists with the root {known.root}; choose another name with --name, "
            "or remove that unit first"
        )
    if known.layout != layout:
        raise ParameterError(
            f"{params_path}: the unit '{name}' exists with the layout {known.layout}, found {layout}; "
            f"give --layout {known.layout}, or change it there"
        )
    return False


def _twins(params: Params, params_path: Path, name: str, root: Path) -> list[str]:
    same = [other for other, unit in params.units.items() if _same_folder(params_path, unit.root, str(root.resolve()))]
    return [f"'{name}' has the same folder as the unit '{other}'" for other in same if other != name]
