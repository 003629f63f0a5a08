"""A comparison as files: JSON for programs, Markdown for people, and a CSV of all test images with their reasons."""

import csv
import json
import math
from io import StringIO
from pathlib import Path

from tmuad.errors import ParameterError
from tmuad.evaluate.cells import Cell
from tmuad.parquet import write_artifact
from tmuad.plug.compare import Comparison, Figure, ImageRow
from tmuad.report.markdown import difference_cell, markdown_table, with_interval
from tmuad.workspace import REPORTS

SHOWN = 12  # images whose reasons stand in the Markdown
NAME = "A-Z a-z 0-9 . _ + - ( ) and space, beginning with a letter or digit"
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
HEADINGS = ("level", "anomalies", "without M_T", "with M_T", "difference", "M_T alone")


def file_name(method: str) -> str:
    """The name of a method as that of a file: lower case, anything but letters and digits as a dash.

    Raises:
        ParameterError: characters that a method's name must not have; among them those that lead out of a folder.
    """
    if not method or method[0] not in _LETTERS or set(method) - _LETTERS - set("._+-() ") or ".." in method:
        raise ParameterError(f"--name: {method!r} is no name of a method; use {NAME}")
    words = "".join(letter if letter in _LETTERS else "-" for letter in method.lower())
    return "-".join(part for part in words.split("-") if part)


def write_comparison(comparison: Comparison, out: Path | None = None) -> list[Path]:
    """Write <name>.csv, <name>.md and <name>.json below `out` (by default reports/plug/<unit>), each whole or not at all.

    Raises:
        ParameterError: see `file_name`. ArtifactError: the folder cannot be written.
    """
    name = file_name(comparison.method)
    folder = out or REPORTS / "plug" / comparison.unit
    text = json.dumps(comparison.as_json(), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    contents = {".csv": images_csv(comparison), ".md": comparison_markdown(comparison), ".json": text}
    written = []
    for suffix, content in contents.items():
        path = folder / f"{name}{suffix}"
        write_artifact(path, content.encode())
        written.append(path)
    return written


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison for people."""
    counts = comparison.metrics["counts"]
    images = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    splits = ", ".join(f"{count} {split} images" for split, count in comparison.splits.items())
    parts = [
        f"# {comparison.method} with and without the text bank, on {comparison.unit}\n",
        f"AUROC in per cent, with 95 % intervals over the test images ({images}). The difference is paired: both are looked "
        "at in the same resamples.\n",
        figures_table(comparison),
        f"Weight of the text bank {comparison.weight:g}, of the detector 1, both in standard deviations of good images; the "
        f"detector's scale is from {splits} images.\n",
    ]
    parts += [f"- {remark}\n" for remark in comparison.remarks]
    absent = [e for e in comparison.metrics["reasons"] if not e["metric"].startswith("banks.")]
    parts += [f"- {entry['metric']}: {entry['reason']}\n" for entry in absent]
    told = [row for row in comparison.rows if row.image.shares["text"] > 0 and row.image.reasons]
    told.sort(key=lambda row: (-row.image.score, row.path))
    if told:
        parts.append(f"\n## What the text bank says\n\nThe highest {min(SHOWN, len(told))} of {len(told)} images:\n")
        rows = [[r.path, r.kind, _percent(r.image.shares["text"]), " ".join(r.image.reasons)] for r in told[:SHOWN]]
        parts.append(markdown_table(["image", "is", "share of M_T", "reasons"], rows))
    return "\n".join(parts)


def figures_table(comparison: Comparison) -> str:
    """The figures alone, as a Markdown table."""
    return markdown_table(HEADINGS, [_figure_row(figure) for figure in comparison.figures])


def images_csv(comparison: Comparison) -> str:
    """The test images: scores without and with M_T, verdict, shares, and reasons."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["path", "kind", "defect", "score_without", "score_with", "verdict", "share_text", "share_detector", "reasons"]
    )
    for row in comparison.rows:
        writer.writerow(_image_row(row))
    return stream.getvalue()


def _figure_row(figure: Figure) -> list[str]:
    change = None
    if figure.difference is not None:
        d = figure.difference
        change = {"difference": d.difference, "low": d.low, "high": d.high, "within_noise": d.within_noise}
    kind = "mean of the two" if figure.kind == "average" else figure.kind
    return [
        figure.level,
        kind,
        _cell(figure.without),
        _cell(figure.with_text),
        difference_cell(change),
        _cell(figure.text_alone),
    ]


def _cell(cell: Cell) -> str:
    return with_interval(cell.value, cell.interval)


def _image_row(row: ImageRow) -> list[str]:
    image = row.image
    verdict = "" if math.isinf(image.threshold) else "anomalous" if image.anomalous else "good"
    return [
        row.path,
        row.kind,
        row.defect,
        f"{image.alone:.6g}",
        f"{image.score:.6g}",
        verdict,
        f"{image.shares['text']:.4f}",
        f"{image.shares['detector']:.4f}",
        " ".join(image.reasons),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
