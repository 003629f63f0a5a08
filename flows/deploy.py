"""`python -m flows.deploy`: serve the flows of this workspace, by schedule and on arrival, until it is stopped.

It needs a Prefect server: `prefect server start`, and PREFECT_API_URL in the environment. `--once` needs none: it does
what the schedule would do now and ends, which suits a plain cron job.
"""

import argparse
import sys
import threading
from pathlib import Path

from flows import runs
from flows.command import report, say
from flows.watch import EVENT, RESOURCE, watch
from tmuad.config import Params, load_params
from tmuad.errors import ParameterError, TmuadError


def once(units: list[str] | None, wait: float | None) -> int:
    """Re-fit every unit that something has arrived for, without Prefect; the worst exit status."""
    statuses = []
    with runs.open_workspace("deploy --once", say, wait) as workspace:
        for unit in units or list(workspace.params.units):
            try:
                statuses.append(report(unit, runs.refit(unit, workspace, "schedule")))
            except (TmuadError, OSError) as error:
                print(f"error: {unit}: {error}", file=sys.stderr)
                statuses.append(1)
    return 1 if 1 in statuses else max(statuses, default=0)


def deploy(params: Params, name: str) -> None:
    """Serve; returns when the process is told to stop."""
    from prefect import serve
    from prefect.events import DeploymentEventTrigger, emit_event
    from prefect.schedules import Cron
    from prefect.settings import get_current_settings

    from flows.refit import refit
    from flows.reproduce import reproduce

    if not get_current_settings().api.url:
        raise ParameterError(
            "no Prefect server: start one with `prefect server start` and set PREFECT_API_URL (it prints the address), "
            "or use --once in a cron job"
        )
    settings = params.refit
    resource = f"{RESOURCE}.{name}"
    arrival = DeploymentEventTrigger(
        name=f"{name}: images have arrived",
        expect={EVENT},
        match={"prefect.resource.id": resource},
        parameters={"trigger": "arrival"},
    )
    deployments = [
        refit.to_deployment(
            name=name,
            schedule=Cron(settings.cron, timezone=settings.timezone),
            parameters={"trigger": "schedule"},
            triggers=[arrival],
            description=f"new normal images of {Path.cwd()}",
        ),
        reproduce.to_deployment(name=name, description=f"`dvc repro` of {Path.cwd()}"),
    ]

    def announce(units: set[str]) -> None:
        say(f"arrived: {', '.join(sorted(units))}")
        emit_event(EVENT, resource={"prefect.resource.id": resource}, payload={"units": sorted(units)})

    for unit in params.units:
        runs.has_arrivals(unit, params)  # makes the folders
    stop = threading.Event()
    arguments = (Path(settings.incoming), settings.debounce, announce, stop)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    try:
        serve(*deployments, limit=4)  # more than one may start; the workspace's lock lets one run at a time
    finally:
        stop.set()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__)
    parser.add_argument("--once", action="store_true", help="re-fit what has arrived now, without Prefect, and end")
    parser.add_argument("--units", nargs="+", help="with --once: keys of `units` in params.yaml; default: all")
    parser.add_argument("--wait", type=float, help="with --once: seconds to wait for another run")
    parser.add_argument("--name", default=Path.cwd().name, help="name of the deployments; default: the folder's")
    options = parser.parse_args(arguments)
    try:
        if options.once:
            return once(options.units, options.wait)
        deploy(load_params(Path("params.yaml")), options.name)
    except (TmuadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
