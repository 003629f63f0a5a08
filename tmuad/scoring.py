"""Scoring of files: what `tmuad score` does, as plain data per image."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tmuad import masks
from tmuad.config import Params
from tmuad.data.images import SUFFIXES
from tmuad.describe.description import ImageDescription
from tmuad.engine import load_image
from tmuad.errors import DataError, ImageError
from tmuad.inspector import Inspector
from tmuad.report.overlay import heat_overlay
from tmuad.score.judge import Verdict
from tmuad.score.sentences import sentence

Outcome = dict[str, Any]


def score_files(paths: Sequence[Path], unit: str, params: Params, out: Path, on_bad_image: str) -> Iterator[Outcome]:
    """Score each image of `paths` (files, or folders searched for images), in order, and write its heat map to `out`.

    Yields a JSON-ready outcome per image, as soon as it is known. A bad image ends the iteration with an ImageError, or
    yields an outcome with the key "error", as `on_bad_image` (stop | skip) says.

    Raises:
        DataError: a path does not exist, or there is no image at all.
    """
    files = list_images(paths)
    inspector = Inspector.load(unit, params)
    out.mkdir(parents=True, exist_ok=True)
    for path in files:
        try:
            image = load_image(path, params.data)
        except ImageError as error:
            if on_bad_image == "stop":
                raise
            yield {"image": str(path), "error": str(error)}
            continue
        verdict, description = inspector.inspect(image)
        overlay = heat_overlay(image, verdict.maps["fused"], verdict.threshold)
        # The digest keeps two files of one name apart.
        target = out / f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.png"
        Image.fromarray(overlay).save(target)
        yield outcome(str(path), verdict, description, inspector) | {"heat_map": str(target)}


def outcome(image: str, verdict: Verdict, description: ImageDescription, inspector: Inspector) -> Outcome:
    """The verdict on `image` as plain data."""
    shape = verdict.maps["fused"].shape
    return {
        "image": image,
        "unit": inspector.unit,
        "verdict": "anomalous" if verdict.anomalous else "good",
        "score": round(verdict.score, 6),
        "threshold": round(verdict.threshold, 6) if verdict.threshold != float("inf") else None,
        "p_value": round(inspector.calibration.p_value(verdict.score), 6),
        "shares": {bank: round(share, 4) for bank, share in verdict.shares.items()},
        "text": description.text,
        "reasons": [
            {
                "object_class": f.object_class,
                "attribute": f.attribute,
                "expected": f.expected,
                "found": f.found,
                "strength": round(f.strength, 4),
                "box": [
                    round(v / shape[i % 2 == 0], 4) for i, v in enumerate(masks.box(f.region, (shape[0], shape[1])))
                ],
                "sentence": sentence(f, inspector.names),
            }
            for f in verdict.findings
        ],
    }


def list_images(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths` and the images in its folders, folders searched in depth, in sorted order.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"{path}: no image in this folder (looked for {', '.join(sorted(SUFFIXES))})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


def card(outcome: Outcome) -> str:
    """An outcome for people."""
    if "error" in outcome:
        return f"SKIPPED    {outcome['image']}\n           {outcome['error']}"
    threshold = "none" if outcome["threshold"] is None else f"{outcome['threshold']:.2f}"
    lines = [
        f"{outcome['verdict'].upper():10} {outcome['image']}   score {outcome['score']:.2f}, threshold {threshold}"
    ]
    lines += (
        [f"           - {reason['sentence']}" for reason in outcome["reasons"]] if outcome["verdict"] != "good" else []
    )
    if outcome["score"] > 0:
        shares = ", ".join(f"{bank} {share:.0%}" for bank, share in outcome["shares"].items())
        lines.append(f"           shares: {shares}")
    lines.append(f"           heat map: {outcome['heat_map']}")
    return "\n".join(lines)
