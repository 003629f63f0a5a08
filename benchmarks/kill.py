"""SIGKILL at every step of a re-fit, at random moments within it; then the next run, held against an undisturbed one.

    python benchmarks/kill.py [--times 10] [--steps inspect guard ...] [--seed 0]

For each kill: a copy of a fitted workspace, a run that is killed (with its whole process group) some time after its
journal names the step, and the next run. Afterwards no image may be lost or there twice, the tree must be clean, and the
banks must have the bytes of the undisturbed run. About half a minute for each kill.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from refit_workspace import ENVIRONMENT, UNIT, all_images, arrive, banks, build, copy, fit, python, run

from flows.dvc import unit_ends
from tmuad.arrivals.journal import STEPS


def step_in(journal: Path) -> str:
    try:
        return str(json.loads(journal.read_text())["step"])
    except (OSError, ValueError):
        return ""


def killed_run(folder: Path, step: str, delay: float) -> str:
    """Where the run was when it was killed; empty if it ended before that."""
    journal = folder / f".refit/{UNIT}/run.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.command", "refit", "--unit", UNIT],
        cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None:
        if step_in(journal) == step:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return step_in(journal)
        time.sleep(0.001)
    return ""


def problems(folder: Path, images: list[str], expected: dict[str, bytes]) -> list[str]:
    found = []
    if all_images(folder) != images:
        found.append("images lost or doubled")
    if banks(folder) != expected:
        found.append("other banks")
    if run(folder, "git", "status", "--porcelain", "--untracked-files=no").stdout:
        found.append("tree not clean")
    if not python(folder, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date."):
        found.append("stages out of date")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="kills of each step")
    parser.add_argument("--steps", nargs="+", default=STEPS["refit"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        build(base / "fitted")
        fit(base / "fitted")
        undisturbed = copy(base / "fitted", base / "undisturbed")
        arrive(undisturbed, "a.png", "b.png")
        python(undisturbed, "-m", "flows.command", "refit", "--unit", UNIT)
        expected = banks(undisturbed)
        journal = json.loads(next((undisturbed / f".refit/{UNIT}/runs").glob("*.json")).read_text())
        failures = 0
        for step in options.steps:
            for number in range(options.times):
                folder = copy(base / "fitted", base / f"{step}-{number}")
                arrive(folder, "a.png", "b.png")
                images = all_images(folder)
                delay = rng.uniform(0, journal["seconds"].get(step, 0.1))
                where = killed_run(folder, step, delay)
                python(folder, "-m", "flows.command", "refit", "--unit", UNIT, "--wait", "60")
                wrong = problems(folder, images, expected)
                failures += bool(wrong)
                told = f"killed in {where}" if where else "ended before the kill"
                print(f"{step:8} {delay:6.2f} s  {told:24} {'; '.join(wrong) or 'as undisturbed'}", flush=True)
                subprocess.run(["rm", "-rf", str(folder)], check=True)
    sys.exit(f"{failures} of {len(options.steps) * options.times} failed" if failures else 0)


if __name__ == "__main__":
    main()
