"""reports/index.html: the results as one static page that works from disk, offline and in dark mode.

Pictures lie beside the page in `panels/<unit>/`; nothing else is loaded, which the page's own policy enforces. Whatever
comes from the data (class names, file names, reasons) is escaped.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tmuad.errors import ArtifactError
from tmuad.parquet import write_artifact
from tmuad.report.markdown import percent, with_interval
from tmuad.report.models import COLUMNS, Row
from tmuad.report.panels import INDEX, SHEET, STRIP, named_kind
from tmuad.report.paper.style import STYLE
from tmuad.report.tables import (
    FIGURES,
    PROBLEM_COLUMNS,
    UnitResult,
    absent_figures,
    bank_names,
    number,
    problems_of,
    results_frame,
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1c2026; --faint: #69717b; --line: #e2e3de;
  --accent: #0b6e8f; --right: #1a7f50; --wrong: #c43428; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --card: #1d2126; --ink: #e6e8ea; --faint: #98a1ab;
  --line: #31373e; --accent: #62c1de; --right: #5fc795; --wrong: #f08a7d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0; letter-spacing: -0.02em; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.6rem; padding-top: 0.9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p, .note { max-width: 46rem; } .note, figcaption, nav { color: var(--faint); font-size: 0.92rem; }
nav a { margin-right: 1rem; } a { color: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.94rem; }
th, td { padding: 0.36rem 0.8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; } .words td { white-space: normal; }
thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; } tr.mean td { font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.7rem;
  margin: 0.8rem 0 1.2rem; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 0.8rem; }
.facts dt { color: var(--faint); font-size: 0.82rem; } .facts dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
.facts small { color: var(--faint); font-size: 0.82rem; font-weight: 400; }
figure { margin: 1rem 0 1.2rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; }
figure img { display: block; width: 100%; height: auto; } figcaption { padding: 0.6rem 0.9rem; }
figcaption b { color: var(--ink); } figcaption ul { margin: 0.3rem 0 0; padding-left: 1.2rem; color: var(--ink); }
.right { color: var(--right); } .wrong { color: var(--wrong); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 1.2rem; }
.panels figure { margin: 0; } .panels img { object-fit: cover; }
th[scope=colgroup] { text-align: center; color: var(--ink); } th[scope=colgroup] + th,
.edge { border-left: 1px solid var(--line); }
 details > summary { cursor: pointer; color: var(--accent); margin: 0.8rem 0; }
"""
_POLICY = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"
_GROUPS = (("image AUROC", 4), ("pixel AUROC", 4))


def write_page(
    reports: Path,
    results: Sequence[UnitResult],
    models: tuple[str, Sequence[Row]] = ("", ()),
    further: Sequence[str] = (),
    links: Sequence[tuple[str, str]] = (),
) -> None:
    """Write `reports`/index.html; panels are found in `reports`/panels/<unit>. `models`: title and rows of their table.

    `further` are sections of the page that come last, ready to stand in it, and `links` (anchor, name) lead to them.

    Raises:
        ArtifactError: a panels.json is there but cannot be read.
    """
    body = [_head(results, links), _summary(results)]
    body += [_unit(reports, result) for result in results if result.metrics is not None]
    body += [_problems(results), _words(escape(models[0]), COLUMNS, models[1]), *further]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>tmuad results</title>\n<style>{_STYLE}{STYLE if further else ''}</style>\n</head>\n"
        f"<body>\n{''.join(body)}</body>\n</html>\n"
    )
    write_artifact(reports / "index.html", page.encode())


def _head(results: Sequence[UnitResult], further: Sequence[tuple[str, str]]) -> str:
    ran = [r.unit for r in results if r.metrics is not None]
    places = [(_anchor(unit), unit) for unit in ran] + list(further)
    links = " ".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in places)
    count = f"<p class=note>{_plural(len(ran), 'unit')} evaluated.</p>"
    return f"<header><h1>tmuad results</h1>{count}<nav>{links}</nav></header>\n"


def _summary(results: Sequence[UnitResult]) -> str:
    frame = results_frame(results)
    if frame.empty:
        return "<p>No unit has been evaluated yet. Run <code>dvc repro</code>.</p>\n"
    spans = "".join(f"<th colspan={span} scope=colgroup>{name}</th>" for name, span in _GROUPS)
    edge = {column: " class=edge" if column == "pixel_auroc_logical" else "" for column in FIGURES}
    heads = "".join(f"<th scope=col{edge[c]}>{heading.partition(', ')[2]}</th>" for c, (heading, _) in FIGURES.items())
    lines = []
    for row in frame.to_dict("records"):
        mean = row["row"] == "mean"
        name = (
            f"mean of {escape(row['unit'])}" if mean else f'<a href="#{_anchor(row["unit"])}">{escape(row["unit"])}</a>'
        )
        cells = "".join(
            f"<td{edge[column]}>{_with_ends(row[column], (row[f'{column}_low'], row[f'{column}_high']))}</td>"
            for column in FIGURES
        )
        lines.append(f"<tr{' class=mean' if mean else ''}><td>{name}</td>{cells}</tr>\n")
    return (
        f"<h2>Results</h2>\n<div class=scroll><table><thead><tr><th rowspan=2>unit</th>{spans}</tr>\n"
        f"<tr>{heads}</tr></thead>\n<tbody>{''.join(lines)}</tbody></table></div>\n"
        "<p class=note>In per cent. <b>All</b>: normal images against every anomalous one; its mean is that of the "
        "paper's Table I. <b>Average</b>: (logical + structural) / 2, as in its Tables IV and V. In brackets: the 95 % "
        "interval by a bootstrap over the test images.</p>\n"
    )


def _unit(reports: Path, result: UnitResult) -> str:
    panels = _load_panels(reports / "panels" / result.unit / INDEX)
    folder = f"panels/{quote(result.unit)}/"
    parts = [f'<section><h2 id="{_anchor(result.unit)}">{escape(result.unit)}</h2>\n', _facts(result), _banks(result)]
    if panels:
        parts.append(
            f'<figure><img src="{folder}{SHEET}" alt="All examples of {escape(result.unit)} at a glance" loading=lazy>'
            "<figcaption>Anomaly map over the photograph. Green: ground truth. Cyan: above the threshold. "
            "A red score is a wrong verdict.</figcaption></figure>\n"
            f"<details open><summary>{_plural(len(panels), 'example')}, with reasons</summary><div class=panels>\n"
        )
        parts += [_figure(folder, panel) for panel in panels]
        parts.append("</div></details>\n")
    return "".join(parts) + "</section>\n"


def _facts(result: UnitResult) -> str:
    decision = {key: result.figure("decision", key) for key in (result.metrics or {}).get("decision") or {}}
    count = {kind: int(result.figure("counts", kind) or 0) for kind in ("good", "logical", "structural")}
    promised, observed = decision.get("false_alarm_rate_promised"), decision.get("false_alarm_rate_observed")
    facts = [
        (
            "threshold of the score",
            number(decision.get("threshold")),
            f"from {int(decision.get('normals') or 0)} normal images",
        ),
        (
            "false alarms",
            _rate(observed),
            f"{percent(promised)} % promised; {_plural(count['good'], 'good image')}",
        ),
        ("logical found", _rate(decision.get("detection_rate_logical")), f"of {count['logical']}"),
        ("structural found", _rate(decision.get("detection_rate_structural")), f"of {count['structural']}"),
    ]
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><small>{note}</small></div>" for name, value, note in facts)
    return f"<dl class=facts>{cards}</dl>\n"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{percent(value)} %"


def _banks(result: UnitResult) -> str:
    shown = ("image_auroc_logical", "image_auroc_structural", "image_auroc", "pixel_auroc")
    heads = "".join(f"<th scope=col>{FIGURES[column][0]}</th>" for column in shown)
    lines = []
    for bank in (*bank_names([result]), ""):
        prefix = ("banks", bank) if bank else ()
        places = [(*prefix, *FIGURES[column][1]) for column in shown]
        cells = "".join(f"<td>{_with_ends(result.figure(*p), result.interval(*p))}</td>" for p in places)
        lines.append(f"<tr{'' if bank else ' class=mean'}><td>{bank or 'together'}</td>{cells}</tr>")
    head = f"<thead><tr><th>bank</th>{heads}</tr></thead>"
    return f"<div class=scroll><table>{head}<tbody>{''.join(lines)}</tbody></table></div>\n"


def _with_ends(value: float | None, ends: tuple[float, float] | None) -> str:
    """A figure and, below it, its 95 % interval."""
    figure, _, bounds = with_interval(value, ends).partition(" ")
    return figure + (f"<br><small>{bounds}</small>" if bounds else "")


def _figure(folder: str, panel: dict[str, Any]) -> str:
    """A panel's pictures, cut out of it by style: its words stand beside them as text, to be read, found and copied."""
    right = (panel["verdict"] == "good") == (panel["kind"] == "good")
    title = escape(named_kind(panel["kind"], panel["defect"]))
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in panel["reasons"])
    threshold = "no threshold" if panel["threshold"] is None else f"threshold {panel['threshold']:.4g}"
    first, height = STRIP
    cut = f"aspect-ratio:{panel['width']}/{height};object-position:0 {100 * first / (panel['height'] - height):.2f}%"
    source = f"{folder}{quote(panel['file'])}"
    return (
        f'<figure><a href="{source}"><img src="{source}" alt="{title}: image, ground truth, anomaly map" style="{cut}" '
        f"width={panel['width']} height={panel['height']} loading=lazy></a>"
        f"<figcaption><b>{title}</b>, judged <span class={'right' if right else 'wrong'}>{escape(panel['verdict'])}"
        f"{'' if right else ' (wrong)'}</span>, score {panel['score']:.4g}, {threshold}<br>"
        f"{escape(panel['path'])}, {escape(panel['role'])}"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</figcaption></figure>\n"
    )


def _problems(results: Sequence[UnitResult]) -> str:
    not_run = [(r.unit, r.not_run) for r in results if r.metrics is None]
    parts = [_words("Not run", ("unit", "why"), not_run)]
    parts.append(
        _words("Figures that do not exist, or need a caution", ("unit", "why", "figures"), absent_figures(results))
    )
    parts.append(_words("Problems found in the data", ("unit", *PROBLEM_COLUMNS), problems_of(results)))
    return "".join(parts)


def _words(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    heads = "".join(f"<th scope=col>{heading}</th>" for heading in headings)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    table = f"<table class=words><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return f"<h2>{title}</h2>\n<div class=scroll>{table}</div>\n"


def _load_panels(path: Path) -> list[dict[str, Any]]:
    try:
        panels: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ArtifactError(f"{path}: not readable as JSON ({error}); run the report stage again") from None
    return panels


def _anchor(unit: str) -> str:
    return f"unit-{quote(unit)}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
