"""The journal of a run: what was decided and how far it got, on disk before anything is done.

A run that was killed is taken up by the next one at the step the journal names. Every step can be repeated: decisions
stand in the journal before files are moved, and a file that has been moved already is left where it is.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tmuad.cache import write_atomic
from tmuad.errors import ArtifactError, TmuadError

STEPS = {  # of each kind of run, in their order
    "refit": ("inspect", "guard", "admit", "refit", "gate", "promote", "publish"),
    "forget": ("admit", "refit", "promote", "publish"),  # a person's decisions are not for the gate to overrule
    "rollback": ("admit", "refit", "promote", "publish"),
}
ROLL_BACK = "roll_back"  # takes the place of promote
DONE = "done"
GONE = "changed or removed since it was looked at"  # reason of an arrival that is left alone
FOLDER = Path(".refit")  # beside params.yaml; not versioned


@dataclass(frozen=True)
class Arrival:
    """One file of data/incoming/<unit>/ and what became of it."""

    name: str  # relative to the folder it arrived in
    image_id: str  # sha256 of the file; empty if it could not be read
    decision: str  # new, then admit or quarantine; reject; leave
    reason: str = ""
    target: str = ""  # where it goes in the data set, relative to the unit's root
    score: float | None = None
    p_value: float | None = None  # share of normal images that score as high; see tmuad/score/tail.py


@dataclass(frozen=True)
class Run:
    """The journal's content."""

    run: str  # name of the run
    unit: str
    kind: str  # refit, forget, rollback
    trigger: str  # hand, schedule, arrival
    started: str  # UTC
    step: str  # the one that is under way
    attempts: int = 0  # runs that have taken up this step before
    base: str = ""  # git commit the run started from
    data_file: str = ""  # the .dvc file of the data set
    data_path: str = ""  # the folder it tracks: the unit's root, or one above it
    listed: bool = False  # the arrivals are decided by inspect
    guarded: bool = False  # and by the guard
    arrivals: tuple[Arrival, ...] = ()
    removed: tuple[dict[str, str], ...] = ()  # image_id and path of the images a forget takes out
    goal: str = ""  # version that a rollback goes back to
    version: str = ""  # version that was made
    gate: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""  # promoted, rolled back, nothing admitted
    failed: bool = False  # rolled back because of an error, not by the gate
    reason: str = ""
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def next_step(self) -> str:
        """What follows when the present step has succeeded."""
        if self.step == ROLL_BACK:
            return "publish"
        order = STEPS[self.kind]
        following = order.index(self.step) + 1
        return order[following] if following < len(order) else DONE

    @property
    def trailer(self) -> str:
        """The line by which the run's commit is found again."""
        return f"Tmuad-Run: {self.run}"

    def with_decision(self, decision: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.decision == decision]


class Journal:
    """`Run` in a file; every change is on disk, whole, before the caller goes on."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path, self.run = path, run

    @classmethod
    def create(cls, path: Path, run: Run) -> "Journal":
        journal = cls(path, run)
        journal.save()
        return journal

    @classmethod
    def load(cls, path: Path) -> "Journal":
        """Raises ArtifactError if the file is missing or no journal of this version."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            arrivals = tuple(Arrival(**arrival) for arrival in content.pop("arrivals"))
            removed, warnings = tuple(content.pop("removed")), tuple(content.pop("warnings"))
            return cls(path, Run(**content, arrivals=arrivals, removed=removed, warnings=warnings))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{path}: no readable journal ({error}); look into {path.parent} for images, and remove the file"
            ) from None

    def update(self, **changes: Any) -> Run:
        self.run = replace(self.run, **changes)
        self.save()
        return self.run

    def warn(self, message: str) -> None:
        if message not in self.run.warnings:
            self.update(warnings=(*self.run.warnings, message))

    def save(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, (json.dumps(asdict(self.run), indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise TmuadError(
                f"{self.path}: cannot be written ({os.strerror(error.errno or 0)}); free some space, or make the folder "
                "writable; the next run goes on from here"
            ) from None


@dataclass(frozen=True)
class UnitState:
    """Where the runs of one unit keep what they need, relative to the folder of params.yaml."""

    unit: str
    base: Path = FOLDER

    @property
    def folder(self) -> Path:
        return self.base / self.unit

    @property
    def journal(self) -> Path:  # of the run that is under way
        return self.folder / "run.json"

    @property
    def before(self) -> Path:  # artifacts, dvc.lock and the data set's .dvc file as they were
        return self.folder / "before"

    @property
    def finished(self) -> Path:
        return self.folder / "runs"
