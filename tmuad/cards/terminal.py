"""A card as text for a terminal."""

from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tmuad.cards.card import Card
from tmuad.warehouse.export import printable

_BAR = 24  # characters: full width of a share


def card_text(card: Card, colour: bool = False, width: int = 100) -> str:
    """The card in words. With `colour`, escape sequences set the verdict and what lies outside the normal range off."""
    stream = StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False
    )
    bad = card.verdict == "anomalous"
    threshold = "no threshold" if card.threshold is None else f"threshold {card.threshold:.2f}"
    title = f"[bold {'red' if bad else 'green'}]{card.verdict.upper()}[/]  {_safe(card.image)}  ({_safe(card.unit)})"
    console.print(title, soft_wrap=True)
    rare = f"a normal image scores this high with p = {card.p_value:.3g} ({card.normals} held out)"
    console.print(f"score {card.score:.2f}, {threshold}; {rare}")
    if card.reasons:
        console.print()
        for number, reason in enumerate(card.reasons, start=1):
            console.print(f"  {number}. {_safe(reason.sentence)}")
        if not bad:
            console.print("  [dim]Remarked, yet below the threshold.[/]")
    elif bad:
        console.print("\n  No single reason: the banks together exceed the threshold.")
    console.print()
    for bank, share in card.shares.items():
        bar = "█" * round(share * _BAR)
        console.print(f"  {bank:8} {share:4.0%} {bar:{_BAR}} own maximum {card.maxima[bank]:.3g}")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("class", "field", "found", "normal", "nearest by text"):
        table.add_column(heading, overflow="fold")
    previous = ""
    for field in card.fields:
        style = "red" if field.outside else ""
        mark = "  <- outside" if field.outside else ""
        name = _safe(field.name) if field.object_class != previous else ""
        table.add_row(
            name, field.field, f"{_safe(field.found)}{mark}", _safe(field.normal), _safe(field.nearest), style=style
        )
        previous = field.object_class
    if card.fields:
        console.print(table)
    for label, neighbour in (("text", card.nearest_by_text), ("patch", card.nearest_by_patch)):
        if neighbour:
            console.print(f"nearest by {label + ':':7}{_safe(neighbour.path)}: {_safe(neighbour.says)}")
    for note in card.notes:
        console.print(f"[dim]{_safe(note)}[/]", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _safe(text: str) -> str:
    return escape(printable(text))
