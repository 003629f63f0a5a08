"""Images per second of `tmuad score` on a folder, with one process and with all cores, beside anomalib's PatchCore.

    python benchmarks/throughput.py [--unit U] [--images 40] [--sizes 224 448] [--train 0] [--limit 1200] [--no-patchcore]

The unit (by default the first of params.yaml) must be fitted. Each contender runs in a process of its own and gets the same
test images, file reading included: ours writes verdicts, reasons and heat maps; PatchCore has a backbone with random
weights, as nothing is downloaded, so its AUROC here is no measure of what it does with pre-trained ones. Its time is.

Rates are given in images per second of wall clock, start-up (imports, loading the banks) left out and counted in, and in
images per CPU second, which others at work on the machine change less. PatchCore is fitted first, untimed here: on --train
normal images (0: all). A run that does not end within --limit seconds is said to be so, with how far it came.
The last lines hold ours, with all cores, against each PatchCore. Ours at another size: fit a workspace with that `data.size`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

SOURCE = Path(__file__).resolve().parent.parent


def ours(folder: Path, unit: str, workers: int, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`tmuad score` as a user calls it, with `data.workers` changed; its lines carry the time they came."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    size = params["data"]["size"]
    params["data"]["workers"] = workers
    with tempfile.TemporaryDirectory() as place:
        for name in ("artifacts", "data", "profiles"):
            (Path(place) / name).symlink_to(Path(name).resolve())
        (Path(place) / "params.yaml").write_text(yaml.safe_dump(params))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "tmuad.cli", "score", str(folder), "--unit", unit, "--json", "--out", str(out)]
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            lines = [(time.perf_counter(), json.loads(line)) for line in running.stdout]
        if running.returncode:
            sys.exit(f"tmuad score ended with {running.returncode}")
        end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = [moment for moment, _ in lines]
    # Between the first outcome of each process and the last of all.
    warm = (len(times) - workers) / (times[-1] - times[workers - 1])
    figures = {"name": f"tmuad score, {workers} process{'es' * (workers > 1)}", "size": size}
    return figures | {"warm": warm, "whole": len(lines) / (end - start), "cpu": len(lines) / cpu}, [o for _, o in lines]


def patchcore(given: dict[str, Any]) -> None:
    """Fit and predict through anomalib's own engine; each image predicted is a line of standard output with all so far."""
    import torch
    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from anomalib.models import Patchcore
    from lightning.pytorch import Callback
    from torch.utils.data import ConcatDataset, DataLoader

    scores: list[float] = []

    class Clock(Callback):  # type: ignore[misc]
        def on_predict_start(self, *_: Any) -> None:
            self.start = self.end = time.perf_counter(), time.process_time()

        def on_predict_batch_end(self, _trainer: Any, _module: Any, outputs: Any, *_: Any) -> None:
            self.end = time.perf_counter(), time.process_time()
            wall, cpu = (b - a for a, b in zip(self.start, self.end, strict=True))
            scores.append(float(outputs.pred_score[0]))
            print(json.dumps({"scores": scores, "warm": len(scores) / wall, "cpu": len(scores) / cpu}), flush=True)

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    size, clock = (given["size"], given["size"]), Clock()
    model = Patchcore(
        given["backbone"], coreset_sampling_ratio=given["coreset"], pre_processor=Patchcore.configure_pre_processor(size),
        post_processor=False, evaluator=False, visualizer=False, pre_trained=False,
    )  # fmt: skip
    engine = Engine(callbacks=[clock], default_root_dir=given["work"], accelerator="cpu", logger=False)

    def loader(files: list[str], batch: int) -> Any:
        parts = [PredictDataset(Path(file), image_size=size) for file in files]
        return DataLoader(ConcatDataset(parts), batch_size=batch, collate_fn=parts[0].collate_fn, num_workers=0)

    engine.fit(model, train_dataloaders=loader(given["train"], 8))
    engine.predict(model, dataloaders=loader(given["test"], 1))


def limited(given: dict[str, Any], limit: float) -> tuple[dict[str, Any], str]:
    """PatchCore in a process of its own: its figures, of as many images as it came to, and a remark where that is not all."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with subprocess.Popen(
            [sys.executable, __file__, "--child"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            text=True,
            env=environment,
        ) as running:
            try:
                running.communicate(json.dumps(given), timeout=limit)
            except subprocess.TimeoutExpired:
                running.kill()
        out.seek(0)
        err.seek(0)
        lines = [line for line in out.read().splitlines() if line.startswith('{"scores"')]
        if running.returncode > 0:
            sys.exit(err.read()[-3000:])
    result = json.loads(lines[-1]) if lines else {"scores": [], "warm": float("nan"), "cpu": float("nan")}
    done, asked = len(result["scores"]), len(given["test"])
    what = f"{done} of {asked} images" if done else f"was still being fitted on {len(given['train'])} images"
    return result, "" if done == asked else f"stopped after {limit:.0f} s: {what}"


def measure(options: argparse.Namespace) -> None:
    from tmuad.parquet import read_parquet
    from tmuad.workspace import UnitPaths

    params = yaml.safe_load(Path("params.yaml").read_text())
    unit = options.unit or next(iter(params["units"]))
    root = Path(params["units"][unit]["root"]).resolve()
    if not UnitPaths(unit).calibration.exists():
        sys.exit(f"{unit}: not fitted; run: dvc repro fuse@{unit}")
    manifest = read_parquet(UnitPaths(unit).manifest, ["path", "split", "kind"]).to_pylist()
    train = [str(root / row["path"]) for row in manifest if row["split"] == "train"][: options.train or None]
    test = [row for row in manifest if row["split"] == "test"]
    kinds = ("good", "logical", "structural")
    chosen = [row for kind in kinds for row in [r for r in test if r["kind"] == kind][: -(-options.images // 3)]]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        folder.mkdir()
        for number, row in enumerate(chosen):
            (folder / f"{number:04}{Path(row['path']).suffix}").symlink_to(root / row["path"])
        said, results = [], []
        for workers in sorted({1, cores}):
            figures, outcomes = ours(folder, unit, workers, Path(place) / "heat")
            results.append(figures)
            said.append(outcomes)
        same = all(outcomes == said[0] for outcomes in said)
        scores = {"ours": [outcome["score"] for outcome in said[0]]}
        for size in options.sizes if options.patchcore else []:
            given = {
                "train": train, "test": [str(root / row["path"]) for row in chosen], "work": place, "size": size,
                "backbone": options.backbone, "coreset": options.coreset,
            }  # fmt: skip
            result, remark = limited(given, options.limit)
            scores[f"{size}"] = result.pop("scores")
            name = f"anomalib PatchCore, {options.backbone}, {cores} threads"
            results.append(result | {"name": name, "size": size, "whole": float("nan"), "remark": remark})
    print(f"{unit}: {len(chosen)} images, load {os.getloadavg()[0]:.1f} on {cores} cores, priority {os.nice(0)}")
    print(f"outcomes of {' and '.join(map(str, sorted({1, cores})))} processes are {'equal' if same else 'NOT EQUAL'}")
    print(f"{'':50} {'px':>5} {'images/s':>10} {'with start':>11} {'per CPU s':>10}")
    for r in results:
        print(
            f"{r['name']:50} {r['size']:5} {r['warm']:10.2f} {r['whole']:11.2f} {r['cpu']:10.2f} {r.get('remark', '')}"
        )
    if options.patchcore:
        print(f"PatchCore was fitted on {len(train)} images")
    kind = np.array([row["kind"] for row in chosen])
    for name, values in scores.items():
        for anomaly in kinds[1:]:
            seen = kind[: len(values)]
            part = (seen == "good") | (seen == anomaly)
            if len(set(seen[part])) < 2:
                continue
            auroc = roc_auc_score(seen[part] == anomaly, np.array(values)[part])
            print(f"image AUROC, {anomaly}, {name if name == 'ours' else f'PatchCore at {name} px'}: {100 * auroc:.1f}")
    mine = results[len(said) - 1]
    for r in results[len(said) :]:
        wall, cpu = mine["warm"] / r["warm"], mine["cpu"] / r["cpu"]
        print(
            f"ours at {mine['size']} px, {mine['name'].split(', ')[1]}, is {wall:.2f} times as fast as PatchCore at "
            f"{r['size']} px by the clock, {cpu:.2f} times by CPU time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--patchcore", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--backbone", default="wide_resnet50_2", help="of PatchCore, a name of timm's; its own default")
    parser.add_argument("--coreset", type=float, default=0.01, help="share of patches that PatchCore keeps")
    parser.add_argument("--train", type=int, default=0, help="normal images that PatchCore is fitted on, 0: all")
    parser.add_argument("--limit", type=float, default=1200, help="seconds for a PatchCore, fit and predictions")
    parser.add_argument("--sizes", type=int, nargs="*", default=[224, 448], help="px a side, for PatchCore")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        patchcore(json.loads(sys.stdin.read()))
    else:
        measure(options)


if __name__ == "__main__":
    main()
