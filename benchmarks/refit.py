"""What re-fitting costs and what the guard stops, measured in workspaces of their own under a temporary folder.

    python benchmarks/refit.py cost [--images 100] [--size 448]
    python benchmarks/refit.py prefect [--runs 3]
    python benchmarks/refit.py poison FOLDER [--good 20] [--bad 10] [--kind logical|structural|both] [--cache DIR]
    python benchmarks/refit.py guard artifacts/UNIT ... [--good 20] [--bad 10] [--draws 10000]

cost: a unit of that many normal images is fitted from nothing by `dvc repro`, then one new image comes in by
`tmuad refit`; both times are wall clock and include everything, from the start of the first process to the end of the last.
prefect: `python -m flows.reproduce` against `dvc repro` on a unit where nothing is out of date.
poison: FOLDER is a category in the MVTec LOCO layout. Good test images and anomalous ones arrive together at a unit that is
fitted on its training images alone; counted is what the guard sends to quarantine.
guard: the same for many draws and several settings of `refit.guard`, from the scores of a fitted unit's test images: the
share of each kind in quarantine, and how often a draw meets "9 of 10 anomalous, at most 2 of 20 good" and its halves.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

SOURCE = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GIT_AUTHOR_NAME": "Benchmark", "GIT_AUTHOR_EMAIL": "benchmark@example.com",
    "GIT_COMMITTER_NAME": "Benchmark", "GIT_COMMITTER_EMAIL": "benchmark@example.com",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}  # fmt: skip


def run(folder: Path, *command: str, check: bool = True) -> tuple[float, str]:
    """Seconds and output."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder)}, text=True, capture_output=True, check=False
    )
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def workspace(folder: Path, data: Path, size: int, cache: Path | None = None) -> Path:
    """A repository with the unit `kit` in the folder `data`, which is moved there."""
    folder.mkdir()
    for name in ("tmuad", "flows"):
        shutil.copytree(SOURCE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(SOURCE / name, folder)
    for name in ("names", "catalog", "corrections", "arrivals", "queries"):
        shutil.copytree(SOURCE / "data" / name, folder / "data" / name)
    for name in ("models", "profiles"):
        shutil.copytree(SOURCE / name, folder / name)
    shutil.move(data, folder / "data/kit")
    params = yaml.safe_load((SOURCE / "params.yaml").read_text())
    params["units"] = {"kit": {"root": "data/kit", "layout": "mvtec_loco"}}
    params["data"]["size"] = size
    if cache:
        params["data"]["cache"] = str(cache.resolve())
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "add", "-q", "data/kit"]):
        run(folder, *command)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "--allow-empty", "-m", "state")


def vouch(folder: Path, *paths: Path) -> None:
    """A person's word for these images, so that the guard cannot stop what is to be timed."""
    import hashlib

    rulings = folder / "data/quarantine/kit/rulings.json"
    rulings.parent.mkdir(parents=True, exist_ok=True)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    rulings.write_text(json.dumps(dict.fromkeys(digests, "released")))


def drawn(folder: Path, images: int) -> Path:
    """A drawn data set of `images` normal images, a fifth of them held out, and a test split in proportion."""
    from tmuad.config import DemoParams
    from tmuad.data.demo.generate import generate

    held_out = images // 5
    demo = DemoParams(
        categories=("hardware_kit",),
        train=images - held_out,
        validation=held_out,
        test_good=max(2, images // 5),
        per_fault=2,
    )
    generate(folder, demo)
    return folder / "hardware_kit"


def new_image(path: Path) -> Path:
    from PIL import Image

    from tmuad.config import DemoParams
    from tmuad.data.demo.generate import SUPERSAMPLE, draw_good, make_atlas

    demo = DemoParams()
    _, photo = draw_good("hardware_kit", "train", 5000, demo, make_atlas(demo.size * SUPERSAMPLE, demo.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path)
    return path


def cost(options: argparse.Namespace, base: Path) -> None:
    folder = workspace(base / "ws", drawn(base, options.images), options.size)
    full, _ = run(folder, "dvc", "repro", "evaluate@kit", "context@kit")
    commit(folder)
    vouch(folder, new_image(folder / "data/incoming/kit/new.png"))
    part, output = run(folder, sys.executable, "-m", "tmuad.cli", "refit", "--unit", "kit", check=False)
    journal = json.loads(next((folder / ".refit/kit/runs").glob("*.json")).read_text())
    print(f"{options.images} normal images, {options.size} px, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"full fit (dvc repro)     {full:7.1f} s")
    print(f"re-fit with 1 new image  {part:7.1f} s   {part / full:.1%}   {output.strip().splitlines()[-1]}")
    for step, seconds in journal["seconds"].items():
        print(f"  {step:10} {seconds:7.2f} s")


def prefect(options: argparse.Namespace, base: Path) -> None:
    folder = workspace(base / "ws", drawn(base, 10), 64)
    run(folder, "dvc", "repro", "evaluate@kit", "context@kit")
    commit(folder)
    plain, flow, tasks = [], [], 0
    for _ in range(options.runs):
        plain.append(run(folder, "dvc", "repro", "evaluate@kit", "context@kit")[0])
        seconds, output = run(folder, sys.executable, "-m", "flows.reproduce", "--units", "kit")
        flow.append(seconds)
        tasks = int(output.strip().splitlines()[-1].split()[1])
    overhead = statistics.median(f - p for f, p in zip(flow, plain, strict=True))
    print(f"{tasks} tasks, {options.runs} runs, no server, load {os.getloadavg()[0]:.1f}")
    for name, values in (("dvc repro", plain), ("flows.reproduce", flow)):
        print(f"{name:16} {statistics.median(values):6.1f} s  ({min(values):.1f} to {max(values):.1f})")
    print(f"overhead         {overhead:6.1f} s  (allowed: {20 + 0.2 * tasks:.1f} s)")


def poison(options: argparse.Namespace, base: Path) -> None:
    """Good test images arrive with anomalous ones; the unit keeps train and validation alone."""
    source, data = options.folder, base / "data"
    for split in ("train", "validation"):
        if (source / split).is_dir():
            shutil.copytree(source / split, data / split, copy_function=shutil.copyfile)
    folder = workspace(base / "ws", data, options.size, options.cache)
    kinds = ["logical_anomalies", "structural_anomalies"] if options.kind == "both" else [f"{options.kind}_anomalies"]
    rng = random.Random(options.seed)
    good = rng.sample(sorted((source / "test/good").iterdir()), options.good)
    bad = [
        path
        for i, kind in enumerate(kinds)
        for path in rng.sample(
            sorted((source / "test" / kind).iterdir()), options.bad // len(kinds) + (i < options.bad % len(kinds))
        )
    ]
    for path, name in [(p, f"good-{p.name}") for p in good] + [(p, f"{p.parent.name}-{p.name}") for p in bad]:
        target = folder / "data/incoming/kit" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    run(folder, "dvc", "repro", "evaluate@kit", "context@kit")
    commit(folder)
    _, output = run(folder, sys.executable, "-m", "tmuad.cli", "refit", "--unit", "kit", check=False)
    journal = json.loads(next((folder / ".refit/kit/runs").glob("*.json")).read_text())
    print(
        f"{source.name}: {len(bad)} anomalous ({options.kind}) among {len(good) + len(bad)} arriving, seed {options.seed}"
    )
    for kind in ("good", *kinds):
        mine = [a for a in journal["arrivals"] if a["name"].startswith(f"{kind}-")]
        counts = {d: sum(a["decision"] == d for a in mine) for d in ("admit", "quarantine", "reject")}
        print(f"  {kind:22} {counts}")
    print(f"  {output.strip().splitlines()[-1]}")


def guard(options: argparse.Namespace, base: Path) -> None:
    """What `refit.guard` trades: no image is scored anew, a test image arrives as a new one would."""
    import numpy as np
    import pandas as pd

    from tmuad.score.fuse import load_calibration
    from tmuad.score.tail import rarity

    for folder in options.folders:
        calibration = load_calibration(folder / "calibration.json")
        manifest, scores = (pd.read_parquet(folder / f"{name}.parquet") for name in ("manifest", "scores"))
        test = manifest[manifest["split"] == "test"].merge(scores[["image_id", "score"]], on="image_id")
        held_out = int((manifest["split"] == "validation").sum())
        print(
            f"{folder.name}: {held_out} held-out images; "
            + ", ".join(f"{n} {k}" for k, n in test["kind"].value_counts().items())
        )
        rare = np.array([rarity(score, calibration) for score in test["score"]])
        for level in (0.0, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2):
            kept = (test["score"] > calibration.threshold) | (rare <= level)
            shares = ", ".join(f"{kind} {kept[test['kind'] == kind].mean():.0%}" for kind in test["kind"].unique())
            rng = np.random.default_rng(0)
            told = []
            for kind in ("logical", "structural", "either"):
                bad = kept[test["kind"].isin([kind] if kind != "either" else ["logical", "structural"])].to_numpy()
                good = kept[test["kind"] == "good"].to_numpy()
                if len(bad) < options.bad or len(good) < options.good:
                    continue
                draws = [
                    (
                        rng.choice(bad, options.bad, replace=False).sum(),
                        rng.choice(good, options.good, replace=False).sum(),
                    )
                    for _ in range(options.draws)
                ]
                caught, spared = (np.array(column) for column in zip(*draws, strict=True))
                enough, few = caught >= 0.9 * options.bad, spared <= 0.1 * options.good
                told.append(f"{kind} {(enough & few).mean():.0%} (caught {enough.mean():.0%}, spared {few.mean():.0%})")
            print(f"  guard {level:<5g} in quarantine: {shares}; draws that meet both: {'; '.join(told)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers()
    part = what.add_parser("cost")
    part.add_argument("--images", type=int, default=100)
    part.add_argument("--size", type=int, default=448)
    part.set_defaults(measure=cost)
    part = what.add_parser("prefect")
    part.add_argument("--runs", type=int, default=3)
    part.set_defaults(measure=prefect)
    part = what.add_parser("poison")
    part.add_argument("folder", type=Path)
    part.add_argument("--good", type=int, default=20)
    part.add_argument("--bad", type=int, default=10)
    part.add_argument("--kind", choices=("logical", "structural", "both"), default="both")
    part.add_argument("--size", type=int, default=448)
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--cache", type=Path, help="per-image cache that several measurements share")
    part.set_defaults(measure=poison)
    part = what.add_parser("guard")
    part.add_argument("folders", type=Path, nargs="+", help="artifacts of fitted units")
    part.add_argument("--good", type=int, default=20)
    part.add_argument("--bad", type=int, default=10)
    part.add_argument("--draws", type=int, default=10_000)
    part.set_defaults(measure=guard)
    for arguments in [sys.argv[1:]] if sys.argv[1:] else [["cost"], ["prefect"]]:
        options = parser.parse_args(arguments)
        with tempfile.TemporaryDirectory() as base:
            options.measure(options, Path(base))


if __name__ == "__main__":
    main()
