"""What happened to a unit: one JSON object a line in data/history/<unit>.jsonl, versioned with the data it speaks of."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tmuad.cache import write_atomic
from tmuad.errors import ArtifactError

FOLDER = Path("data/history")


@dataclass(frozen=True)
class Record:
    """One run that changed the unit, or tried to."""

    run: str
    action: str  # baseline, refit, forget, rollback
    outcome: str  # promoted, rolled back
    version: str  # v0, v1, ...; the version in force afterwards
    time: str  # UTC
    by: str  # who promoted: the git identity, and what started the run
    added: tuple[str, ...] = ()  # image ids
    removed: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    metrics: dict[str, float | None] = field(default_factory=dict)
    reason: str = ""


def path_of(unit: str) -> Path:
    return FOLDER / f"{unit}.jsonl"


def read(unit: str) -> list[Record]:
    """The records of `unit`, oldest first. Raises ArtifactError where a line is not one."""
    path = path_of(unit)
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            content: dict[str, Any] = json.loads(line)
            lists: dict[str, Any] = {name: tuple(content.pop(name, ())) for name in ("added", "removed", "quarantined")}
            records.append(Record(**content, **lists))
        except (ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path}: line {number} is not a record ({error}); bring the file back with: git checkout {path}"
            ) from None
    return records


def append(unit: str, record: Record) -> None:
    """Add `record`, in the place of what the same run may have written before it was interrupted."""
    records = [known for known in read(unit) if known.run != record.run]
    path = path_of(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(r), ensure_ascii=False) for r in [*records, record]]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def next_version(unit: str) -> str:
    """v0 for the state before the first run, then v1, v2, ..."""
    taken = [int(r.version.removeprefix("v")) for r in read(unit)]
    return f"v{max(taken, default=-1) + 1}"


def table(unit: str) -> str:
    """The history for a terminal."""
    lines = [f"{'version':8} {'time (UTC)':20} {'action':9} {'outcome':12} {'+':>4} {'-':>4} {'quar.':>5}  metrics, by"]
    for r in read(unit):
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in r.metrics.items() if value is not None)
        lines.append(
            f"{r.version:8} {r.time:20} {r.action:9} {r.outcome:12} {len(r.added):4} {len(r.removed):4} "
            f"{len(r.quarantined):5}  {metrics or '-'}; {r.by}"
        )
        if r.reason:
            lines.append(f"{'':8} {r.reason}")
    return "\n".join(lines)
