"""`python -m tmuad.arrivals guard|gate UNIT`: the steps of a run that need the banks, on the journal of that run."""

import os

# Before numpy is first imported: see tmuad/stages/__main__.py.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

if __name__ == "__main__":
    import sys

    from tmuad.stages.remote import serve_elsewhere

    if (_status := serve_elsewhere("tmuad.arrivals.__main__")) is not None:
        sys.exit(_status)

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from tmuad.arrivals.journal import Journal, UnitState  # noqa: E402
from tmuad.cache import write_atomic  # noqa: E402
from tmuad.config import Params, load_params  # noqa: E402
from tmuad.errors import ends_in_words  # noqa: E402
from tmuad.executors import executing  # noqa: E402
from tmuad.workspace import UnitPaths  # noqa: E402

LABELLED = "labelled.json"  # verdicts of the present banks on the labelled set, beside the journal


def run_guard(unit: str, params: Params) -> None:
    """Decide the arrivals in the journal, and ask the present banks about the labelled set while they are there."""
    from tmuad.arrivals.guard import guard

    journal = Journal.load(UnitState(unit).journal)
    decided = guard(unit, params, journal.run.arrivals)
    if any(arrival.decision == "admit" for arrival in decided):
        verdicts = json.dumps(labelled_verdicts(unit, params)).encode()
        write_atomic(UnitState(unit).folder / LABELLED, verdicts)
    journal.update(arrivals=decided, guarded=True)


def run_gate(unit: str, params: Params) -> None:
    """Hold the re-fitted banks against those kept in `before`, and ask the saved questions; the result goes to the journal."""
    from tmuad.arrivals.gate import Judged, compare
    from tmuad.arrivals.questions import ask_questions

    state = UnitState(unit)
    journal = Journal.load(state.journal)
    kept = state.folder / LABELLED
    old = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    new = labelled_verdicts(unit, params) if old else []
    before = Judged.read(UnitPaths(unit, state.before / "artifacts"), old)
    questions = ask_questions(unit, state.folder / "gate.duckdb")
    report = compare(before, Judged.read(UnitPaths(unit), new), params.refit.gate, questions)
    journal.update(gate=report.to_json())


def labelled_verdicts(unit: str, params: Params) -> list[dict[str, Any]]:
    """What the banks that are in place say of the labelled set; empty where there is none."""
    from tmuad.arrivals.labelled import read_labelled

    labelled = read_labelled(unit, params)
    if not labelled.images:
        return []
    from tmuad.arrivals.guard import Guard

    return [
        {
            "image_id": ref.image_id,
            "path": ref.path.as_posix(),
            "anomalous": anomalous,
            "score": said["score"],
            "alarm": said["verdict"] == "anomalous",
        }
        for ref, anomalous, (said, _) in zip(
            labelled.images, labelled.anomalous, Guard.load(unit, params).look(labelled.images), strict=True
        )
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tmuad.arrivals", description=__doc__)
    parser.add_argument("step", choices=("guard", "gate"))
    parser.add_argument("unit")
    options = parser.parse_args(arguments)
    with ends_in_words() as ended:
        params = load_params(Path("params.yaml"))
        params.unit(options.unit)
        with executing(params):
            {"guard": run_guard, "gate": run_gate}[options.step](options.unit, params)
    return ended.status


if __name__ == "__main__":
    sys.exit(main())
