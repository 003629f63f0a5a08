"""The foundation models behind the results, with the digests of their weights: a number means little without them."""

from collections.abc import Sequence

from tmuad.config import Params
from tmuad.models.slots import model_slots
from tmuad.weights import digest

COLUMNS = ("slot", "model", "weights", "digest")
SHOWN = 16  # hex digits of a digest

Row = tuple[str, str, str, str]


def models_in_use(params: Params) -> list[Row]:
    """One row of COLUMNS per slot and weight file; none in the embedded profile, whose models are learnt from the data."""
    return [
        (slot.name, f"{slot.kind} {slot.model}", name, digest(name, params.compute)[:SHOWN])
        for slot in model_slots(params)
        for name in (slot.weights, *slot.files)
    ]


def models_title(params: Params) -> str:
    return f"Models of the profile {params.profile}"


def models_markdown(title: str, rows: Sequence[Row]) -> str:
    """A table of the models in use; empty where there is none."""
    if not rows:
        return ""
    lines = ["", f"## {title}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])
