"""Which units a row of the paper's tables is about: the categories of a data set, or the units at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tmuad.config import Params
from tmuad.data.catalog import DatasetEntry, load_dataset
from tmuad.models.slots import model_slots, weight_names

TITLES = {
    "MVTec LOCO": "mvtec_loco", "MVTec AD": "mvtec_ad", "VisA": "visa", "MPDD": "mpdd",
    "BrainMRI": "brainmri", "RESC": "resc", "LiverCT": "liverct",
}  # fmt: skip
LOCO = "mvtec_loco"


@dataclass(frozen=True)
class Scope:
    """The units that one number is the mean of."""

    name: str  # of the data set, as units begin
    units: tuple[str, ...]  # at hand
    needs: str = ""  # what is lacking, where not all of the data set is there
    paper: bool = False  # whether the paper's numbers are of these very images


class Scopes:
    """The data sets of the paper, and the groups of units that belong to none of them."""

    def __init__(self, params: Params) -> None:
        self.params = params

    @cached_property
    def entries(self) -> dict[str, DatasetEntry]:
        """The paper's data sets in the catalogue, by name; read once."""
        return {name: load_dataset(name) for name in TITLES.values()}

    def dataset(self, name: str) -> Scope:
        """All categories of one of the paper's data sets."""
        entry = self.entries[name]
        found = {category: self._unit(name, category) for category in entry.categories}
        missing = [f"{name}.{category}" for category, unit in found.items() if unit is None]
        units = tuple(unit for unit in found.values() if unit is not None)
        return Scope(name, units, self._needs(entry.name, missing, len(found)), paper=True)

    def category(self, name: str, category: str) -> Scope:
        """One category of one of the paper's data sets."""
        unit = self._unit(name, category)
        if unit is None:
            return Scope(name, (), self._needs(self.entries[name].name, [f"{name}.{category}"], 0), paper=True)
        return Scope(name, (unit,), paper=True)

    def at_hand(self) -> list[Scope]:
        """The units that are of no data set of the paper, grouped by what stands before their names' dot."""
        groups: dict[str, list[str]] = {}
        for unit in self.params.units:
            if unit.partition(".")[0] not in self.entries:
                groups.setdefault(unit.partition(".")[0], []).append(unit)
        return [Scope(name, tuple(units)) for name, units in groups.items()]

    def _unit(self, dataset: str, category: str) -> str | None:
        entry = self.entries[dataset]
        for unit in self.params.units:
            prefix, _, folder = unit.partition(".")
            if prefix == dataset and entry.category_of(folder or category) == category:
                return unit
        return None

    def _needs(self, title: str, missing: Sequence[str], total: int) -> str:
        if not missing:
            return ""
        named = f"units {missing[0]} to {missing[-1].partition('.')[2]}" if len(missing) > 1 else f"unit {missing[0]}"
        share = "" if len(missing) in (1, total) else f" ({len(missing)} of {total} categories)"
        return f"data set {title} ({named}){share}"


def recipe(params: Params, unified: bool) -> str:
    """The profile and the weights that fill a cell of TMUAD as the paper ran it."""
    profile = "tmuad-u-b" if unified else "tmuad-i-b"
    names = weight_names(model_slots(params)) if params.profile == profile else []
    listed = f" ({', '.join(names)})" if names else f" (`tmuad weights list --profile {profile}`)"
    return f"profile {profile} with its weights{listed}"
