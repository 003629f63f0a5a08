"""Object names per category: what a grounded segmenter looks for. data/catalog/<data set>.yaml lists them:

    categories:
      screw_bag: {objects: [screw, nut, washer]}

A unit `mvtec_loco.screw_bag` is the category screw_bag of the data set mvtec_loco; a unit without a dot is both.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tmuad.cache import write_atomic
from tmuad.errors import ParameterError


def data_set_of(unit: str) -> tuple[str, str]:
    """Data set and category of a unit's name."""
    data_set, _, category = unit.partition(".")
    return data_set, category or data_set


def object_names(unit: str, folder: Path) -> tuple[str, ...]:
    """The object names of `unit`; empty if the catalogue does not know it.

    Raises:
        ParameterError: the file is not a catalogue, a name is empty, or stands twice.
    """
    from tmuad.config import read_yaml

    data_set, category = data_set_of(unit)
    path = folder / f"{data_set}.yaml"
    if not path.exists():
        return ()
    raw = read_yaml(path)
    content = raw if isinstance(raw, dict) else {}
    categories = content.get("categories")
    if not isinstance(categories, dict):
        raise ParameterError(f"{path}: expected 'categories', a mapping of names to {{objects: [...]}}")
    entry = categories.get(_category(category, categories, content.get("aliases")))
    if entry is None:
        return ()
    objects = entry.get("objects", []) if isinstance(entry, dict) else entry
    if not isinstance(objects, list) or not all(isinstance(o, str) and o.strip() for o in objects):
        raise ParameterError(f"{path}: categories.{category}.objects: expected a list of names, found {objects!r}")
    names = tuple(" ".join(o.split()) for o in objects)
    twice = sorted({n for n in names if [m.lower() for m in names].count(n.lower()) > 1})
    if twice:
        raise ParameterError(f"{path}: categories.{category}.objects: {twice[0]!r} stands twice; remove one")
    return names


def _category(name: str, categories: dict[Any, Any], aliases: object) -> str:
    """The category that a unit's `name` stands for: itself in any case, or one that it is an alias of."""
    for category in categories:
        others = aliases.get(category, ()) if isinstance(aliases, dict) else ()
        if name.lower() in {str(known).lower() for known in (category, *others)}:
            return str(category)
    return name


def parse_names(text: str) -> tuple[str, ...]:
    """'screw, lens' -> ('screw', 'lens').

    Raises:
        ParameterError: there is no name, or one stands twice.
    """
    names = tuple(" ".join(part.split()) for part in text.split(",") if part.strip())
    if not names:
        raise ParameterError(f'--classes {text!r}: no name in it; for instance --classes "screw, lens"')
    if len({n.lower() for n in names}) < len(names):
        raise ParameterError(f"--classes {text!r}: a name stands twice")
    return names


def write_names(units: Sequence[str], names: Sequence[str], folder: Path) -> list[Path]:
    """Enter `names` for `units`; other lines of a file that is there stay as they are. Returns the files written.

    Raises:
        ParameterError: a unit has other names already, or a file is laid out in a way that new lines would damage.
    """
    written = []
    for unit in units:
        known = object_names(unit, folder)
        data_set, category = data_set_of(unit)
        path = folder / f"{data_set}.yaml"
        if known == tuple(names):
            continue
        line = f"{_scalar(category)}: {{objects: [{', '.join(_scalar(n) for n in names)}]}}"
        if known:
            raise ParameterError(f"{path}: {category} has the objects {', '.join(known)} already; change them there")
        text = path.read_text(encoding="utf-8") if path.exists() else _HEAD.format(data_set=data_set)
        edited = re.sub(r"(?m)^categories:[ \t]*(#.*)?$", _followed_by(line), text, count=1)
        try:
            sound = _entry(edited, category) == list(names) and _others(edited, category) == _others(text, category)
        except yaml.YAMLError:
            sound = False
        if not sound:
            raise ParameterError(f"{path}: cannot be added to without harm; add under 'categories:' the line\n  {line}")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, edited.encode())
        written.append(path)
    return written


_HEAD = """# What the categories of {data_set} show. A grounded segmenter looks for these names; edit them freely.
categories:
"""


def _followed_by(line: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match[0]}\n  {line}"


def _entry(text: str, category: str) -> Any:
    return (yaml.safe_load(text)["categories"] or {}).get(category, {}).get("objects")


def _others(text: str, category: str) -> Any:
    return {k: v for k, v in (yaml.safe_load(text)["categories"] or {}).items() if k != category}


def _scalar(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][\w -]*", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
