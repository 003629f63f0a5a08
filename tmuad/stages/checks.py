"""The saved questions of data/queries, asked of the warehouse."""

import json
import logging

from tmuad.checks.saved import Outcome, failures, load_checks, run_checks
from tmuad.config import Params
from tmuad.errors import DataError
from tmuad.parquet import write_artifact
from tmuad.workspace import REPORTS, WAREHOUSE

log = logging.getLogger(__name__)


def run(params: Params) -> None:
    outcomes = run_checks(WAREHOUSE, load_checks())
    content = json.dumps([_row(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    write_artifact(REPORTS / "checks.json", (content + "\n").encode())
    for outcome in failures(outcomes):
        log.warning("%s", outcome)
    if stopping := failures(outcomes, "stop"):
        raise DataError("saved questions of level 'stop' have failed:\n" + "\n".join(map(str, stopping)))


def _row(outcome: Outcome) -> dict[str, object]:
    check = outcome.check
    return {
        "check": check.name,
        "title": check.title,
        "unit": check.unit,
        "level": check.level,
        "state": outcome.state,
        "expected": str(check.expectation),
        "answer": outcome.answer,
        "images": list(outcome.images),
    }
