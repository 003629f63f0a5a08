"""Rules that hold in all normal images, proposed as saved questions for a person to accept."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from tmuad.banks.text import outvoted
from tmuad.describe.description import ImageDescription, class_order
from tmuad.describe.position import READING_ORDER, cell
from tmuad.errors import ArtifactError, DataError
from tmuad.parquet import write_artifact
from tmuad.score.sentences import Names, noun

FEWEST = 5  # normal images: with fewer, anything may hold by chance
_NORMAL = "i.kind = 'good' AND i.split IN ('train', 'validation')"


Holds = Callable[[ImageDescription], bool]


@dataclass(frozen=True)
class Rule:
    """A statement about normal images."""

    title: str
    sql: str  # the normal images that contradict it
    holds: Holds = field(compare=False, repr=False)  # the same of one image
    speaks_of: tuple[str, ...] = ()  # it says something of images that show one of these classes; () of every image
    support: int = 0  # normal images that bear it out
    of: int = 0  # normal images
    against: tuple[str, ...] = ()  # image_ids of those that contradict it

    @property
    def slug(self) -> str:
        """Name of the file it is saved in, without the unit's."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:60] or "rule"


def propose(entries: Sequence[ImageDescription], names: Names) -> tuple[list[Rule], list[Rule]]:
    """Rules that hold in every one of `entries`, the descriptions of normal images, the best supported first; and those
    that would, but for the few images that all others contradict: a slip of the segmenter, or a bad normal image.

    They speak of a class's number, of the places it is found in, of two classes in equal numbers, and of classes that come
    together or never do. A rule that follows from another one is left out.

    Raises:
        DataError: there are too few normal images to learn a rule from.
    """
    if len(entries) < FEWEST:
        raise DataError(
            f"{len(entries)} described normal images; it takes {FEWEST} to propose a rule. Add normal images"
        )
    wrong = set(outvoted(entries))
    usual = [entry for i, entry in enumerate(entries) if i not in wrong]
    classes = sorted({c for entry in usual for c in entry.by_name}, key=class_order)
    counts = {c: [_count(entry, c) for entry in usual] for c in classes}
    candidates: list[Rule] = []
    for c in classes:
        candidates += _count_rules(c, counts[c], names) + _place_rules(c, usual, names)
    for a, b in combinations(classes, 2):
        candidates += _pair_rules(a, b, counts[a], counts[b], names)
    rules = sorted((_weighed(rule, entries) for rule in candidates), key=lambda rule: -rule.support)  # stable
    return [rule for rule in rules if not rule.against], [rule for rule in rules if rule.against]


def _weighed(rule: Rule, entries: Sequence[ImageDescription]) -> Rule:
    about = [e for e in entries if not rule.speaks_of or any(c in e.by_name for c in rule.speaks_of)]
    against = tuple(e.image_id for e in about if not rule.holds(e))
    return replace(rule, support=len(about) - len(against), of=len(entries), against=against)


def _count(entry: ImageDescription, c: str) -> int:
    return entry.by_name[c].count if c in entry.by_name else 0


def save_rule(rule: Rule, unit: str, folder: Path) -> Path:
    """Write `rule` as a saved question; the file's path. An equal file stays, another one of this name is not touched.

    Raises:
        ArtifactError: the folder cannot be written, or holds another question of this name.
    """
    path = folder / f"{unit}.{rule.slug}.sql"
    text = (
        f"-- title: {_yaml(rule.title)}\n-- unit: {_yaml(unit)}\n-- expect: no rows\n"
        f"-- support: {rule.support} of {rule.of} normal images when it was accepted\n{rule.sql}\n"
    )
    if path.exists() and _query(path.read_text(encoding="utf-8")) != _query(text):
        raise ArtifactError(f"{path}: holds another question; rename or remove it")
    if not path.exists():
        write_artifact(path, text.encode())
    return path


def _count_rules(c: str, counts: Sequence[int], names: Names) -> list[Rule]:
    seen = sorted(set(counts))
    low, high = seen[0], seen[-1]
    if low == high:
        title, condition = f"exactly {low} {noun(c, low, names)}", f"IS DISTINCT FROM {low}"
    elif len(seen) <= 3:
        title = f"{' or '.join(map(str, seen))} {noun(c, high, names)}"
        condition = f"NOT IN ({', '.join(map(str, seen))})"
    else:
        title, condition = f"{low} to {high} {noun(c, high, names)}", f"NOT BETWEEN {low} AND {high}"
    allowed = set(seen) if len(seen) <= 3 else set(range(low, high + 1))
    return [Rule(f"every normal image shows {title}", _count_query(c, condition), lambda e: _count(e, c) in allowed)]


def _place_rules(c: str, entries: Sequence[ImageDescription], names: Names) -> list[Rule]:
    places = {cell(o.x, o.y) for entry in entries if c in entry.by_name for o in entry.by_name[c].objects}
    if len(places) > 4:  # says little
        return []
    ordered = sorted(places, key=READING_ORDER.__getitem__)
    title = f"in normal images, {noun(c, 2, names)} are found nowhere but at: {', '.join(ordered)}"
    listed = ", ".join(f"'{place}'" for place in ordered)
    sql = (
        "SELECT i.unit, i.image_id, i.path, list(DISTINCT o.position) AS found\n"
        "FROM objects o JOIN images i USING (unit, image_id)\n"
        f"WHERE {_NORMAL} AND o.object_class = {_text(c)}\n  AND o.position NOT IN ({listed})\nGROUP BY ALL\nORDER BY i.path"
    )

    def holds(e: ImageDescription) -> bool:
        return c not in e.by_name or all(cell(o.x, o.y) in places for o in e.by_name[c].objects)

    return [Rule(title, sql, holds, (c,))]


def _pair_rules(a: str, b: str, first: Sequence[int], second: Sequence[int], names: Names) -> list[Rule]:
    pairs = list(zip(first, second, strict=True))
    if len(set(first)) == 1 or len(set(second)) == 1:  # follows from the count of one of them
        return []
    several = f"{noun(a, 2, names)} and {noun(b, 2, names)}"
    if all(x == y for x, y in pairs):
        title, wrong = f"every normal image shows as many {noun(a, 2, names)} as {noun(b, 2, names)}", "first <> second"
        return [Rule(title, _pair_query(a, b, wrong), lambda e: _count(e, a) == _count(e, b))]
    if all(bool(x) != bool(y) for x, y in pairs):
        title, wrong = (
            f"every normal image shows either {several.replace(' and ', ' or ')}",
            "(first > 0) = (second > 0)",
        )
        return [Rule(title, _pair_query(a, b, wrong), lambda e: bool(_count(e, a)) != bool(_count(e, b)))]
    if not any(x and y for x, y in pairs):
        title, wrong = f"no normal image shows both {several}", "first > 0 AND second > 0"
        return [Rule(title, _pair_query(a, b, wrong), lambda e: not (_count(e, a) and _count(e, b)), (a, b))]
    if all(bool(x) == bool(y) for x, y in pairs):
        title, wrong = f"in normal images, {several} come together or not at all", "(first > 0) <> (second > 0)"
        return [Rule(title, _pair_query(a, b, wrong), lambda e: bool(_count(e, a)) == bool(_count(e, b)), (a, b))]
    return []


def _count_query(c: str, condition: str) -> str:
    return (
        'SELECT i.unit, i.image_id, i.path, coalesce(d."count", 0) AS found\n'
        f"FROM images i LEFT JOIN descriptions d ON (d.unit, d.image_id) = (i.unit, i.image_id)\n"
        f'  AND d.object_class = {_text(c)}\nWHERE {_NORMAL} AND coalesce(d."count", 0) {condition}\nORDER BY i.path'
    )


def _pair_query(a: str, b: str, condition: str) -> str:
    counts = [f'coalesce(sum("count") FILTER (object_class = {_text(c)}), 0)' for c in (a, b)]
    return (
        f"SELECT i.unit, i.image_id, i.path,\n  {counts[0]} AS first,\n  {counts[1]} AS second\n"
        f"FROM images i JOIN descriptions d USING (unit, image_id)\nWHERE {_NORMAL}\nGROUP BY ALL\n"
        f"HAVING {condition}\nORDER BY i.path"
    )


def _text(value: str) -> str:
    """`value` as an SQL literal."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def _yaml(value: str) -> str:
    return value if re.fullmatch(r"[\w][\w .,()/-]*", value) else json.dumps(value, ensure_ascii=False)


def _query(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))
