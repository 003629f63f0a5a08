"""What stands in which cell: for each of the paper's tables, where our number comes from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tmuad.evaluate.cells import Key
from tmuad.report.paper.reference import Reference
from tmuad.report.paper.scopes import LOCO, TITLES, Scope, Scopes, recipe
from tmuad.report.paper.sources import Found, Sources, first_of, mean_of, range_of

TABLE_TITLES = {
    1: "Unified anomaly detection on MVTec LOCO, image AUROC",
    2: "Industrial and medical data sets, image AUROC",
    3: "Industrial and medical data sets, pixel AUROC",
    4: "Logical and structural anomalies on MVTec LOCO, image AUROC",
    5: "Combinations of the memory banks on MVTec LOCO, AUROC",
    6: "Constructions of the text bank on MVTec LOCO, image AUROC of M_T alone",
    7: "The text bank as a plug-in on MVTec LOCO, image AUROC",
    8: "The object bank on MVTec LOCO, image AUROC of M_O alone",
    9: "The patch bank, image AUROC of M_P alone",
    10: "Four normal images on MVTec LOCO, image AUROC",
    11: "Resources and performance on MVTec LOCO",
}
ALL: Key = ("image", "auroc")
LOGICAL: Key = ("image", "auroc_logical")
SECONDS = tuple(f"seconds {s}" for s in ("read", "segment", "encode", "describe", "text bank", "object bank", "fuse"))
# Rows of Table V -> where the unit's own evaluation has them.
BANKS: dict[str, Key] = {
    "M_T": ("banks", "text"),
    "M_O": ("banks", "objects"),
    "M_P": ("banks", "patches"),
    "M_O + M_P": ("banks", "objects+patches"),
    "M_T + M_O + M_P": (),
}
UNIT = {"AUROC": "%", "inference time (s)": "s", "parameters (M)": "M"}


@dataclass(frozen=True)
class Line:
    """One cell of ours: where it stands, the paper's number, and our own."""

    table: int
    scope: Scope
    row: str
    column: str
    paper: float | None
    ours: Found
    about: str = ""  # what the row or column stands for with the profile in force
    unit: str = "%"  # of the numbers: AUROC in per cent; s, M
    extra: bool = False  # a row that the paper has not
    measured: bool = False  # a number that is another one in each run

    @property
    def gap(self) -> float | None:
        """Ours less the paper's, in the unit of the numbers; None where they are of other images."""
        value = self.printed
        return None if not self.scope.paper or value is None or self.paper is None else value - self.paper

    @property
    def printed(self) -> float | None:
        """Our number in the paper's unit."""
        value = self.ours.value
        return None if value is None else value * (100 if self.unit == "%" else 1e-6 if self.unit == "M" else 1)


def lines_of(reference: Reference, sources: Sources, scopes: Scopes) -> list[Line]:
    """All our cells of one table: first those beside the paper's own, then those of the units at hand."""
    make = _TABLES[reference.number]
    own = list(make(reference, sources, scopes, None))
    hand = [line for scope in scopes.at_hand() for line in make(reference, sources, scopes, scope)]
    return own + hand


Make = Callable[[Reference, Sources, Scopes, "Scope | None"], Iterator[Line]]


def _over(scope: Scope, source: Callable[[str], Found]) -> Found:
    if scope.needs or not scope.units:
        return Found(needs=scope.needs or "a unit")
    return mean_of([source(unit) for unit in scope.units])


def _trained(sources: Sources, column: str) -> str:
    """Why the fit in force fills no cell of this column; empty if it does. "-U": one classifier for all data sets."""
    unified = getattr(sources.params.finetune, "scope", "unit") == "unified"
    if column == "TMUAD-U" and not unified:
        return recipe(sources.params, True) + "; here each unit has a classifier of its own"
    return (
        recipe(sources.params, False) + "; here all units share one classifier"
        if column == "TMUAD-I" and unified
        else ""
    )


def _needing(found: Found, more: str) -> Found:
    """`found` not run for a further reason."""
    return Found(needs="; ".join(part for part in (found.needs, more) if part)) if more else found


def _ours(scope: Scope, sources: Sources, column: str, key: Key) -> Found:
    """A figure of the fit in force, under the column of its kind of classifier."""
    found = _over(scope, lambda unit: sources.metric(unit, key))
    why = _trained(sources, column)
    if not why and found.cell is None and scope.paper:
        return found
    return _needing(found, why)


def _plug(scope: Scope, sources: Sources, method: str, side: str, level: str = "image", kind: str = "all") -> Found:
    return _over(scope, lambda unit: sources.plugged(unit, method, side, level, kind))


def _table_1(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    rows = [(row, scopes.category(LOCO, row.lower().replace(" ", "_"))) for row in list(reference.rows)[:5]]
    if hand:
        rows = [(unit, replace(hand, units=(unit,))) for unit in hand.units]
    whole = hand or scopes.dataset(LOCO)

    def cell(scope: Scope, column: str) -> Found:
        return _plug(scope, sources, "pbas", "with") if column == "PBAS+M_T" else _ours(scope, sources, column, ALL)

    for column in ("TMUAD-U", "TMUAD-I", "PBAS+M_T"):
        found = [cell(scope, column) for _, scope in rows]
        for (row, scope), one in zip(rows, found, strict=True):
            yield Line(1, scope, row, column, None if hand else reference.value(row, column), one)
        for row, joined in (("ΔAUROC", range_of(found)), ("Average", mean_of(found))):
            needs = cell(whole, column)
            ours = joined if joined.cell else needs
            yield Line(1, whole, row, column, None if hand else reference.value(row, column), ours)


def _datasets(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    level = "image" if reference.number == 2 else "pixel"
    rows = [(hand.name, hand)] if hand else [(row, scopes.dataset(TITLES[row])) for row in reference.rows]
    for row, scope in rows:
        for column in ("TMUAD-U", "TMUAD-I", "PBAS+M_T", "PBAS"):
            if column.startswith("TMUAD"):
                ours = _ours(scope, sources, column, (level, "auroc"))
            else:
                ours = _plug(scope, sources, "pbas", "with" if column == "PBAS+M_T" else "without", level)
            yield Line(reference.number, scope, row, column, None if hand else reference.value(row, column), ours)


def _table_4(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    scope = hand or scopes.dataset(LOCO)
    kinds = {"Logical": "auroc_logical", "Structural": "auroc_structural", "Average": "average"}
    for column, name in kinds.items():
        key = ("image", name)
        found = _over(scope, lambda unit, key=key: sources.metric(unit, key))  # type: ignore[misc]
        yield Line(4, scope, "Ours", column, reference.value("Ours", column), found)
        for method in ("PBAS", "UniVAD"):
            ours = _plug(scope, sources, method.lower(), "without", "image", column.lower())
            yield Line(4, scope, method, column, reference.value(method, column), ours)


def _table_5(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    scope = hand or scopes.dataset(LOCO)
    names = {"structural": "auroc_structural", "logical": "auroc_logical", "average": "average"}
    for row, place in BANKS.items():
        variant = sources.as_row(5, row)
        for column in reference.columns:
            kind, level = column.split()
            key = (level, names[kind])

            def found(unit: str, place: Key = place, key: Key = key, variant: str = variant) -> Found:
                return first_of(sources.metric(unit, (*place, *key)), sources.variant(unit, variant, key))

            about = _about(sources, variant)
            yield Line(5, scope, row, column, reference.value(row, column), _over(scope, found), about)
    for name in sources.beside(5):
        for column in reference.columns:
            kind, level = column.split()
            yield _extra(5, scope, sources, name, column, (level, names[kind]))


def _rows(key: Key, column: str) -> Make:
    """A table whose rows are variants, with one column of ours."""

    def make(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
        number, scope = reference.number, hand or scopes.dataset(LOCO)
        for row in reference.rows:
            yield _of_variant(number, scope, sources, row, column, reference.value(row, column), row, key)
        for name in sources.beside(number):
            yield _extra(number, scope, sources, name, column, key)

    return make


def _table_7(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    scope = hand or scopes.dataset(LOCO)
    cells = (("UniVAD", "AUROC", "without"), ("UniVAD + M_T", "AUROC", "with"), ("UniVAD + M_T", "gain", "difference"))
    for row, column, side in cells:
        yield Line(7, scope, row, column, reference.value(row, column), _plug(scope, sources, "univad", side))
    for method in plugged_methods(scope.units, sources):
        if method != "univad":
            for row, side in ((method, "without"), (f"{method} + M_T", "with")):
                yield Line(7, scope, row, "AUROC", None, _plug(scope, sources, method, side), extra=True)
            gain = _plug(scope, sources, method, "difference")
            yield Line(7, scope, f"{method} + M_T", "gain", None, gain, extra=True)


def plugged_methods(units: Sequence[str], sources: Sources) -> list[str]:
    """Detectors that were plugged into every one of `units`."""
    folders = [{p.stem for p in (sources.plug_folder / unit).glob("*.json")} for unit in units]
    return sorted(set.intersection(*folders)) if folders else []


def _table_9(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    rows = [(hand.name, hand)] if hand else [(row, scopes.dataset(TITLES[row])) for row in reference.rows]
    for row, scope in rows:
        for column in reference.columns:
            paper = None if hand else reference.value(row, column)
            yield _of_variant(9, scope, sources, row, column, paper, column, ALL)
        for name in sources.beside(9):
            yield replace(_extra(9, scope, sources, name, name, ALL), row=row, column=name)


def _table_10(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    scope = hand or scopes.dataset(LOCO)
    for column in ("Ours, strict", "Ours, relaxed"):
        paper = reference.value("AUROC", column)
        line = _of_variant(10, scope, sources, "AUROC", column, paper, column, ALL)
        yield replace(line, about="; ".join([line.about, *_runs(sources, scope, sources.as_row(10, column))]))


def _runs(sources: Sources, scope: Scope, name: str) -> list[str]:
    """How far the single runs lie apart, unit by unit."""
    told = []
    for unit in scope.units if not scope.needs else ():
        outcome = sources.outcome(unit, name)
        if not isinstance(outcome, str) and "runs" in outcome.measured:
            m = outcome.measured
            told.append(f"{unit}: {m['runs']:.0f} draws, {100 * m['lowest']:.1f} to {100 * m['highest']:.1f}")
    return told


def _table_11(reference: Reference, sources: Sources, scopes: Scopes, hand: Scope | None) -> Iterator[Line]:
    scope = hand or scopes.dataset(LOCO)
    for row in ("TMUAD-U-L", "TMUAD-U-B (Ours)", "TMUAD-U-S"):
        name = sources.as_row(11, row)

        def time(unit: str, name: str = name) -> Found:
            rest = sources.measured(unit, "cost", SECONDS)
            compare = sources.measured(unit, name, ["seconds compare"])
            if compare.cell is None:  # the fit in force: no bank was fitted anew
                compare = first_of(sources.measured(unit, "cost", ["seconds patch bank"]), compare)
            return _sum(rest, compare)

        def size(unit: str) -> Found:
            return sources.measured(unit, "cost", ["numbers"])

        def auroc(unit: str, name: str = name) -> Found:
            return sources.variant(unit, name, ALL)

        for column, source in (("inference time (s)", time), ("parameters (M)", size), ("AUROC", auroc)):
            paper = reference.value(row, column)
            ours = _over(scope, source) if name else Found(needs=_no_variant(sources, row))
            measured = column.startswith("inference")
            yield Line(11, scope, row, column, paper, ours, _about(sources, name), UNIT[column], measured=measured)
    for row, why in (
        ("TMUAD-U-B (3 GPUs)", "three GPUs: this version runs a unit on one"),
        ("TMUAD-I-B", recipe(sources.params, False)),
    ):
        for column in reference.columns:
            found = Found(needs="; ".join(part for part in (scope.needs, why) if part))
            if row == "TMUAD-I-B" and column == "AUROC" and not _trained(sources, "TMUAD-I"):
                found = _over(scope, lambda unit: sources.metric(unit, ALL))
            yield Line(11, scope, row, column, reference.value(row, column), found, unit=UNIT[column])
    ours = _plug(scope, sources, "pbas", "with")
    yield Line(11, scope, "PBAS-I-B", "AUROC", reference.value("PBAS-I-B", "AUROC"), ours)


def _sum(a: Found, b: Found) -> Found:
    if a.cell is None or b.cell is None:
        return a if a.cell is None else b
    return Found(replace(a.cell, value=a.cell.value + b.cell.value), b.origin)


def _about(sources: Sources, name: str) -> str:
    return sources.variants[name].about if name in sources.variants else ""


def _no_variant(sources: Sources, row: str) -> str:
    return f"a variant `as: {row}` in variants.yaml for the profile {sources.params.profile}"


def _of_variant(
    table: int, scope: Scope, sources: Sources, row: str, column: str, paper: float | None, name: str, key: Key
) -> Line:
    variant = sources.as_row(table, name)
    if not variant:
        more = _no_variant(sources, name)
        return Line(table, scope, row, column, paper, Found(needs="; ".join(x for x in (scope.needs, more) if x)))
    found = _over(scope, lambda unit: sources.variant(unit, variant, key))
    return Line(table, scope, row, column, paper, found, _about(sources, variant))


def _extra(table: int, scope: Scope, sources: Sources, name: str, column: str, key: Key) -> Line:
    found = _over(scope, lambda unit: sources.variant(unit, name, key))
    return Line(table, scope, name, column, None, found, _about(sources, name), extra=True)


_TABLES: dict[int, Make] = {
    1: _table_1,
    2: _datasets,
    3: _datasets,
    4: _table_4,
    5: _table_5,
    6: _rows(LOGICAL, "only M_T"),
    7: _table_7,
    8: _rows(ALL, "only M_O"),
    9: _table_9,
    10: _table_10,
    11: _table_11,
}
