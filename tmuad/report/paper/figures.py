"""The paper's figures on the units at hand: charts from numbers that exist, sheets of pictures, and why one is missing."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tmuad.ablate.moved import STEPS, moved_key
from tmuad.parquet import write_artifact
from tmuad.report.paper.charts import Series, bar_chart, line_chart
from tmuad.report.paper.scopes import Scope
from tmuad.report.paper.sources import Found, Sources, mean_of

INDEX = "figures.json"
BANKS = {"text": "M_T", "objects": "M_O", "patches": "M_P"}
TITLES = {
    7: "Anomaly maps on MVTec LOCO",
    8: "Anomaly maps on MVTec AD",
    9: "Anomaly maps on VisA",
    10: "Anomaly maps on MPDD",
    11: "Anomaly maps on BrainMRI",
    12: "What each bank contributes to the score of anomalies",
    13: "Ways to say positions: AUROC of logical anomalies by the text bank alone",
    14: "Logical anomalies found by the text bank",
    15: "Regions of any kind, and named objects",
    16: "Patch layers alone and together",
    17: "Failures: anomalies that score lowest, good images that score highest",
    18: "Centroids of the patch bank: AUROC and time",
}


MOVED = "Ways to say positions: how far a camera may move"
ALIKE = (
    "No difference on these units: their logical anomalies are told apart without positions, or in any of these ways."
)


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it: a file beside the index, or what it needs."""

    number: int
    scope: str
    title: str
    file: str = ""
    needs: str = ""
    note: str = ""


def write_index(folder: Path, figures: Sequence[Figure]) -> None:
    """figures.json and figures.md; pictures that belong to no figure any more go."""
    ordered = sorted(figures, key=lambda f: (f.number, f.scope, f.file))
    write_artifact(folder / INDEX, (json.dumps([asdict(f) for f in ordered], indent=1, sort_keys=True) + "\n").encode())
    lines = ["# Figures\n"]
    for figure in ordered:
        shown = f"[{figure.file}]({figure.file})" if figure.file else f"not run: needs {figure.needs}"
        lines.append(f"- Figure {figure.number}, {figure.scope}: {figure.title}. {shown}")
    write_artifact(folder / "figures.md", ("\n".join(lines) + "\n").encode())
    kept = {f.file for f in figures}
    for stale in [*folder.glob("*.png"), *folder.glob("*.svg")]:
        if stale.name not in kept:
            stale.unlink()


def contributions(folder: Path, scopes: Sequence[Scope], tables: Mapping[str, pd.DataFrame]) -> list[Figure]:
    """Figure 12: the mean share of each bank in the score of an anomaly, by kind.

    `tables` holds, per unit, a row for each anomalous test image: kind, share_text, share_objects, share_patches.
    """
    rows, figures = [], []
    for scope in scopes:
        found = [tables[unit].assign(unit=unit) for unit in scope.units if unit in tables]
        if not found:
            figures.append(Figure(12, scope.name, TITLES[12], needs=scope.needs or "`dvc repro`"))
            continue
        shares = pd.concat(found)
        kinds = [kind for kind in ("structural", "logical") if (shares["kind"] == kind).any()]
        mean = shares.groupby("kind")[[f"share_{bank}" for bank in BANKS]].mean() * 100
        series = [Series(name, [float(mean[f"share_{bank}"][k]) for k in kinds]) for bank, name in BANKS.items()]
        file = f"figure_12_{scope.name}.svg"
        chart = bar_chart(TITLES[12], kinds, series, 0, 100, "share of the score, %")
        write_artifact(folder / file, chart.encode())
        note = "The part of each bank in the score, at the pixel that sets it; the mean over the anomalous test images."
        figures.append(Figure(12, scope.name, TITLES[12], file, note=note))
        rows += [[scope.name, k, s.name, f"{s.values[i]:.4f}"] for s in series for i, k in enumerate(kinds)]
    _csv(folder / "figure_12.csv", ("scope", "kind", "bank", "share"), rows)
    return figures


def positions(folder: Path, scopes: Sequence[Scope], sources: Sources) -> list[Figure]:
    """Figure 13: ways to say where objects are, by what they find, and by how much a camera may move under them."""
    key, rows, figures = ("image", "auroc_logical"), [], []
    names = sources.drawn(13)
    about = "; ".join(_about(sources, names))
    for scope in scopes:
        found = _asked(13, scope, sources, names, key)
        if isinstance(found, Figure):
            figures.append(found)
            continue
        groups = [*scope.units, "mean"] if len(scope.units) > 1 else list(scope.units)
        series = []
        for name, parts in found.items():
            every = [*parts, mean_of(parts)] if len(scope.units) > 1 else parts
            series.append(Series(name, [_percent(f) for f in every], [_ends(f) for f in every]))
            rows += [[scope.name, group, name, _shown(f)] for group, f in zip(groups, every, strict=True)]
        file = f"figure_13_{scope.name}.svg"
        write_artifact(folder / file, bar_chart(TITLES[13], groups, series, 0, 105, "AUROC, %").encode())
        note = f"{about}. {ALIKE}" if all(s.values == series[0].values for s in series) else about
        figures += [Figure(13, scope.name, TITLES[13], file, note=note), _moved(folder, scope, sources, names)]
    _csv(folder / "figure_13.csv", ("scope", "unit", "variant", "auroc_logical"), rows)
    return figures


def _moved(folder: Path, scope: Scope, sources: Sources, names: Sequence[str]) -> Figure:
    """The second part of figure 13."""
    shares = {
        name: [mean_of([sources.variant(unit, name, moved_key(step)) for unit in scope.units]) for step in STEPS]
        for name in names
    }
    series = [Series(name, [_percent(f) for f in found]) for name, found in shares.items()]
    file = f"figure_13_moved_{scope.name}.svg"
    labels = ("all objects moved by, % of the side", "good images of which no position is said to be wrong, %", "")
    write_artifact(folder / file, line_chart(MOVED, STEPS, series, [], labels).encode())
    rows = [
        [scope.name, name, step, _shown(f)]
        for name, many in shares.items()
        for step, f in zip(STEPS, many, strict=True)
    ]
    _csv(folder / f"figure_13_moved_{scope.name}.csv", ("scope", "variant", "moved", "placed"), rows)
    unasked = [name for name, found in shares.items() if any(f.cell is None for f in found)]
    more = (
        f" {', '.join(unasked)}: what a language model says of moved scenes would have to be asked." if unasked else ""
    )
    note = f"Good test images, all objects moved alike to each of the four sides.{more}"
    return Figure(13, scope.name, MOVED, file, note=note)


def clusters(folder: Path, scopes: Sequence[Scope], sources: Sources) -> list[Figure]:
    """Figure 18: AUROC and seconds over the number of centroids."""
    key, rows, figures = ("image", "auroc"), [], []
    names = {name: sources.variants[name].change["patch_bank"]["clusters"] for name in sources.drawn(18)}
    for scope in scopes:
        found = _asked(18, scope, sources, names, key)
        if isinstance(found, Figure):
            figures.append(found)
            continue
        ordered = sorted(names, key=lambda name: names[name])
        auroc = [mean_of(found[name]) for name in ordered]
        seconds = [
            mean_of([sources.measured(unit, name, ["seconds compare"]) for unit in scope.units]) for name in ordered
        ]
        times = [None if f.value is None else 1000 * f.value for f in seconds]
        chart = line_chart(
            TITLES[18],
            [names[name] for name in ordered],
            [Series("AUROC, all banks", [_percent(f) for f in auroc])],
            [Series("time to compare an image with the patch bank", times)],
            ("centroids per layer, K", "image AUROC, %", "ms"),
        )
        file = f"figure_18_{scope.name}.svg"
        write_artifact(folder / file, chart.encode())
        note = "Time as it was measured when the variants ran; features are cached, and no encoder's time is in it."
        figures.append(Figure(18, scope.name, TITLES[18], file, note=note))
        for name, score, time in zip(ordered, auroc, times, strict=True):
            rows.append([scope.name, names[name], _shown(score), "" if time is None else f"{time:.3f}"])
    _csv(folder / "figure_18.csv", ("scope", "clusters", "auroc", "milliseconds"), rows)
    return figures


def _asked(
    number: int, scope: Scope, sources: Sources, names: Iterable[str], key: tuple[str, ...]
) -> dict[str, list[Found]] | Figure:
    """What each variant found on the units of the scope; a figure that says what it needs where one found nothing."""
    found = {name: [sources.variant(unit, name, key) for unit in scope.units] for name in names}
    needs = scope.needs or _needs(found)
    if found and not needs:
        return found
    return Figure(number, scope.name, TITLES[number], needs=needs or f"variants with `figure: {number}`")


def _needs(found: Mapping[str, Sequence[Found]]) -> str:
    return "; ".join(dict.fromkeys(f.needs for parts in found.values() for f in parts if f.cell is None))


def _percent(found: Found) -> float | None:
    return None if found.value is None else 100 * found.value


def _ends(found: Found) -> tuple[float, float] | None:
    if found.cell is None:
        return None
    low, high = found.cell.interval
    return None if np.isnan(low) else (100 * low, 100 * high)


def _shown(found: Found) -> str:
    return "" if found.value is None else f"{found.value:.6f}"


def _about(sources: Sources, names: Sequence[str]) -> list[str]:
    return [f"{name}: {sources.variants[name].about}" for name in names]


def _csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_artifact(path, out.getvalue().encode())
