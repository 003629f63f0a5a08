"""Where our numbers come from: the units' own metrics, the ablations, and detectors that the text bank was plugged into."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tmuad.ablate.store import Outcome, inputs_of, is_current, parameters_digest, read_results
from tmuad.ablate.variants import Variant
from tmuad.config import Params
from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Cell, Key
from tmuad.models.slots import weight_digests
from tmuad.report.tables import UnitResult
from tmuad.workspace import REPORTS

PLUG = REPORTS / "plug"
NO_DRAWS = np.full(1, np.nan)


@dataclass(frozen=True)
class Origin:
    """What a number was made with."""

    units: tuple[str, ...]
    profile: str
    parameters: str  # digest
    weights: tuple[tuple[str, str], ...] = ()  # model weights by name, with digests

    def text(self) -> str:
        weights = ", ".join(f"{name} {digest[:12]}" for name, digest in self.weights) or "none"
        return f"{', '.join(self.units)}; profile {self.profile}; parameters {self.parameters}; weights: {weights}"


@dataclass(frozen=True)
class Found:
    """A number of ours with its replicates, or why there is none."""

    cell: Cell | None = None
    origin: Origin | None = None
    needs: str = ""  # what it takes, where there is no number

    @property
    def value(self) -> float | None:
        return None if self.cell is None or np.isnan(self.cell.value) else self.cell.value


@dataclass(frozen=True)
class Sources:
    """Everything that the units at hand have to say."""

    params: Params
    results: Mapping[str, UnitResult]
    variants: Mapping[str, Variant]  # those of the profile in force
    plug_folder: Path = PLUG
    _memory: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def weights(self) -> tuple[tuple[str, str], ...]:
        found = {name: digest for group in weight_digests(self.params).values() for name, digest in group.items()}
        return tuple(sorted(found.items()))

    @cached_property
    def parameters(self) -> str:
        return parameters_digest(self.params)

    def origin(self, *units: str) -> Origin:
        """Of numbers with the parameters in force."""
        return Origin(units, self.params.profile, self.parameters, self.weights)

    def metric(self, unit: str, key: Key) -> Found:
        """A figure of metrics.json."""
        result = self.results.get(unit)
        if result is None or result.metrics is None:
            return Found(needs=f"`dvc repro evaluate@{unit}`")
        value = result.figure(*key)
        if value is None:
            return Found(needs=self._absent(result, key))
        cell = result.cells.get(key) or Cell(value, NO_DRAWS)
        return Found(cell, self.origin(unit))

    def _absent(self, result: UnitResult, key: Key) -> str:
        name = ".".join(key)
        for entry in (result.metrics or {}).get("reasons") or []:
            if entry["metric"] == name:
                return f"images that the unit lacks: {entry['reason']}"
        return "a figure that the unit has not"

    def outcome(self, unit: str, name: str) -> Outcome | str:
        """A variant's outcome on `unit`, or what it needs."""
        variant = self.variants.get(name)
        if variant is None:
            return f"a variant '{name}' in variants.yaml for the profile {self.params.profile}"
        key = f"{unit}\0{variant.group}"
        if key not in self._memory:
            self._memory[key] = self._read(unit, variant.group)
        found = self._memory[key]
        if isinstance(found, str):
            return found
        return found.get(name) or "`make tables` (the variant is new)"

    def _read(self, unit: str, group: str) -> dict[str, Outcome] | str:
        results = read_results(unit, group)
        if results is None:
            return "`make tables`"
        try:
            current = results.profile == self.params.profile and is_current(results, inputs_of(unit, group))
        except ArtifactError:
            current = False
        return results.outcomes if current else "`make tables` (what was run belongs to another fit)"

    def variant(self, unit: str, name: str, key: Key) -> Found:
        """A figure of a variant."""
        outcome = self.outcome(unit, name)
        if isinstance(outcome, str):
            return Found(needs=outcome)
        cell = outcome.cells.get(key)
        if cell is None:
            return Found(needs="images that the unit lacks, or a figure that this variant has not")
        weights = tuple(sorted(outcome.weights.items()))
        return Found(cell, Origin((unit,), self.params.profile, outcome.parameters, weights))

    def measured(self, unit: str, name: str, keys: Sequence[str]) -> Found:
        """The sum of numbers that were measured while the variant ran."""
        outcome = self.outcome(unit, name)
        if isinstance(outcome, str):
            return Found(needs=outcome)
        if missing := [key for key in keys if key not in outcome.measured]:
            return Found(needs=f"a measurement of {', '.join(missing)}")
        total = sum(outcome.measured[key] for key in keys)
        weights = tuple(sorted(outcome.weights.items()))
        return Found(Cell(total, NO_DRAWS), Origin((unit,), self.params.profile, outcome.parameters, weights))

    def plugged(self, unit: str, method: str, side: str, level: str = "image", kind: str = "all") -> Found:
        """A figure of a detector with or without the text bank, as `tmuad plug --name METHOD` left it."""
        path = self.plug_folder / unit / f"{method}.json"
        needs = f"`tmuad plug --unit {unit} --name {method} --maps DIR` with maps of {method}"
        if not path.is_file():
            return Found(needs=needs)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            entry = content["figures"][level][kind][side]
            if entry is None and side == "difference":  # a single image of a kind, or no resamples
                return Found(needs="more images of the kind, and `evaluate.resamples`")
            value = entry["value" if side == "difference" else "auroc"]
            interval = tuple(entry["interval"]) if entry["interval"] else None
            digests = json.dumps(content["digests"], sort_keys=True)
            profile = str(content["profile"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}: not a comparison of `tmuad plug` ({error!r}); remove it or plug again"
            ) from None
        if value is None:
            return Found(needs="images that the unit lacks")
        digest = hashlib.sha256(digests.encode()).hexdigest()[:12]
        exact = (float(interval[0]), float(interval[1])) if interval else None
        return Found(Cell(float(value), NO_DRAWS, exact), Origin((unit,), profile, digest, self.weights))

    def as_row(self, table: int, name: str) -> str:
        """The variant that stands for a row or column of the paper's table; empty where the profile has none."""
        return next((n for n, v in self.variants.items() if v.table == table and v.shown_as == name), "")

    def beside(self, table: int) -> list[str]:
        """Variants that the table shows besides the paper's rows."""
        return [n for n, v in self.variants.items() if v.table == table and v.shown_as is None]

    def drawn(self, figure: int) -> list[str]:
        """Variants that a figure shows."""
        return [n for n, v in self.variants.items() if v.figure == figure]


def first_of(*found: Found) -> Found:
    """The first that has a number; without any, the last, whose need is the more particular."""
    return next((f for f in found if f.cell is not None), found[-1])


def mean_of(found: Sequence[Found]) -> Found:
    """The mean over units, resample by resample; what one of them needs, the mean needs."""
    return _joined(found, np.mean)


def range_of(found: Sequence[Found]) -> Found:
    """The largest less the smallest over units (Table I's ΔAUROC)."""
    return _joined(found, np.ptp)


def _joined(found: Sequence[Found], reduce: Any) -> Found:
    needs = list(dict.fromkeys(f.needs for f in found if f.cell is None))
    if needs or not found:
        return Found(needs="; ".join(needs) or "a unit")
    if len(found) == 1 and reduce is np.mean:
        return found[0]
    cells = [f.cell for f in found if f.cell is not None]
    origins = [f.origin for f in found if f.origin is not None]
    drawn = NO_DRAWS
    if len({len(cell.replicates) for cell in cells}) == 1:
        drawn = reduce(np.stack([cell.replicates for cell in cells]), axis=0)
    value = float(reduce([cell.value for cell in cells]))
    units = tuple(unit for origin in origins for unit in origin.units)
    parameters = "+".join(dict.fromkeys(origin.parameters for origin in origins))
    return Found(Cell(value, drawn), Origin(units, origins[0].profile, parameters, origins[0].weights))
