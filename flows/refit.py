"""Prefect: re-fit units when new normal images have arrived. `python -m flows.refit [--units U ...]`.

Each step is a task that takes the unit's and the step's name. What the steps share (the DVC worker, the journal) stays in
this process; how far a run got stands in its journal, so a flow run that was killed is taken up by the next one.
"""

import argparse
import sys
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import runs, steps
from flows.summary import artifact_key, flip_rows, line, markdown, picture
from tmuad.arrivals.journal import Run
from tmuad.errors import TmuadError

_contexts: dict[str, steps.Context] = {}


@task(name="step", task_run_name="{step} {unit}", cache_policy=NO_CACHE, persist_result=False)
def step_task(unit: str, step: str) -> None:
    """One step of a run; not retried, because what computes is not tried twice."""
    steps.STEP[step](_contexts[unit])


@task(name="summary", task_run_name="summary {unit}", cache_policy=NO_CACHE, persist_result=False)
def summary_task(unit: str, run: dict[str, Any]) -> None:
    """The run in Prefect's artifacts: a summary, the flipped verdicts, pictures of what is in quarantine."""
    key = artifact_key(f"refit-{unit}")
    create_markdown_artifact(markdown(run), key=key, description=f"{unit}: {run['outcome']} {run['version']}")
    if rows := flip_rows(run):
        create_table_artifact(rows, key=f"{key}-flips", description=f"{unit}: verdicts that changed")
    if url := picture(run):
        create_image_artifact(url, key=f"{key}-quarantine", description=f"{unit}: in quarantine")


def run_step(name: str, context: steps.Context) -> None:
    _contexts[context.unit] = context
    try:
        step_task(context.unit, name)
    finally:
        _contexts.pop(context.unit, None)


@flow(name="refit", flow_run_name="refit ({trigger})", persist_result=False)
def refit(units: list[str] | None = None, trigger: str = "hand", wait: float | None = None) -> State[Any]:
    """Bring in what lies in data/incoming/ of `units` (default: all), one unit after the other.

    Completed: promoted, rolled back by the gate, or nothing to do. Failed: an error, in words.
    """
    logger = get_run_logger()
    done: list[Run] = []
    failures: list[str] = []
    try:
        with runs.open_workspace(f"refit flow ({trigger})", logger.info, wait) as workspace:
            for unit in units or list(workspace.params.units):
                try:
                    run = runs.refit(unit, workspace, trigger, run_step)
                except (TmuadError, OSError) as error:
                    logger.error("%s: %s", unit, error)
                    failures.append(f"{unit}: {error}".replace(f"{unit}: {unit}:", f"{unit}:"))
                    continue
                if run is not None:
                    summary_task(unit, steps.summary(run))
                    done.append(run)
                    failures.extend(run.warnings)
    except (TmuadError, OSError) as error:
        logger.error("%s", error)
        failures.append(str(error))
    if failures:
        return Failed(message="; ".join([*failures, *map(line, done)]))
    if any(run.outcome == "rolled back" for run in done):
        told = (f"{line(run)} {run.reason}".rstrip() for run in done)
        return Completed(message="; ".join(told), name="RolledBack")
    return Completed(message="; ".join(map(line, done)) or "nothing has arrived")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.refit", description=__doc__)
    parser.add_argument("--units", nargs="+", help="keys of `units` in params.yaml; default: all")
    parser.add_argument("--wait", type=float, help="seconds to wait for another run (default: refit.lock_wait)")
    options = parser.parse_args(arguments)
    state = refit(options.units, "hand", options.wait, return_state=True)
    print(f"{state.name}: {state.message}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
