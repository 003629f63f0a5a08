"""Findings in words. A sentence says what the finding holds and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path

from tmuad.config import read_yaml
from tmuad.errors import ParameterError
from tmuad.score.text import Finding

Names = Mapping[str, tuple[str, str]]  # class-2 -> (screw, screws)


def load_names(path: Path) -> dict[str, tuple[str, str]]:
    """What a person calls the classes of a unit: `class-2: screw`, or `class-5: {one: die, many: dice}`.

    A missing file renames nothing.

    Raises:
        ParameterError: the file is not such a mapping, or gives two classes one name.
    """
    raw = read_yaml(path) if path.exists() else None
    if raw is None:  # no file, or nothing but comments
        return {}
    if not isinstance(raw, dict):
        raise ParameterError(f"{path}: expected lines such as 'class-1: screw', found {type(raw).__name__}")
    names: dict[str, tuple[str, str]] = {}
    for key, value in raw.items():
        match value:
            case str() if value.strip():
                name = (value.strip(), plural(value.strip()))
            case {"one": str(one), "many": str(many), **rest} if not rest and one.strip() and many.strip():
                name = (one.strip(), many.strip())
            case _:
                raise ParameterError(f"{path}: {key}: expected a name or {{one: ..., many: ...}}, found {value!r}")
        if name[0] in (known[0] for known in names.values()):
            raise ParameterError(f"{path}: '{name[0]}' names two classes; reasons could not tell them apart")
        names[str(key)] = name
    return names


def plural(name: str) -> str:
    """Regular English plural; irregular ones are given in the names file."""
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")


def noun(object_class: str, count: int, names: Names) -> str:
    """'screw', 'screws'; 'class-2 object', 'class-2 objects' where nobody has named the class."""
    one, many = names.get(object_class, (f"{object_class} object", f"{object_class} objects"))
    return one if count == 1 else many


def at(where: str) -> str:
    """'at the top left', 'in the centre', 'in the centre (1) and at the left (2)'."""
    parts = []
    for part in where.split(", "):
        number, _, rest = part.partition(" ")
        place, suffix = (rest, f" ({number})") if number.isdigit() else (part, "")
        parts.append(("in the centre" if place == "centre" else f"at the {place}") + suffix)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def sentence(finding: Finding, names: Names) -> str:
    """One grammatical English sentence."""
    one = noun(finding.object_class, 1, names)  # "one LED", "the LED": spelling does not tell "a" from "an"
    match finding.attribute:
        case "missing" | "extra":
            expected, found = finding.expected, finding.found
            expected_noun = noun(finding.object_class, 0 if expected == "none" else int(expected), names)
            change = "missing" if finding.attribute == "missing" else "too many"
            lost = f"{finding.count} {'is' if finding.count == 1 else 'are'} {change} {at(finding.where)}"
            return f"Expected {expected.replace('none', 'no')} {expected_noun}, found {found}: {lost}."
        case "position":
            return f"One {one} is out of place: expected {_place(finding.expected)}, found {_place(finding.found)}."
        case "size":
            low, _, high = finding.expected.removesuffix(" %").partition(" to ")
            direction = "large" if float(finding.found.removesuffix(" %")) > float(high or low) else "small"
            subject = noun(finding.object_class, finding.count, names)
            verb = "is" if finding.count == 1 else "are"
            size = f"{finding.found} of the image, normally {finding.expected}"
            return f"The {subject} {at(finding.where)} {verb} too {direction}: {size}."
        case "appearance":
            on = f" on the {one}" if finding.object_class else ""
            return f"Unusual appearance{on} {at(finding.where)}."


def _place(words: str) -> str:
    place, comma, rest = words.partition(", ")
    return at(place) + comma + rest
