"""Scoring of files: what `tmuad score` does, as plain data per image."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tmuad import masks
from tmuad.config import Params
from tmuad.data.images import SUFFIXES
from tmuad.data.layouts.entries import JUNK_FILES
from tmuad.describe.description import ImageDescription
from tmuad.engine import load_image
from tmuad.errors import ArtifactError, DataError, ImageError
from tmuad.inspector import Inspector
from tmuad.parallel import fork_map
from tmuad.parquet import write_artifact
from tmuad.report.overlay import Picture, heat_overlay
from tmuad.score.judge import Verdict
from tmuad.score.sentences import sentence

Outcome = dict[str, Any]


def score_files(paths: Sequence[Path], unit: str, params: Params, out: Path, on_bad_image: str) -> Iterator[Outcome]:
    """Score each image of `paths` (files, or folders searched for images), in order, and write its heat map to `out`.

    `data.workers` processes share the images (0: one per core); what they say does not depend on how many they are.
    Yields a JSON-ready outcome per image, as soon as it is known. A bad image ends the iteration with an ImageError, or
    yields an outcome with the key "error", as `on_bad_image` (stop | skip) says.

    Raises:
        DataError: a path does not exist, or there is no image at all.
        ArtifactError: the unit is not fitted, or a heat map cannot be written.
        WorkerError: a process was killed.
    """
    files = list_images(paths, out)
    scorer = _Scorer(Inspector.load(unit, params), out, on_bad_image)
    yield from fork_map(scorer, files, params.data.workers, chunk=2)


@dataclass(frozen=True)
class _Scorer:
    """What one process does to one file."""

    inspector: Inspector
    out: Path
    on_bad_image: str

    def __call__(self, path: Path) -> Outcome:
        try:
            _check_name(path)
            image = load_image(path, self.inspector.params.data)
        except ImageError as error:
            if self.on_bad_image == "stop":
                raise
            return {"image": _shown(path), "error": str(error)}
        verdict, description = self.inspector.inspect(image)
        overlay = heat_overlay(image, verdict.maps["fused"], verdict.threshold)
        # The digest keeps two files of one name apart.
        target = self.out / f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.png"
        _save(overlay, target)
        return outcome(str(path), verdict, description, self.inspector) | {"heat_map": str(target)}


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


def list_images(paths: Sequence[Path], out: Path) -> list[Path]:
    """The files of `paths` and the images in its folders, folders searched in depth, in sorted order.

    Hidden files and folders are passed over, and so is `out`: heat maps of an earlier run are no photographs.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    written = out.resolve()
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in SUFFIXES]
            inside = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
            inside = [p for p in inside if not p.resolve().is_relative_to(written)]
            if not inside:
                raise DataError(f"{path}: no image in this folder (looked for {', '.join(sorted(SUFFIXES))})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


def passed_over(paths: Sequence[Path], out: Path) -> list[Path]:
    """The files in folders of `paths` that are not scored because of their kind, such as photo.heic; sorted.

    Hidden files, those that systems leave behind, and `out` do not count.
    """
    written = out.resolve()
    return [
        p
        for folder in paths
        if folder.is_dir()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.suffix.lower() not in SUFFIXES
        and p.name.lower() not in JUNK_FILES
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
        and not p.resolve().is_relative_to(written)
    ]


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ImageError(f"{_shown(path)}: the name is not valid Unicode (UTF-8); rename the file") from None


def _shown(path: Path) -> str:
    """`path` as text that any terminal and JSON reader takes."""
    return str(path).encode(errors="backslashreplace").decode()


def _save(overlay: Picture, target: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(overlay).save(content, "PNG", compress_level=1)  # the default takes a fifth of an image's time
    try:
        write_artifact(target, content.getvalue())
    except ArtifactError as error:
        raise ArtifactError(f"{error}; or name another folder with --out") from None


def card(outcome: Outcome) -> str:
    """An outcome for people."""
    if "error" in outcome:
        said = outcome["error"].removeprefix(f"{outcome['image']}: ")
        return f"SKIPPED    {outcome['image']}\n           {said}"
    threshold = "none" if outcome["threshold"] is None else f"{outcome['threshold']:.2f}"
    lines = [
        f"{outcome['verdict'].upper():10} {outcome['image']}   score {outcome['score']:.2f}, threshold {threshold}"
    ]
    if outcome["verdict"] != "good":  # two places that look unusual may be called alike: once is enough
        lines += [f"           - {said}" for said in dict.fromkeys(reason["sentence"] for reason in outcome["reasons"])]
    if outcome["score"] > 0:
        shares = ", ".join(f"{bank} {share:.0%}" for bank, share in outcome["shares"].items())
        lines.append(f"           shares: {shares}")
    lines.append(f"           heat map: {outcome['heat_map']}")
    return "\n".join(lines)
