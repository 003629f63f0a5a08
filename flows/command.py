"""`python -m flows.command refit|forget|rollback --unit U`: one run without Prefect, for people and plain cron jobs."""

import argparse
import sys

from flows import runs
from flows.summary import line
from tmuad.arrivals.journal import Run
from tmuad.errors import TmuadError


def say(message: str) -> None:
    print(message, flush=True)


def report(unit: str, run: Run | None) -> int:
    """The last line of a run, and its exit status: 0 done, 2 rolled back by the gate."""
    if run is None:
        say(f"{unit}: nothing has arrived")
        return 0
    say(f"{line(run)} {run.reason}".rstrip())
    for warning in run.warnings:
        say(f"warning: {warning}")
    return 2 if run.outcome == "rolled back" else 1 if run.warnings else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.command", description=__doc__)
    parser.add_argument("command", choices=("refit", "forget", "rollback"))
    parser.add_argument("argument", nargs="?", help="image id (forget) or version (rollback)")
    parser.add_argument("--unit", required=True)
    parser.add_argument("--wait", type=float, help="seconds to wait for another run (default: refit.lock_wait)")
    options = parser.parse_args(arguments)
    if (options.command == "refit") != (options.argument is None):
        parser.error(f"{options.command} takes {'no' if options.command == 'refit' else 'one'} argument")
    try:
        with runs.open_workspace(f"{options.command} of {options.unit}", say, options.wait) as workspace:
            if options.command == "refit":
                run = runs.refit(options.unit, workspace)
            elif options.command == "forget":
                run = runs.forget(options.unit, options.argument, workspace)
            else:
                run = runs.rollback(options.unit, options.argument, workspace)
            return report(options.unit, run)
    except (TmuadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
