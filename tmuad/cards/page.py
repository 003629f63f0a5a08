"""A card as one HTML file that holds its pictures: it works from disk, offline, and can be sent by mail."""

import base64
from html import escape

from tmuad.cards.card import Card
from tmuad.cards.pictures import CardPictures, colour_of

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --paper: #f6f6f3; --card: #fff; --ink: #1c2026; --faint: #69717b; --line: #e2e3de;
  --good: #1a7f50; --bad: #c43428; --tint: #fdf0ee; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --card: #1d2126; --ink: #e6e8ea; --faint: #98a1ab;
  --line: #31373e; --good: #5fc795; --bad: #f08a7d; --tint: #3a2523; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 0.2rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1.8rem 0 0.6rem; }
.verdict { display: inline-block; padding: 0.1rem 0.7rem; border-radius: 999px; color: #fff; font-weight: 600; }
.good { background: var(--good); } .anomalous { background: var(--bad); }
@media (prefers-color-scheme: dark) { .verdict { color: #14171a; } }
.faint { color: var(--faint); font-size: 0.92rem; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.9rem; margin-top: 1.2rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; } figcaption { padding: 0.5rem 0.7rem; font-size: 0.9rem; }
ol { margin: 0; padding: 0; list-style: none; } li { margin: 0.35rem 0; display: flex; gap: 0.6rem; }
li b { flex: none; width: 1.45rem; height: 1.45rem; border-radius: 4px; text-align: center; color: #141414; }
.share { display: grid; grid-template-columns: 5rem 3rem 1fr; gap: 0.6rem; align-items: center; max-width: 34rem; }
.share div { background: var(--line); border-radius: 4px; height: 0.7rem; overflow: hidden; }
.share div div { background: #4a7fb5; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.94rem; min-width: 36rem; }
th, td { padding: 0.3rem 0.8rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 500; } td:first-child { font-weight: 600; white-space: nowrap; }
td:nth-child(2) { white-space: nowrap; } tr.outside td { background: var(--tint); }
tr.outside td:nth-child(3) { color: var(--bad); font-weight: 600; }
"""


def card_page(card: Card, pictures: CardPictures) -> str:
    """The whole page. Whatever comes from the data is escaped."""
    threshold = "no threshold" if card.threshold is None else f"threshold {card.threshold:.2f}"
    notes = "".join(f"<p class=faint>{escape(note)}</p>\n" for note in card.notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(card.verdict)}: {escape(card.image)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1><span class='verdict {escape(card.verdict)}'>{escape(card.verdict)}</span> {escape(card.image)}</h1>\n"
        f"<div class=faint>{escape(card.unit)} · score {card.score:.2f}, {threshold} · a normal image scores this high with "
        f"p = {card.p_value:.3g} ({card.normals} held out) · {card.image_id[:12]}</div>\n"
        f"{notes}{_pictures(card, pictures)}{_reasons(card)}{_shares(card)}{_fields(card)}</body>\n</html>\n"
    )


def _pictures(card: Card, pictures: CardPictures) -> str:
    text = f"nearest by text: {card.nearest_by_text.path}" if card.nearest_by_text else ""
    patch = f"nearest by patch: {card.nearest_by_patch.path}" if card.nearest_by_patch else ""
    shown = (
        (pictures.marked, "the image, with the regions of its reasons"),
        (pictures.heat, "anomaly map; outlined above the threshold"),
        (pictures.nearest_by_text, text),
        (pictures.nearest_by_patch, patch),
    )
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(content).decode()}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        for content, caption in shown
        if content is not None
    ]
    return f"<div class=pictures>\n{''.join(figures)}</div>\n"


def _reasons(card: Card) -> str:
    if not card.reasons:
        words = "The banks together exceed the threshold." if card.verdict == "anomalous" else "Nothing was found."
        return f"<h2>Reasons</h2>\n<p>{words}</p>\n"
    items = "".join(
        f"<li><b style='background:rgb{colour_of(number)}'>{number}</b><span>{escape(reason.sentence)}</span></li>\n"
        for number, reason in enumerate(card.reasons, start=1)
    )
    title = "Reasons" if card.verdict == "anomalous" else "Remarked, yet below the threshold"
    return f"<h2>{title}</h2>\n<ol>\n{items}</ol>\n"


def _shares(card: Card) -> str:
    rows = "".join(
        f"<div class=share><span>{escape(bank)}</span><span>{share:.0%}</span>"
        f"<div><div style='width:{100 * share:.1f}%;height:100%'></div></div></div>\n"
        for bank, share in card.shares.items()
    )
    return f"<h2>Each bank's share of the score</h2>\n{rows}"


def _fields(card: Card) -> str:
    heads = "".join(f"<th scope=col>{name}</th>" for name in ("class", "field", "found", "normal", "nearest by text"))
    lines = []
    previous = ""
    for field in card.fields:
        name = field.name if field.object_class != previous else ""
        previous = field.object_class
        cells = (name, field.field, field.found, field.normal, field.nearest)
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr{' class=outside' if field.outside else ''}>{row}</tr>\n")
    if not lines:
        return ""
    return (
        "<h2>Against the normal images, field by field</h2>\n<div class=scroll><table><thead><tr>"
        f"{heads}</tr></thead><tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )
