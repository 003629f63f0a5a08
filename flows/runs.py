"""From the journal to the end of a run: takes up what was interrupted, runs the steps, rolls back what fails."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import git, steps
from flows.dvc import Dvc, Log
from flows.preflight import preflight, tag_name
from flows.steps import Context, now
from flows.workspace_lock import workspace_lock
from tmuad.arrivals.journal import DONE, ROLL_BACK, STEPS, Journal, Run, UnitState
from tmuad.config import Params, load_params
from tmuad.errors import DataError, TmuadError
from tmuad.parquet import read_parquet
from tmuad.workspace import UnitPaths

RunStep = Callable[[str, Context], None]
ATTEMPTS = 3  # a step that has ended the process this often is not taken up again, but rolled back


class RunFailedError(TmuadError):
    """A run ended by an error; what it had changed is rolled back."""


@dataclass(frozen=True)
class Workspace:
    """An open workspace: its parameters, its lock held, DVC at hand."""

    params: Params
    dvc: Dvc
    log: Log


@contextmanager
def open_workspace(what: str, log: Log, wait: float | None = None, stage_server: bool = True) -> Iterator[Workspace]:
    """Hold the workspace in the current folder for one run. Raises BusyError, ParameterError."""
    params = load_params(Path("params.yaml"))
    patience = params.refit.lock_wait if wait is None else wait
    with (
        workspace_lock(what, patience, log) as lock,
        Dvc(log, params.refit.dvc_wait, lock, stage_server) as dvc,
    ):
        yield Workspace(params, dvc, log)


def plain_step(name: str, context: Context) -> None:
    """Without Prefect."""
    context.log(f"step {name}")
    steps.STEP[name](context)


def refit(unit: str, workspace: Workspace, trigger: str = "hand", run_step: RunStep = plain_step) -> Run | None:
    """Finish what an earlier run of `unit` left, then bring in what has arrived; None where nothing has.

    Raises:
        TmuadError: the workspace is not fit for a run, or a step failed (RunFailedError, after the roll-back).
    """
    workspace.params.unit(unit)
    resumed = recover(unit, workspace, run_step)
    if not has_arrivals(unit, workspace.params):
        if resumed is None and steps.push_is_pending(unit):
            return _push_again(unit, workspace)
        return resumed
    folder = Path(workspace.params.refit.incoming) / unit
    arriving = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    tracked = preflight(unit, workspace.params, workspace.dvc, arriving)
    return drive(_new(unit, "refit", trigger, workspace, tracked), run_step)


def forget(unit: str, image: str, workspace: Workspace, run_step: RunStep = plain_step) -> Run:
    """Take the normal image with the id `image` (or its first digits, or its path) out of the unit, and fit it anew."""
    workspace.params.unit(unit)
    recover(unit, workspace, run_step)
    tracked = preflight(unit, workspace.params, workspace.dvc)
    found = _normal_image(unit, image)
    return drive(_new(unit, "forget", "hand", workspace, tracked, removed=(found,)), run_step)


def rollback(unit: str, version: str, workspace: Workspace, run_step: RunStep = plain_step) -> Run:
    """Data set and banks of an earlier version, as a new version."""
    workspace.params.unit(unit)
    recover(unit, workspace, run_step)
    tracked = preflight(unit, workspace.params, workspace.dvc)
    if Path(tracked["path"]) != Path(workspace.params.unit(unit).root):
        raise DataError(
            f"{tracked['file']}: tracks {tracked['path']}, which holds more than the unit {unit}; all of it would go "
            "back. Track each unit's folder on its own to roll one back"
        )
    tags = git.git("tag", "--list", tag_name(unit, "*")).split()
    if tag_name(unit, version) not in tags:
        known = ", ".join(tag.rpartition("/")[2] for tag in tags) or "none yet"
        raise DataError(f"{unit}: no version '{version}'; there are: {known} (tmuad history --unit {unit})")
    return drive(_new(unit, "rollback", "hand", workspace, tracked, goal=version), run_step)


def recover(unit: str, workspace: Workspace, run_step: RunStep = plain_step) -> Run | None:
    """Complete or roll back the run that was interrupted; None if there was none."""
    state = UnitState(unit)
    if not state.journal.exists():
        shutil.rmtree(state.before, ignore_errors=True)  # of a run that had ended but for this
        return None
    journal = Journal.load(state.journal)
    run = journal.run
    workspace.log(f"taking up the {run.kind} {run.run}, interrupted at '{run.step}'")
    for lock in git.clear_stale_locks():
        workspace.log(f"{lock}: left by a killed git; removed")
    if run.attempts >= ATTEMPTS and not steps.is_final(run.step) and not git.commit_of(run.trailer):
        reason = f"the step '{run.step}' was interrupted {run.attempts + 1} times"
        journal.update(step=ROLL_BACK, reason=reason, failed=True, attempts=0)
    else:
        journal.update(attempts=run.attempts + 1)
    context = Context(unit, workspace.params, workspace.dvc, journal, workspace.log)
    steps.mend(context)
    return drive(context, run_step)


def drive(context: Context, run_step: RunStep) -> Run:
    """The steps from the journal's on.

    Raises:
        RunFailedError: a step failed; the run is rolled back, its reason on record.
    """
    journal = context.journal
    while journal.run.step != DONE:
        step = journal.run.step
        start = time.monotonic()
        try:
            run_step(step, context)
        except (TmuadError, OSError) as error:
            if steps.is_final(step) or git.commit_of(journal.run.trailer):
                raise  # the next run takes it up here
            context.log(f"error: {step}: {error}")
            journal.update(step=ROLL_BACK, reason=f"{step}: {error}", failed=True, attempts=0)
            continue
        run = journal.run
        following = run.next_step
        if step == "gate" and not run.gate["passed"]:
            following = ROLL_BACK
            journal.update(reason=f"gate: {run.gate['reason']}")
        elif run.outcome == "nothing admitted" and step in ("guard", "admit"):
            following = "publish"
        elapsed = {**run.seconds, step: round(time.monotonic() - start, 2)}
        journal.update(step=following, seconds=elapsed, attempts=0)
    return _finish(context)


def has_arrivals(unit: str, params: Params) -> bool:
    """Whether there is any file in the incoming folder; makes the folder, so that people know where it is."""
    folder = Path(params.refit.incoming) / unit
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*"))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); is its disk there?") from None


def _new(unit: str, kind: str, trigger: str, workspace: Workspace, tracked: dict[str, str], **more: Any) -> Context:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    run = Run(
        run=name,
        unit=unit,
        kind=kind,
        trigger=trigger,
        started=now(),
        step=STEPS[kind][0],
        base=git.head(),
        data_file=tracked["file"],
        data_path=tracked["path"],
        **more,
    )
    journal = Journal.create(UnitState(unit).journal, run)
    return Context(unit, workspace.params, workspace.dvc, journal, workspace.log)


def _finish(context: Context) -> Run:
    """The journal among the finished ones, what was kept aside gone."""
    run, state = context.run, context.state
    state.finished.mkdir(parents=True, exist_ok=True)
    context.journal.path.replace(state.finished / f"{run.run}.json")
    shutil.rmtree(state.before, ignore_errors=True)
    (state.folder / "labelled.json").unlink(missing_ok=True)
    if run.failed:
        raise RunFailedError(f"{run.unit}: rolled back after an error: {run.reason}")
    return run


def _push_again(unit: str, workspace: Workspace) -> Run | None:
    """The last version did not reach the remote."""
    tracked = workspace.dvc.call("tracked", path=workspace.params.unit(unit).root)
    run = Run("push", unit, "refit", "hand", now(), "publish", data_file=tracked.get("file", ""))
    context = Context(unit, workspace.params, workspace.dvc, Journal(Path(".refit/push-run.json"), run), workspace.log)
    steps.push(context)
    return context.run if context.run.warnings else None


def _normal_image(unit: str, image: str) -> dict[str, str]:
    rows = read_parquet(UnitPaths(unit).manifest, ["image_id", "path", "split"]).to_pylist()
    normal = [row for row in rows if row["split"] != "test"]
    found = [row for row in normal if image in (row["image_id"], row["path"])]
    found = found or [row for row in normal if len(image) >= 6 and row["image_id"].startswith(image)]
    if len(found) != 1:
        why = "stands for several images" if found else "is no normal image of this unit"
        raise DataError(f"{unit}: '{image}' {why}; give the image id or path as in: tmuad sql \"FROM images\"")
    return {"image_id": found[0]["image_id"], "path": found[0]["path"]}
