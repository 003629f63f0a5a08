"""SIGKILL at every step of a re-fit, at random moments within it; then the next run, held against an undisturbed one.

    python benchmarks/kill.py [--times 10] [--steps inspect guard ... roll_back] [--minutes 25] [--seed 0]

For each kill: a copy of a fitted workspace, a run that is killed (with its whole process group) some time after its
journal names the step, and the next run. Afterwards no image may be lost or there twice, the tree must be clean, the
history must name the outcome once, and the banks must have the bytes of the undisturbed run. Step 6 has two ways to end,
so `roll_back` is killed as well: in a workspace whose gate lets nothing pass.

Most of a run is start-up and the stages of a tiny unit. A kill that comes after the stages does not ask them to compute
once more: DVC's run cache has what the undisturbed run made of the same images. Ten kills of each of the eight steps take
about 25 minutes of one core.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from refit_workspace import ENVIRONMENT, UNIT, all_images, arrive, banks, build, copy, fit, python, run, set_refit

from flows.dvc import unit_ends
from tmuad.arrivals.journal import ROLL_BACK, STEPS

COMMAND = ("-m", "flows.command", "refit", "--unit", UNIT)
AFTER_STAGES = ("gate", "promote", "publish", ROLL_BACK)


@dataclass(frozen=True)
class Undisturbed:
    """A fitted workspace, and what a run of two images that nobody disturbs makes of it."""

    start: Path
    remembered: Path  # as `start`, with this run's results in DVC's run cache
    banks: dict[str, bytes]
    history: list[tuple[str, str, int]]  # outcome, version, images added; of each record
    seconds: dict[str, float]  # of each step

    @classmethod
    def measure(cls, start: Path, folder: Path) -> "Undisturbed":
        copy(start, folder)
        arrive(folder, "a.png", "b.png")
        python(folder, *COMMAND, check=False)
        journal = json.loads(next((folder / f".refit/{UNIT}/runs").glob("*.json")).read_text())
        remembered = copy(start, folder.with_name(f"{folder.name}-remembered"))
        shutil.copytree(folder / ".dvc/cache", remembered / ".dvc/cache", dirs_exist_ok=True)
        return cls(start, remembered, banks(folder), history(folder), journal["seconds"])

    def problems(self, folder: Path, images: list[str]) -> list[str]:
        """How `folder`, in which `images` were before the kill, differs after the next run."""
        found = []
        if all_images(folder) != images:
            found.append("images lost or doubled")
        if banks(folder) != self.banks:
            found.append("other banks")
        if history(folder) != self.history:
            found.append(f"history {history(folder)}")
        if run(folder, "git", "status", "--porcelain", "--untracked-files=no").stdout:
            found.append("tree not clean")
        if not python(folder, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date."):
            found.append("stages out of date")
        return found


def history(folder: Path) -> list[tuple[str, str, int]]:
    lines = (folder / f"data/history/{UNIT}.jsonl").read_text().splitlines()
    return [(r["outcome"], r["version"], len(r["added"])) for r in map(json.loads, lines)]


def step_in(journal: Path) -> str:
    try:
        return str(json.loads(journal.read_text())["step"])
    except (OSError, ValueError):
        return ""


def killed_run(folder: Path, step: str, delay: float) -> str:
    """Where the run was when it was killed, `delay` seconds into the step or as it left it; empty if it ended before."""
    journal = folder / f".refit/{UNIT}/run.json"
    process = subprocess.Popen(
        [sys.executable, *COMMAND],
        cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None:
        if step_in(journal) == step:
            end = time.monotonic() + delay
            while (where := step_in(journal)) == step and time.monotonic() < end:
                time.sleep(0.0005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return where
        time.sleep(0.0005)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="kills in each step; what comes too late is tried again")
    parser.add_argument("--steps", nargs="+", default=[*STEPS["refit"], ROLL_BACK])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further kill after so long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        build(base / "fitted")
        fit(base / "fitted")
        passes = Undisturbed.measure(base / "fitted", base / "promoted")
        set_refit(copy(base / "fitted", base / "strict"), gate={"shift": 1e-9})
        fails = Undisturbed.measure(base / "strict", base / "rolled-back")
        killed, failed, late = Counter[str](), Counter[str](), Counter[str]()
        print(f"seconds undisturbed: {passes.seconds} and {fails.seconds}", flush=True)
        end = time.monotonic() + 60 * options.minutes
        for number in range(3 * options.times):  # round by round, so that what is cut short has killed every step alike
            for step in options.steps:
                if killed[step] == options.times or time.monotonic() > end:
                    continue
                began = time.monotonic()
                goal = fails if step == ROLL_BACK else passes
                start = goal.remembered if step in AFTER_STAGES else goal.start
                folder = copy(start, base / f"{step}-{number}")
                arrive(folder, "a.png", "b.png")
                images = all_images(folder)
                delay = rng.uniform(0, goal.seconds.get(step, 0.1))
                where = killed_run(folder, step, delay)
                python(folder, *COMMAND, "--wait", "60", check=False)
                wrong = goal.problems(folder, images)
                killed[step] += where == step
                late[step] += where != step
                failed[step] += bool(wrong)
                told = f"killed in {where}" if where else "ended before the kill"
                took = f"({time.monotonic() - began:.0f} s)"
                print(f"{step:9} {delay:6.2f} s  {told:24} {'; '.join(wrong) or 'as undisturbed'} {took}", flush=True)
                shutil.rmtree(folder)
    print(f"\n{'step':9} {'killed in it':>12} {'just after':>12} {'differs':>9}")
    for step in options.steps:
        print(f"{step:9} {killed[step]:12} {late[step]:12} {failed[step]:9}")
    sys.exit(f"{failed.total()} of {killed.total() + late.total()} differ" if failed.total() else 0)


if __name__ == "__main__":
    main()
