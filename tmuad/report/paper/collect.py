"""Everything that the tables, the figures and the page are made of, read once."""

from collections.abc import Mapping
from dataclasses import dataclass

from tmuad.ablate.variants import VARIANTS, Variant, load_variants, selected
from tmuad.config import Params
from tmuad.errors import ParameterError
from tmuad.report.paper.claims import Judged, judge_claims
from tmuad.report.paper.layout import Line, lines_of
from tmuad.report.paper.reference import FOLDER, Reference, load_references
from tmuad.report.paper.scopes import Scope, Scopes
from tmuad.report.paper.sources import Sources
from tmuad.report.tables import load_results
from tmuad.workspace import shipped


@dataclass(frozen=True)
class Paper:
    """The paper's tables and what the units at hand put beside them."""

    references: Mapping[int, Reference]
    lines: Mapping[int, list[Line]]
    claims: list[Judged]
    sources: Sources
    scopes: Scopes

    @property
    def hand(self) -> list[Scope]:
        return self.scopes.at_hand()


def collect(params: Params) -> Paper:
    """See `Paper`.

    Raises:
        ParameterError: a variant stands for a row that its table has not.
        ArtifactError: a result or a reference table is damaged.
    """
    references, variants = load_references(shipped(FOLDER)), load_variants(shipped(VARIANTS))
    check_places(variants, references)
    sources = Sources(params, {r.unit: r for r in load_results(params.units)}, selected(variants, params))
    scopes = Scopes(params)
    lines = {number: lines_of(reference, sources, scopes) for number, reference in references.items()}
    claims = [judged for scope in scopes.at_hand() for judged in judge_claims(scope, sources)]
    claims += judge_claims(loco, sources) if (loco := scopes.dataset("mvtec_loco")).units else []
    return Paper(references, lines, claims, sources, scopes)


def check_places(variants: Mapping[str, Variant], references: Mapping[int, Reference]) -> None:
    """Raises ParameterError for a variant whose `as` is no row or column of its table."""
    from difflib import get_close_matches

    for name, variant in variants.items():
        if variant.shown_as is None:
            continue
        if variant.table is None:
            raise ParameterError(
                f"variants.yaml: variant '{name}': `as` needs `table`, the number of the paper's table"
            )
        known = references[variant.table].names()
        if variant.shown_as not in known:
            near = get_close_matches(variant.shown_as, known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise ParameterError(
                f"variants.yaml: variant '{name}': as: table {variant.table} has no row or column "
                f"'{variant.shown_as}'{hint}; it has: {'; '.join(known)}"
            )
