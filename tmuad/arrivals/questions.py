"""The saved questions of data/queries in the gate: one of level `stop` that fails rolls the re-fit back."""

from pathlib import Path

from tmuad.arrivals.gate import Check
from tmuad.checks import load_checks, run_checks
from tmuad.checks.saved import Outcome
from tmuad.warehouse import build
from tmuad.workspace import ARTIFACTS


def ask_questions(unit: str, warehouse: Path) -> tuple[Check, ...]:
    """Every question of level `stop`, and those of level `report` that fail, asked of the unit's artifacts as they are.

    They see a warehouse of this unit alone, which is built at `warehouse` for the purpose and removed again: the one in
    reports/ is as old as the last `dvc repro warehouse`.

    Raises:
        DataError: a saved question cannot be understood.
        ArtifactError: the unit's artifacts make no warehouse.
    """
    questions = [check for check in load_checks() if check.unit in ("", unit)]
    if not questions:
        return ()
    try:
        build(warehouse, ARTIFACTS, [unit])
        outcomes = run_checks(warehouse, questions, unit)
    finally:
        warehouse.unlink(missing_ok=True)
    return tuple(_check(o) for o in outcomes if o.check.level == "stop" or o.state == "failed")


def _check(outcome: Outcome) -> Check:
    failed = outcome.state == "failed"
    images = f" ({'; '.join(outcome.images)})" if outcome.images else ""
    remark = "" if outcome.check.level == "stop" or not failed else "; it is reported, and stops nothing"
    passed = not failed or outcome.check.level != "stop"
    return Check(f"question '{outcome.check.title}'", float(failed), 0.0, passed, f"{outcome.answer}{images}{remark}")
