"""Prefect: the DVC stages as tasks, one per stage and unit, in graph order. `python -m flows.reproduce`.

The result is that of `dvc repro`: each task is `dvc repro --single-item` of its stage, after all that it needs.
"""

import argparse
import sys
import time
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import runs
from flows.dvc import Dvc, unit_ends
from tmuad.config import Params
from tmuad.errors import ParameterError, TmuadError
from tmuad.stages.__main__ import GLOBAL, PER_UNIT

_workspace: list[Dvc] = []


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def stage_task(stage: str) -> str:
    """Run one stage, if it is out of date: "ran" or "unchanged"."""
    return "ran" if _workspace[-1].call("reproduce", targets=[stage], single=True) else "unchanged"


@flow(name="reproduce", persist_result=False)
def reproduce(
    units: list[str] | None = None, until: str | None = None, keep_going: bool = False, wait: float | None = None
) -> State[Any]:
    """Bring `units` (default: everything) up to date, through the stage `until` (default: to the end)."""
    logger = get_run_logger()
    rows: list[dict[str, Any]] = []
    try:
        with runs.open_workspace("reproduce flow", logger.info, wait) as workspace:
            _workspace.append(workspace.dvc)
            try:
                plan = workspace.dvc.call("order", targets=targets(workspace.params, units, until))
                _run(plan, rows, keep_going)
            finally:
                _workspace.pop()
    except (TmuadError, OSError) as error:
        logger.error("%s", error)
        return Failed(message=str(error))
    create_table_artifact(rows, key="reproduce", description="stages in the order they ran")
    failed = [f"{row['stage']}: {row['detail']}" for row in rows if row["state"] == "failed"]
    counts = {word: sum(row["state"] == word for row in rows) for word in ("ran", "unchanged", "failed", "skipped")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return Failed(message=f"{told}; {'; '.join(failed)}") if failed else Completed(message=told)


def targets(params: Params, units: list[str] | None, until: str | None) -> list[str]:
    """What to ask DVC for. Raises ParameterError for a unit or stage that does not exist."""
    for unit in units or ():
        params.unit(unit)
    if until is None:
        return [end for unit in units or () for end in unit_ends(unit)]  # the reports need every unit
    if until in GLOBAL:
        return [until]
    if until not in PER_UNIT:
        raise ParameterError(f"--until {until}: no such stage; there are: {', '.join(PER_UNIT + GLOBAL)}")
    return [f"{until}@{unit}" for unit in units or params.units]


def _run(plan: list[dict[str, Any]], rows: list[dict[str, Any]], keep_going: bool) -> None:
    lost: set[str] = set()  # stages that failed, or need one that did
    for stage in plan:
        name, start = stage["name"], time.monotonic()
        state, detail = "skipped", ""
        if missing := sorted(lost.intersection(stage["needs"])):
            detail = f"needs {', '.join(missing)}"
        elif not lost or keep_going:
            try:
                state = stage_task(name)
            except TmuadError as error:
                state, detail = "failed", str(error)
        else:
            detail = "an earlier stage failed"
        if state in ("failed", "skipped"):
            lost.add(name)
        rows.append({"stage": name, "state": state, "seconds": round(time.monotonic() - start, 2), "detail": detail})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.reproduce", description=__doc__)
    parser.add_argument("--units", nargs="+", help="keys of `units` in params.yaml; default: all, and the reports")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--keep-going", action="store_true", help="after a failure, run what does not need it")
    parser.add_argument("--wait", type=float, help="seconds to wait for another run (default: refit.lock_wait)")
    options = parser.parse_args(arguments)
    state = reproduce(options.units, options.until, options.keep_going, options.wait, return_state=True)
    print(f"{state.name}: {state.message}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
