"""The threshold report as text for a terminal."""

import math
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tmuad.evaluate.threshold import CONFIDENCE, Promise, Thresholds, percent


def threshold_text(found: Thresholds, width: int = 100) -> str:
    """A table for the rate asked for, per bank, one for other rates, and what cannot be promised in words."""
    stream = StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    whole = found.promises[0]
    normals = f"{whole.normals} held-out normal image{'' if whole.normals == 1 else 's'}"
    console.print(f"{found.unit}: at most {percent(found.asked)} % false alarms, from {normals}", soft_wrap=True)
    if whole.warning:
        console.print(f"NOT POSSIBLE: {whole.warning}", soft_wrap=True)
    console.print(_table("bank", [(p.bank, p) for p in found.promises]))
    for p in found.promises:
        if p.broken:
            console.print(
                f"{p.bank}: more false alarms than promised and chance explain: the test images are unlike the held-out ones.",
                soft_wrap=True,
            )
    console.print("All banks together, at other rates:")
    console.print(_table("asked", [(f"{percent(p.asked)} %", p) for p in found.others]))
    console.print(f"Rates in per cent, in brackets their {CONFIDENCE:.0%} intervals.")
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _table(heading: str, rows: list[tuple[str, Promise]]) -> Table:
    kinds = sorted({kind for _, p in rows for kind in p.found})
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column(heading)
    for name in ("threshold", "promised", "observed", *(f"{kind}\nfound" for kind in kinds)):
        table.add_column(name, justify="right", no_wrap=True)
    for name, p in rows:
        threshold = f"{p.threshold:.4g}" if math.isfinite(p.threshold) else "none"
        observed = f"{_with(p.observed, p.observed_interval)} of {p.good}" if p.good else "–"
        found = (percent(p.found.get(kind)) for kind in kinds)
        table.add_row(name, threshold, _with(p.promised, p.promised_interval), observed, *found)
    return table


def _with(rate: float | None, interval: tuple[float, float] | None) -> str:
    between = f" ({percent(interval[0])} to {percent(interval[1])})" if interval else ""
    return percent(rate) + between
