"""A run as Prefect's artifacts show it: markdown, rows of a table, one picture as a data URL."""

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tmuad.arrivals.journal import Run
from tmuad.arrivals.quarantine import case_folder
from tmuad.config import load_params

SIDE, SHOWN = 160, 6  # px and number of the pictures in the montage


def artifact_key(name: str) -> str:
    """Prefect takes lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def line(run: Run) -> str:
    """What happened, in one line: outcome, version, and how many files were decided how."""
    counts = {word: len(run.with_decision(word)) for word in ("admit", "quarantine", "reject", "leave")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return " ".join(filter(None, (f"{run.unit}: {run.outcome}", run.version, told and f"({told})")))


def markdown(run: Mapping[str, Any]) -> str:
    """What happened, for people."""
    lines = [f"# {run['unit']}: {run['outcome']} {run['version']}".rstrip(), ""]
    if run["reason"]:
        lines += [f"**Reason:** {run['reason']}", ""]
    lines += [f"**{warning}**" for warning in run["warnings"]]
    counts = run["counts"]
    lines += [
        f"{counts['admit']} images admitted, {counts['quarantine']} in quarantine, {counts['reject']} rejected, "
        f"{counts['leave']} left for the next run (run {run['run']}, started by {run['trigger']}).",
        "",
    ]
    if checks := run["gate"].get("checks"):
        lines += ["| gate | found | value | limit | |", "|---|---|---|---|---|"]
        lines += [
            f"| {c['name']} | {c['detail']} | {c['value']:.4f} | {c['limit']:g} | {'passed' if c['passed'] else 'FAILED'} |"
            for c in checks
        ]
        lines.append("")
    told = [a for a in run["arrivals"] if a["decision"] not in ("admit", "new")]
    if told:
        lines += ["| file | decision | why |", "|---|---|---|"]
        lines += [f"| {a['name']} | {a['decision']} | {a['reason']} |" for a in told]
        lines.append("")
    lines.append("Seconds: " + ", ".join(f"{step} {seconds:.1f}" for step, seconds in run["seconds"].items()))
    return "\n".join(lines)


def flip_rows(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = ("path", "truth", "before", "after", "score_before", "score_after")
    return [{name: flip[name] for name in columns} for flip in run["gate"].get("flips", ())]


def picture(run: Mapping[str, Any]) -> str:
    """The heat maps of what went to quarantine, side by side, as a data URL; empty if there is none."""
    from PIL import Image

    params = load_params(Path("params.yaml"))
    waiting = [a for a in run["arrivals"] if a["decision"] == "quarantine"]
    folders = [case_folder(run["unit"], arrival["image_id"], params) for arrival in waiting]
    maps = [folder / "heat_map.png" for folder in folders if (folder / "heat_map.png").exists()][:SHOWN]
    if not maps:
        return ""
    montage = Image.new("RGB", (SIDE * len(maps), SIDE))
    for index, path in enumerate(maps):
        montage.paste(Image.open(path).convert("RGB").resize((SIDE, SIDE)), (SIDE * index, 0))
    buffer = io.BytesIO()
    montage.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
