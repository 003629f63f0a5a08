"""The paper's part of reports/index.html: claims, tables, figures, configuration, provenance and cost.

Everything from the data is escaped. Charts stand in the page itself; sheets of pictures lie beside it in `figures/`.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import yaml

from tmuad.ablate.cost import STAGES
from tmuad.ablate.store import inputs_of
from tmuad.config import Params
from tmuad.errors import ArtifactError
from tmuad.models.slots import model_slots
from tmuad.report.paper.claims import Judged
from tmuad.report.paper.collect import Paper
from tmuad.report.paper.figures import INDEX, Figure
from tmuad.report.paper.reference import Reference
from tmuad.report.paper.sources import Sources
from tmuad.report.paper.write import (
    CLAIM_HEADINGS,
    claim_rows,
    claims_summary,
    hand_rows,
    note_text,
    table_rows,
    title,
)
from tmuad.workspace import SETTINGS

LINKS = (
    ("claims", "claims"), ("tables", "tables of the paper"), ("figures", "figures"),
    ("configuration", "configuration"), ("provenance", "provenance"), ("cost", "cost"),
)  # fmt: skip


def sections(reports: Path, params: Params, paper: Paper) -> list[str]:
    """The sections in the page's order."""
    return [
        _claims(paper.claims),
        '<section class=paper><h2 id="tables">The paper\'s tables</h2>\n'
        "<p class=note>Each as the paper prints it, with ours beside it, and for the units at hand. The same stands in "
        "<a href=tables/>tables/</a> as Markdown and CSV.</p>\n",
        *(_table(reference, paper) for reference in paper.references.values()),
        "</section>\n",
        _figures(reports / "figures"),
        _configuration(params),
        _provenance(params, paper.sources),
        _cost(params, paper.sources),
    ]


def _claims(claims: Sequence[Judged]) -> str:
    if not claims:
        return ""
    counts = "; ".join(claims_summary(claims))
    return (
        '<section class=paper><h2 id="claims">The paper\'s claims, on the units at hand</h2>\n'
        f"<p class=note>{escape(counts)}. A difference is that to the best of the other side, in the same resamples of the "
        "same test images; <b>within noise</b>: its 95 % interval holds 0.</p>\n"
        f"{_grid(CLAIM_HEADINGS, claim_rows(claims), 'words')}</section>\n"
    )


def _table(reference: Reference, paper: Paper) -> str:
    lines = paper.lines[reference.number]
    own, hand = [x for x in lines if x.scope.paper], [x for x in lines if not x.scope.paper]
    noted = {(note.row, note.column) for note in reference.notes}
    printed = [
        [row, *(f"{text or '–'}{'*' if (row, c) in noted else ''}" for c, text in cells.items())]
        for row, cells in reference.rows.items()
    ]
    parts = [
        f"<h3>{escape(title(reference.number))}</h3>\n",
        _grid(["", *reference.columns], printed),
        _list(note_text(note) for note in reference.notes),
    ]
    rows, legend = table_rows(own)
    ran = sum(line.ours.cell is not None for line in own)
    parts.append(
        f"<details{' open' if ran else ''}><summary>Ours beside it: {ran} of {len(own)} cells run</summary>\n"
        f"{_grid(['row', 'column', 'paper', 'ours', 'gap', ''], rows)}{_legend(legend)}</details>\n"
    )
    if hand:
        headings, rows, legend = hand_rows(hand)
        stands = dict.fromkeys(
            f"{line.column if line.table in (9, 10) else line.row}: {line.about}" for line in hand if line.about
        )
        parts.append(
            "<details open><summary>On the units at hand; in parentheses the paper's number</summary>\n"
            f"{_grid(headings, rows)}{_legend(legend)}{_list(stands)}</details>\n"
        )
    return "".join(parts)


def _figures(folder: Path) -> str:
    figures = load_figures(folder)
    parts = ['<section class=paper><h2 id="figures">Figures</h2>\n']
    missing = []
    for figure in figures:
        if not figure.file:
            missing.append(f"Figure {figure.number}, {figure.scope}: {figure.title}. Not run: needs {figure.needs}")
            continue
        name = escape(f"Figure {figure.number}, {figure.scope}: {figure.title}")
        caption = f"<figcaption><b>{name}</b>. {escape(figure.note)}</figcaption>"
        if figure.file.endswith(".svg"):
            drawing = (folder / figure.file).read_text(encoding="utf-8")
            parts.append(f"<figure><div class=chart>{drawing}</div>{caption}</figure>\n")
        else:
            source = f"figures/{quote(figure.file)}"
            parts.append(f'<figure><img src="{source}" alt="{name}" loading=lazy>{caption}</figure>\n')
    return "".join([*parts, _list(missing), "</section>\n"])


def load_figures(folder: Path) -> list[Figure]:
    """What `write_index` wrote; nothing where the stage `tables` has not run.

    Raises:
        ArtifactError: the index is damaged.
    """
    path = folder / INDEX
    try:
        return [Figure(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); run: dvc repro -f tables") from None


def _configuration(params: Params) -> str:
    content = params.model_dump(mode="json", exclude={"units", "refit", "demo"})
    content["data"] = {k: v for k, v in content["data"].items() if k not in ("cache", "workers")}
    content["compute"] = {"precision": content["compute"]["precision"]}
    units = [[unit, settings.layout] for unit, settings in params.units.items()]
    return (
        f'<section class=paper><h2 id="configuration">Configuration</h2>\n<p>Profile <b>{escape(params.profile)}</b>.</p>\n'
        f"{_grid(['unit', 'layout'], units, 'words')}"
        f"<details><summary>All parameters in force</summary><pre>{escape(yaml.safe_dump(content, sort_keys=True))}</pre>"
        "</details></section>\n"
    )


def _provenance(params: Params, sources: Sources) -> str:
    rows = []
    for unit in params.units:
        try:
            digests = inputs_of(unit, "cost")
        except ArtifactError:
            continue
        rows += [[unit, "settings" if name == "settings" else name, digest] for name, digest in digests.items()]
    weights = {slot.weights: f"{slot.name}: {slot.kind} {slot.model}" for slot in model_slots(params)}
    listed = [[name, weights.get(name, "tokenizer and configuration"), digest] for name, digest in sources.weights]
    models = (
        _grid(["weights", "of", "digest"], listed, "words")
        if listed
        else "<p>Model weights: none. The profile takes no foundation model; its classifier is trained from scratch.</p>\n"
    )
    parameters = sources.origin().parameters
    return (
        f'<section class=paper><h2 id="provenance">Provenance</h2>\n<p>Parameters {parameters}; settings in force in '
        f"<code>{SETTINGS.as_posix()}</code>. Digests are SHA-256; dvc.lock has those of every artifact.</p>\n"
        f"{models}{_grid(['unit', 'file', 'digest'], rows, 'words')}</section>\n"
    )


def _cost(params: Params, sources: Sources) -> str:
    rows, needs = [], []
    for unit in params.units:
        outcome = sources.outcome(unit, "cost")
        if isinstance(outcome, str):
            needs.append(f"{unit}: not run: needs {outcome}")
            continue
        seconds = [outcome.measured.get(f"seconds {stage}", 0.0) for stage in STAGES]
        cells = [f"{1000 * s:.1f}" for s in (*seconds, sum(seconds))]
        rows.append([unit, *cells, f"{outcome.measured['megabytes']:.0f}", f"{outcome.measured['numbers'] / 1e6:.3g}"])
    headings = ["unit", *STAGES, "all", "peak memory, MiB", "numbers, million"]
    table = _grid(headings, rows) if rows else ""
    return (
        '<section class=paper><h2 id="cost">Cost per stage</h2>\n<p class=note>Milliseconds per image, one at a time on one '
        "core with nothing cached, as measured when <code>make tables</code> last ran; <b>numbers</b>: those in models, "
        f"classifier and banks.</p>\n{table}{_list(needs)}</section>\n"
    )


def _grid(headings: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    heads = "".join(f"<th scope=col>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    name = f" class={kind}" if kind else ""
    return (
        f"<div class=scroll><table{name}><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
        if body
        else ""
    )


def _legend(legend: Sequence[tuple[str, str]]) -> str:
    return _list(f"[{letter}] {text}" for letter, text in legend)


def _list(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(item)}</li>\n" for item in items)
    return f"<ul class=legend>{lines}</ul>\n" if lines else ""
