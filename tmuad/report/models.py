"""The foundation models behind the results, with the digests of their weights: a number means little without them."""

from tmuad.config import Params
from tmuad.models.slots import model_slots
from tmuad.weights import digest


def models_markdown(params: Params) -> str:
    """A table of the models in use; empty where there is none."""
    slots = model_slots(params)
    if not slots:
        return ""
    lines = [
        "",
        f"## Models of the profile {params.profile}",
        "",
        "| slot | model | weights | digest |",
        "|---|---|---|---|",
    ]
    for slot in slots:
        mark = digest(slot.weights, params.compute)
        lines.append(f"| {slot.name} | {slot.kind} {slot.model} | {slot.weights} | {mark[:16]} |")
    return "\n".join([*lines, ""])
