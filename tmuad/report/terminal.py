"""What `make repro` ends with: the results, and where to look next."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tmuad.report.markdown import percent
from tmuad.report.tables import UnitResult, absent_figures, problems_of, results_frame

_SHOWN = (  # headings fit a terminal of 80 columns
    ("image\nlogical", "image_auroc_logical"),
    ("image\nstruct.", "image_auroc_structural"),
    ("image\nall", "image_auroc"),
    ("image\navg.", "image_average"),
    ("pixel\nall", "pixel_auroc"),
    ("false\nalarms", "false_alarm_rate_observed"),
    ("found\nlogical", "detection_rate_logical"),
    ("found\nstruct.", "detection_rate_structural"),
)
_NEXT = (
    ("reports/index.html", "pictures and reasons"),
    ("reports/gallery/index.html", "every verdict, to filter, sort and compare"),
    ("reports/results.md", "all figures, and each bank alone"),
    ("reports/tmuad.duckdb", "all of it as tables, for SQL"),
    ("dvc metrics show", "the figures as dvc sees them"),
    ("tmuad score IMAGE --unit {unit}", "judge a photograph"),
    ("tmuad explain IMAGE --unit {unit}", "why it was judged so"),
    ("tmuad init FOLDER", "learn from your own photographs"),
)
_FIRST = (
    ("dvc repro", "fit and evaluate every unit"),
    ("tmuad init FOLDER", "learn from your own photographs"),
)


def results_table(results: Sequence[UnitResult]) -> Table:
    """The main figures in per cent, a line per unit and one per mean."""
    title = "AUROC of images and pixels, and decisions, in per cent"
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("\nunit", overflow="fold", min_width=14)
    for heading, _ in _SHOWN:
        table.add_column(heading, justify="right", no_wrap=True)
    frame = results_frame(results)
    means = frame["row"] == "mean"
    for position, (_, row) in enumerate(frame.iterrows()):
        name = f"mean of {row['unit']}" if row["row"] == "mean" else str(row["unit"])
        last_unit = position + 1 < len(frame) and not means.iloc[position] and means.iloc[position + 1]
        table.add_row(escape(name), *(percent(row[c]) for _, c in _SHOWN), end_section=bool(last_unit))
    return table


def print_results(results: Sequence[UnitResult], console: Console | None = None) -> None:
    """Print the results table, what is missing, and where to look next."""
    console = console or Console()
    ran = [result.unit for result in results if result.metrics is not None]
    if ran:
        console.print(results_table(results))
    for result in results:
        if result.metrics is None:
            console.print(f"[bold]{escape(result.unit)}[/]: not run, because {escape(result.not_run)}")
    for unit, reason, metrics in absent_figures(results):
        console.print(f"[dim]{escape(unit)}: {escape(metrics)}: {escape(reason)}[/]")
    problems = problems_of(results)
    if problems:
        console.print(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the data; reports/results.md lists them"
        )
    console.print("\n[bold]Where to look next[/]")
    steps = [(what.format(unit=ran[0] if ran else "UNIT"), why) for what, why in (_NEXT if ran else _FIRST)]
    width = max(len(what) for what, _ in steps)
    for what, why in steps:  # never folded: they are there to be copied
        console.print(f"  {escape(what.ljust(width))}  {why}", soft_wrap=True, highlight=False)
