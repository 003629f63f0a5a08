"""Panels for people: photograph, ground truth, heat map, and the reasons in words; and a sheet with all of a unit's.

Drawn with Pillow, because equal input must give equal bytes, and at a tenth of matplotlib's time.
"""

import io
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tmuad.parallel import fork_map
from tmuad.parquet import write_artifact
from tmuad.report.overlay import TRUTH, Picture, heat_overlay, outline

TILE = 288  # px, side of a picture in a panel
THUMB = 168  # px, side of a picture on the sheet
_GAP, _TEXT, _WIDTH = 12, 15, 3 * TILE + 4 * 12
_TOP, _LINE = 54, _TEXT + 6  # where the pictures begin; height of a line of text
STRIP = (_TOP, TILE + 24)  # the rows of a panel that hold the pictures and their names: first row, height
_INK, _FAINT, _PAPER = (28, 32, 38), (104, 112, 122), (250, 250, 248)
_RIGHT, _WRONG = (26, 127, 80), (196, 52, 40)
_MAX_REASONS = 4
_ROLES = (
    (0.0, "highest score of its kind"),
    (1.0, "lowest score of its kind"),
    (0.5, "median score of its kind"),
    (0.25, "upper quartile of its kind"),
    (0.75, "lower quartile of its kind"),
)
SHEET = "sheet.png"
INDEX = "panels.json"


@dataclass(frozen=True)
class Example:
    """One test image and everything a panel shows of it."""

    image_id: str
    path: str  # in the manifest
    kind: str  # good | logical | structural
    defect: str
    role: str  # why it was chosen
    score: float
    reasons: tuple[str, ...]  # sentences, strongest first
    image: Picture  # (S, S, 3)
    truth: NDArray[np.bool_] | None  # (S, S); None for a good image or one without a mask
    fused: NDArray[np.floating]  # (S, S)


@dataclass(frozen=True)
class Caption:
    """What the pages say beside a panel's picture."""

    file: str  # beside panels.json
    path: str
    kind: str
    defect: str
    role: str
    score: float
    threshold: float | None  # None: no threshold could be set
    verdict: str  # good | anomalous
    reasons: tuple[str, ...]
    width: int  # px
    height: int  # px


def choose_examples(test: pd.DataFrame, limit: int = 18) -> list[tuple[str, str]]:
    """(path, role) of at most `limit` images worth a panel, from columns path, kind, defect, score.

    Of the good images and of each defect in turn: the highest score, then the lowest, the median and the quartiles.
    Sorted by kind (logical, structural, good), defect, and score; equal scores are told apart by path.
    """
    ordered = test.sort_values(["score", "path"], ascending=[False, True], kind="stable")
    groups = [group["path"].tolist() for _, group in ordered.groupby(["kind", "defect"], sort=True)]
    chosen: dict[str, str] = {}
    for share, role in _ROLES:
        for group in groups:
            if len(chosen) < limit:
                chosen.setdefault(group[round(share * (len(group) - 1))], role)
    rank = {"logical": 0, "structural": 1, "good": 2}
    rows = ordered[ordered["path"].isin(list(chosen))]
    keys = sorted(zip(rows["kind"].map(rank), rows["defect"], -rows["score"], rows["path"], strict=True))
    return [(str(path), chosen[path]) for *_, path in keys]


def write_panels(
    folder: Path,
    examples: Sequence[Callable[[], Example]],
    threshold: float,
    low: float = 0.0,
    workers: int | None = None,
) -> list[Caption]:
    """A PNG per example, `sheet.png` and `panels.json` in `folder`; what an earlier run left there goes.

    Heat starts at `low` and stands half-way at `threshold`. Each process has one example in memory at a time.
    """
    finite = bool(np.isfinite(threshold))

    def write(index: int) -> tuple[Caption, Image.Image]:
        example = examples[index - 1]()
        name = (
            "-".join((f"{index:02d}", _slug(named_kind(example.kind, example.defect)), example.image_id[:8])) + ".png"
        )
        verdict = "anomalous" if example.score > threshold else "good"
        lines = _reason_lines(example.reasons)
        caption = Caption(
            name, example.path, example.kind, example.defect, example.role,
            round(example.score, 6), round(threshold, 6) if finite else None, verdict, example.reasons,
            _WIDTH, _TOP + TILE + 30 + _LINE * len(lines) + _GAP,
        )  # fmt: skip
        heat = heat_overlay(example.image, example.fused, threshold, low)
        write_artifact(folder / name, _png(_draw_panel(example, caption, heat, lines)))
        return caption, _tile(heat if example.truth is None else outline(heat, example.truth, TRUTH), THUMB)

    drawn = list(fork_map(write, range(1, len(examples) + 1), workers, chunk=1))
    captions, thumbs = [caption for caption, _ in drawn], [thumb for _, thumb in drawn]
    write_artifact(folder / SHEET, _png(_draw_sheet(captions, thumbs)))
    content = json.dumps([asdict(c) for c in captions], indent=1, sort_keys=True, ensure_ascii=False)
    write_artifact(folder / INDEX, (content + "\n").encode())
    kept = {SHEET, *(c.file for c in captions)}
    for stale in folder.glob("*.png"):
        if stale.name not in kept:
            stale.unlink()
    return captions


def named_kind(kind: str, defect: str) -> str:
    """'structural: scratch'; the kind alone where the defect's folder says no more, as MVTec LOCO's do."""
    return kind if defect in ("", kind, "logical_anomalies", "structural_anomalies") else f"{kind}: {defect}"


def _draw_panel(example: Example, caption: Caption, heat: Picture, lines: Sequence[str]) -> Image.Image:
    """The three pictures side by side, with words above and below."""
    sheet = Image.new("RGB", (caption.width, caption.height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 8), _fit(_title(caption), _font(17), _WIDTH - 2 * _GAP - 120), fill=_INK, font=_font(17))
    right = (caption.verdict == "good") == (example.kind == "good")
    word = caption.verdict if right else f"{caption.verdict}: wrong"
    draw.text((_WIDTH - _GAP, 8), word, fill=_RIGHT if right else _WRONG, font=_font(17), anchor="ra")
    draw.text((_GAP, 31), _fit(_subtitle(caption), _font(13), _WIDTH - 2 * _GAP), fill=_FAINT, font=_font(13))
    truth = example.image if example.truth is None else outline(example.image, example.truth, TRUTH, 3)
    label = "ground truth" if example.truth is not None else "nothing to find" if example.kind == "good" else "no mask"
    for column, (picture, text) in enumerate(((example.image, "image"), (truth, label), (heat, "anomaly map"))):
        x = _GAP + column * (TILE + _GAP)
        sheet.paste(_tile(picture, TILE), (x, _TOP))
        draw.text((x, _TOP + TILE + 4), text, fill=_FAINT, font=_font(13))
    for number, line in enumerate(lines):
        draw.text((_GAP, _TOP + TILE + 28 + number * _LINE), line, fill=_INK, font=_font(_TEXT))
    return sheet


def _draw_sheet(captions: Sequence[Caption], thumbs: Sequence[Image.Image], columns: int = 6) -> Image.Image:
    """All examples at a glance: heat, truth, score; a wrong verdict's score is red."""
    columns = max(1, min(columns, len(thumbs)))
    cell_w, cell_h = THUMB + _GAP, THUMB + 46
    rows = -(-len(thumbs) // columns)
    sheet = Image.new("RGB", (columns * cell_w + _GAP, max(1, rows) * cell_h + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (caption, thumb) in enumerate(zip(captions, thumbs, strict=True)):
        x, y = _GAP + index % columns * cell_w, _GAP + index // columns * cell_h
        sheet.paste(thumb, (x, y))
        name = named_kind(caption.kind, caption.defect)
        right = (caption.verdict == "good") == (caption.kind == "good")
        draw.text((x, y + THUMB + 3), _fit(name, _font(12), THUMB), fill=_INK, font=_font(12))
        score = f"{caption.score:.4g} {caption.verdict}"
        draw.text((x, y + THUMB + 19), score, fill=_RIGHT if right else _WRONG, font=_font(12))
    return sheet


def _reason_lines(reasons: Sequence[str]) -> list[str]:
    """The strongest reasons, in lines that fit a panel."""
    shown = list(reasons[:_MAX_REASONS]) or ["No reasons."]
    more = len(reasons) - len(shown)
    lines = [line for reason in shown for line in _wrapped(reason, _font(_TEXT), _WIDTH - 2 * _GAP)]
    return lines + ([f"and {more} more"] if more > 0 else [])


def _title(caption: Caption) -> str:
    if caption.kind == "good":
        return "good image"
    return named_kind(f"{caption.kind} anomaly", caption.defect)


def _subtitle(caption: Caption) -> str:
    threshold = "no threshold" if caption.threshold is None else f"threshold {caption.threshold:.4g}"
    return f"{caption.path}    score {caption.score:.4g}, {threshold}    {caption.role}"


def _tile(picture: Picture, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:40]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu, which matplotlib brings, for its Greek and Cyrillic letters; else Pillow's own, which has Latin ones."""
    spec = find_spec("matplotlib")  # found without being imported, which would take half a second
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.is_file():
            # Basic layout: with Raqm the bytes would depend on a library of the machine.
            return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, cut in the middle to `width` px: a path's beginning and end both tell."""
    text = " ".join(text.splitlines())
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(short) <= width:
            return short
    return "…"


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """`text` in lines of at most `width` px, the later ones indented."""
    average = max(1.0, font.getlength("abcdefghijklmnopqrstuvwxyz ") / 27)
    lines = textwrap.wrap(text, max(20, int(width / average)), initial_indent="• ", subsequent_indent="   ") or ["•"]
    return [_fit(line, font, width) for line in lines]
